//! Tests of the query log.

use pyrrha_env::SystemClock;
use pyrrha_model::TenantId;
use pyrrha_model::contract::{CancelToken, MemoryBudget, QueryContext};
use serde_json::Value;

use super::*;
use crate::active::ActiveQueries;

#[test]
fn every_query_is_a_line_of_prometheus_shape() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("queries.log");
    let log = QueryLog::open(None, Some(&path), Arc::new(SystemClock::new())).expect("opens");
    let tenant = TenantId::new("team").expect("valid");
    let ctx = QueryContext::new(tenant, MemoryBudget::unlimited(), CancelToken::default());
    let guard = Arc::new(ActiveQueries::default()).begin(&ctx, "up == 0", Arc::default(), 0, Duration::ZERO);
    let span = Span { start: 0, end: 60_000, step: 15_000 };
    let asked =
        Asked { client: Some([1, 2, 3, 4].into()), method: "GET".into(), path: "/api/v1/query".into() };
    log.tell(
        &guard.query,
        span,
        &Outcome { asked, queued: Duration::from_millis(500), ..Outcome::default() },
    );
    log.tell(&guard.query, span, &Outcome { error: Some("no".into()), ..Outcome::default() });
    let text = std::fs::read_to_string(&path).expect("written");
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["params"]["query"], "up == 0");
    assert_eq!(
        (&lines[0]["params"]["end"], &lines[0]["params"]["step"]),
        (&"1970-01-01T00:01:00.000Z".into(), &15.into())
    );
    assert_eq!(lines[0]["stats"]["timings"]["execQueueTime"], 0.5);
    assert_eq!((&lines[0]["tenant"], lines[0].get("error")), (&"team".into(), None));
    assert_eq!(
        lines[0]["httpRequest"],
        json!({"clientIP": "1.2.3.4", "method": "GET", "path": "/api/v1/query"})
    );
    assert_eq!(lines[1]["error"], "no");
}
