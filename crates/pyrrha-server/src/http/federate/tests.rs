//! Tests of `/federate` through the router, and of its text.

use axum::body::Body;
use axum::http::Method;
use pyrrha_model::contract::{Ingest, Value as Sample};
use pyrrha_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use pyrrha_model::{Span, TenantId};
use pyrrha_testkit::ModelDb;

use super::*;
use crate::config::{Flags, Settings};
use crate::http::tests::{get_, request, send};

/// Now and a while ago, and what is not told of.
fn app() -> Arc<App> {
    let settings = Settings::resolve(Flags::default()).expect("valid");
    let app = App::new(settings, Arc::new(pyrrha_env::SystemClock::new())).expect("put together");
    let (db, now) = (ModelDb::new(), app.clock.now_ms());
    let mut appender = db.appender(&TenantId::anonymous()).expect("open");
    let buckets = FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: 6.0,
        sum: 2.5,
        positive_spans: vec![Span { offset: 0, length: 1 }, Span { offset: 1, length: 1 }],
        positive_buckets: vec![4.0, 2.0],
        custom_values: [0.1, 0.5].into(),
        ..FloatHistogram::default()
    };
    let exponential = FloatHistogram { schema: 0, count: 1.0, zero_count: 1.0, ..FloatHistogram::default() };
    let histogram = |h: FloatHistogram| Sample::FloatHistogram(Box::new(h));
    for (labels, age, value) in [
        (&[("__name__", "up"), ("instance", "a")][..], 60_000, Sample::Float(1.0)),
        (&[("__name__", "up"), ("instance", "a")], 1000, Sample::Float(0.0)),
        (&[("__name__", "up"), ("instance", "\"b\"\n")], 2000, Sample::Float(f64::NAN)),
        (&[("__name__", "gone"), ("job", "x")], 1000, Sample::Float(pyrrha_model::stale_nan())),
        (&[("__name__", "old"), ("job", "x")], 400_000, Sample::Float(1.0)),
        (&[("__name__", "a.b"), ("job", "x"), ("c.d", "y")], 1000, Sample::Float(2.0)),
        (&[("__name__", "nhcb"), ("job", "x")], 1000, histogram(buckets)),
        (&[("__name__", "native"), ("job", "x")], 1000, histogram(exponential)),
        (&[("job", "nameless")], 1000, Sample::Float(3.0)),
    ] {
        let series = appender.resolve(None, &Labels::from_pairs(labels.iter().copied())).expect("resolved");
        match value {
            Sample::Float(value) => appender.append(series, 0, now - age, value).expect("appended"),
            other => appender.append_histogram(series, 0, now - age, other).expect("appended"),
        };
    }
    appender.commit().expect("committed");
    app.set_store(Arc::new(db));
    Arc::new(app)
}

/// Lines, whose times are left out after they were looked at.
fn lines(text: &str, now: impl Fn(&str) -> bool) -> Vec<String> {
    let line = |line: &str| match line.rsplit_once(' ') {
        Some((rest, time)) if !line.starts_with('#') => {
            assert!(now(time), "{line}");
            rest.to_owned()
        }
        _ => line.to_owned(),
    };
    text.lines().map(line).collect()
}

#[tokio::test]
async fn the_newest_samples_are_told_once_by_name() {
    let app = app();
    let all =
        get_(&app, "/federate?match[]={__name__=~%22.%2B%22}&match[]=up&match[]={job=%22nameless%22}").await;
    assert_eq!(all.code, 200, "{}", all.text);
    let content_type = all.headers["content-type"].to_str().expect("ASCII");
    assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
    let milliseconds = |time: &str| time.parse::<i64>().is_ok_and(|t| t > 1_700_000_000_000);
    assert_eq!(
        lines(&all.text, milliseconds),
        [
            "# TYPE a_b untyped",
            r#"a_b{c_d="y",job="x",instance=""} 2"#,
            "# TYPE nhcb histogram",
            r#"nhcb_bucket{job="x",instance="",le="0.1"} 4"#,
            r#"nhcb_bucket{job="x",instance="",le="0.5"} 4"#,
            r#"nhcb_bucket{job="x",instance="",le="+Inf"} 6"#,
            r#"nhcb_sum{job="x",instance=""} 2.5"#,
            r#"nhcb_count{job="x",instance=""} 6"#,
            "# TYPE up untyped",
            r#"up{instance="\"b\"\n"} NaN"#,
            r#"up{instance="a"} 0"#,
        ]
    );
    assert_eq!(app.budgets.used(), 0);
}

#[tokio::test]
async fn the_format_is_the_scrapers_choice() {
    let app = app();
    let accept =
        [("accept", "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.2")];
    let uri = "/federate?match[]={%22a.b%22}";
    let open = send(&app, request(Method::GET, uri, &accept, Body::empty())).await;
    assert!(open.headers["content-type"].to_str().is_ok_and(|t| t.ends_with("escaping=allow-utf-8")));
    let seconds = |time: &str| time.parse::<f64>().is_ok_and(|t| t < 1e11);
    assert_eq!(
        lines(&open.text, seconds),
        [r#"# TYPE "a.b" unknown"#, r#"{"a.b","c.d"="y",job="x",instance=""} 2"#, "# EOF"]
    );
    let parsed = pyrrha_ingest::exposition::parse(&open.text, pyrrha_ingest::exposition::Format::OpenMetrics);
    assert_eq!(parsed.expect("parses").samples.len(), 1);
}

#[tokio::test]
async fn refusals_are_text() {
    let app = app();
    let bad = get_(&app, "/federate?match[]=up{").await;
    assert_eq!(bad.code, 400);
    assert!(bad.text.contains("parse error") && !bad.text.starts_with('{'), "{}", bad.text);
    let nothing = get_(&app, "/federate").await;
    assert_eq!((nothing.code, nothing.text.as_str()), (200, ""));
}
