//! Tests of the list of active queries, through the router.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::Method;
use pyrrha_env::{Clock, SystemClock};
use pyrrha_model::contract::{
    Appender, Exemplars, Ingest, LabelQuery, QueryContext, Queryable, SelectHints, SeriesSet,
};
use pyrrha_model::{Labels, Matcher, Metadata, StoreError, TimeRange};
use pyrrha_storage::Cardinality;
use serde_json::{Value, json};

use super::*;
use crate::app::Store;
use crate::config::{Flags, Settings};
use crate::http::tests::{Answer, app, get_, request, send};

fn endless_work<T>(ctx: &QueryContext) -> Result<T, StoreError> {
    let clock = SystemClock::new();
    loop {
        ctx.cancel.check()?;
        clock.sleep(std::time::Duration::from_millis(1));
    }
}

/// A store whose answers take until the query is stopped.
struct Endless;

impl Queryable for Endless {
    fn select(
        &self,
        ctx: &QueryContext,
        _: &[Matcher],
        _: TimeRange,
        _: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StoreError> {
        endless_work(ctx)
    }

    fn label_names(&self, ctx: &QueryContext, _: &LabelQuery) -> Result<Vec<String>, StoreError> {
        endless_work(ctx)
    }

    fn label_values(&self, _: &QueryContext, _: &str, _: &LabelQuery) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn series(&self, _: &QueryContext, _: &LabelQuery) -> Result<Vec<Labels>, StoreError> {
        Ok(Vec::new())
    }

    fn exemplars(&self, _: &QueryContext, _: &LabelQuery) -> Result<Vec<Exemplars>, StoreError> {
        Ok(Vec::new())
    }

    fn metadata(
        &self,
        _: &QueryContext,
        _: Option<&str>,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, StoreError> {
        Ok(BTreeMap::new())
    }
}

impl Ingest for Endless {
    fn appender(&self, _: &TenantId) -> Result<Box<dyn Appender>, StoreError> {
        Err(StoreError::new(ErrorKind::Unavailable, "takes no writes"))
    }
}

impl Store for Endless {
    fn cardinality(&self, _: &TenantId, _: usize) -> Cardinality {
        Cardinality::default()
    }
}

/// An app over [`Endless`] that runs `at_once` queries.
fn endless(at_once: usize) -> Arc<App> {
    endless_with(Flags { query_max_concurrency: Some(at_once), ..Flags::default() })
}

fn endless_with(flags: Flags) -> Arc<App> {
    let settings = Settings::resolve(flags).expect("valid");
    let app = App::new(settings, Arc::new(SystemClock::new())).expect("put together");
    app.set_store(Arc::new(Endless));
    Arc::new(app)
}

async fn active(app: &Arc<App>) -> Vec<Value> {
    get_(app, "/api/v1/status/active_queries").await.json()["data"].as_array().cloned().unwrap_or_default()
}

/// Waits until `n` queries are listed and the first one runs.
async fn until_active(app: &Arc<App>, n: usize) -> Vec<Value> {
    loop {
        let list = active(app).await;
        if list.len() == n && list.first().is_none_or(|q| q["state"] == "running") {
            return list;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

async fn delete(app: &Arc<App>, id: &Value, headers: &[(&str, &str)]) -> Answer {
    let path = format!("/api/v1/status/active_queries/{id}");
    send(app, request(Method::DELETE, &path, headers, Body::empty())).await
}

#[tokio::test]
async fn queries_are_listed_and_cancelled_where_they_are() {
    let app = endless(1);
    let ask = |query: &'static str| {
        let app = app.clone();
        tokio::spawn(async move { get_(&app, query).await })
    };
    let first = ask("/api/v1/query?query=up");
    let list = until_active(&app, 1).await;
    assert_eq!((&list[0]["query"], &list[0]["tenant"]), (&json!("up"), &json!("anonymous")));
    assert!(list[0]["start"].as_str().is_some_and(|s| s.starts_with("20")), "{list:?}");
    let second = ask("/api/v1/query_range?query=down&start=0&end=10&step=1");
    let list = until_active(&app, 2).await;
    assert_eq!((&list[1]["query"], &list[1]["state"]), (&json!("down"), &json!("queued")));

    let other = [("X-Scope-OrgID", "other")];
    let seen = send(&app, request(Method::GET, "/api/v1/status/active_queries", &other, Body::empty())).await;
    assert_eq!(seen.json()["data"], json!([]), "another tenant sees nothing");
    assert_eq!(delete(&app, &list[1]["id"], &other).await.code, 404);

    assert_eq!(delete(&app, &list[1]["id"], &[]).await.code, 204);
    let queued = second.await.expect("answered");
    assert_eq!(queued.code, 499);
    assert_eq!(
        queued.json(),
        json!({"status": "error", "errorType": "canceled", "error": "query was canceled in query queue"})
    );
    assert_eq!(delete(&app, &list[0]["id"], &[]).await.code, 204);
    let running = first.await.expect("answered");
    assert_eq!(
        (running.code, running.json()["error"].clone()),
        (499, json!("query was canceled in query execution"))
    );
    assert_eq!(active(&app).await, Vec::<Value>::new());
    assert_eq!(delete(&app, &list[0]["id"], &[]).await.code, 404);
    assert_eq!(delete(&app, &json!("x"), &[]).await.code, 400);
}

fn timed_out(place: &str) -> Value {
    json!({"status": "error", "errorType": "timeout", "error": format!("query timed out in {place}")})
}

#[tokio::test]
async fn a_deadline_may_pass_in_the_queue() {
    let app = endless(1);
    let blocker = tokio::spawn({
        let app = app.clone();
        async move { get_(&app, "/api/v1/query?query=up").await }
    });
    let list = until_active(&app, 1).await;
    let queued = get_(&app, "/api/v1/query?query=up&timeout=10ms").await;
    assert_eq!((queued.code, queued.json()), (503, timed_out("query queue")));
    assert_eq!(delete(&app, &list[0]["id"], &[]).await.code, 204);
    assert_eq!(blocker.await.expect("answered").code, 499);
}

#[tokio::test]
async fn a_deadline_may_pass_in_the_evaluation() {
    let app = endless(1);
    let mut timeout = 10;
    let running = loop {
        let running = get_(&app, &format!("/api/v1/query?query=up&timeout={timeout}ms")).await;
        if running.json() != timed_out("query queue") {
            break running;
        }
        // No thread was ready so soon.
        timeout *= 2;
    };
    assert_eq!((running.code, running.json()), (503, timed_out("query execution")));
}

#[tokio::test]
async fn the_deadline_of_a_tenant_is_that_of_all_its_requests() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pyrrha.yml");
    std::fs::write(&path, "limits:\n  a: {query_timeout: 20ms}\n").expect("written");
    let app = endless_with(Flags { config_file: Some(path), ..Flags::default() });
    for path in ["query?query=up", "query_range?query=up&start=0&end=1&step=1", "labels", "labels?timeout=1h"]
    {
        let ask = request(Method::GET, &format!("/api/v1/{path}"), &[("X-Scope-OrgID", "a")], Body::empty());
        let answer = tokio::time::timeout(std::time::Duration::from_secs(60), send(&app, ask)).await;
        let answer = answer.expect("it does not wait for the deadline of the server");
        assert_eq!((answer.code, answer.json()["errorType"].clone()), (503, json!("timeout")), "{path}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_stops_its_query() {
    let app = endless(1);
    let asking = tokio::spawn({
        let app = app.clone();
        async move { get_(&app, "/api/v1/query?query=up").await }
    });
    until_active(&app, 1).await;
    asking.abort();
    // The thread is free again as soon as the store looked at the flag.
    while app.queries.running() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(active(&app).await, Vec::<Value>::new());
}

#[tokio::test]
async fn memory_is_charged_until_the_last_byte() {
    use http_body_util::BodyExt;
    use tower::ServiceExt;
    let app = app();
    let path = "/api/v1/query?query=up&time=1700000060";
    let router = crate::http::router(app.clone());
    let response = router.oneshot(request(Method::GET, path, &[], Body::empty())).await.expect("never fails");
    let held = app.budgets.used();
    assert!(held > 0, "nothing was read yet");
    let list = active(&app).await;
    assert_eq!((list.len(), &list[0]["state"], &list[0]["bytesHeld"]), (1, &json!("sending"), &json!(held)));
    let body = response.into_body().collect().await.expect("whole").to_bytes();
    assert!(body.ends_with(b"}"));
    assert_eq!((app.budgets.used(), active(&app).await.len()), (0, 0));

    let router = crate::http::router(app.clone());
    let response = router.oneshot(request(Method::GET, path, &[], Body::empty())).await.expect("never fails");
    let id = active(&app).await[0]["id"].clone();
    assert_eq!(delete(&app, &id, &[]).await.code, 204);
    assert_eq!(app.budgets.used(), 0, "cancelled while it is sent");
    assert_eq!(active(&app).await, Vec::<Value>::new(), "over, although its client has read nothing yet");
    assert_eq!(delete(&app, &id, &[]).await.code, 404);
    assert!(response.into_body().collect().await.is_err(), "a broken end, not a good one");
}

#[tokio::test]
async fn statistics_and_plans_come_with_the_answer() {
    let app = app();
    let answer =
        get_(&app, "/api/v1/query?query=sum(up)&time=1700000060&stats=true&explain=true").await.json();
    let stats = &answer["data"]["stats"];
    assert_eq!(
        stats["samples"],
        json!({"totalQueryableSamples": 2, "samplesRead": 10, "peakSamples": stats["samples"]["peakSamples"]})
    );
    let timings = stats["timings"].as_object().expect("timings");
    for name in [
        "evalTotalTime",
        "resultSortTime",
        "queryPreparationTime",
        "innerEvalTime",
        "execQueueTime",
        "execTotalTime",
    ] {
        assert!(timings.get(name).is_some_and(Value::is_f64), "{name}: {timings:?}");
    }
    assert_eq!(timings.len(), 6);
    let plan = &answer["data"]["explain"];
    assert_eq!((&plan["operator"], &plan["series"]), (&json!("aggregate sum"), &json!(1)));
    let select = &plan["operands"][0];
    assert_eq!(
        (&select["operator"], &select["series"], &select["samples"]),
        (&json!("select"), &json!(2), &json!(10))
    );
    let time = |node: &Value| node["timeSeconds"].as_f64().unwrap_or(-1.0);
    assert!(time(plan) >= time(select) && time(select) > 0.0, "{plan}");
}

#[tokio::test]
async fn a_query_is_explained_without_its_result() {
    let app = app();
    let instant = get_(&app, "/api/v1/query_explain?query=sum(up)&time=1700000060").await.json();
    let range = "/api/v1/query_explain?query=rate(up[1m])&start=1700000000&end=1700000060&step=20";
    let range = get_(&app, range).await.json();
    for (answer, kind, operator) in [(instant, "vector", "aggregate sum"), (range, "matrix", "call rate")] {
        let data = &answer["data"];
        assert_eq!((&data["resultType"], &data["result"]), (&json!(kind), &json!([])), "{answer}");
        assert_eq!(data["explain"]["operator"], json!(operator));
        assert_eq!(data["explain"]["operands"][0]["samples"], json!(10), "{answer}");
        assert_eq!(answer.get("warnings"), None, "nothing was truncated");
    }
    let scalar = get_(&app, "/api/v1/query_explain?query=1").await.json();
    assert_eq!(scalar["data"]["explain"]["operator"], json!("number"), "{scalar}");
    let refused = get_(&app, "/api/v1/query_explain?query=up&start=1").await;
    assert_eq!((refused.code, refused.json()["errorType"].clone()), (400, json!("bad_data")));
}
