//! Tests of the API over the model store: envelope, codes, parameters, tenants, headers.

use axum::body::Body;
use axum::http::{HeaderMap, Method};
use http_body_util::BodyExt;
use prost::Message;
use pyrrha_env::SystemClock;
use pyrrha_ingest::proto;
use pyrrha_model::contract::{Deletes, Ingest};
use pyrrha_model::{Exemplar, Labels, Metadata, MetricType, TenantId};
use pyrrha_storage::Cardinality;
use pyrrha_testkit::ModelDb;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::app::Store;
use crate::config::{Flags, Settings};

mod bounds;
mod hostile;

impl Store for ModelDb {
    fn cardinality(&self, _: &TenantId, _: usize) -> Cardinality {
        Cardinality::default()
    }

    fn deletes(&self) -> Option<&dyn Deletes> {
        Some(self)
    }
}

pub(super) const T: i64 = 1_700_000_000_000;

pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
    }
}

pub(super) fn app() -> Arc<App> {
    app_with(Flags::default())
}

fn app_with(flags: Flags) -> Arc<App> {
    Arc::new(unshared(flags))
}

/// An app that is not shared yet, with some data.
fn unshared(flags: Flags) -> App {
    let settings = Settings::resolve(flags).expect("valid");
    let app = App::new(settings, Arc::new(SystemClock::new())).expect("put together");
    let db = ModelDb::new();
    let mut appender = db.appender(&TenantId::anonymous()).expect("open");
    for (instance, v) in [("a", 1.0), ("b", 2.0)] {
        let labels = Labels::from_pairs([("__name__", "up"), ("instance", instance)]);
        let series = appender.resolve(None, &labels).expect("resolved");
        for i in 0..5 {
            appender.append(series, 0, T + i * 15_000, v + i as f64).expect("appended");
        }
        let exemplar = Exemplar { labels: Labels::from_pairs([("trace_id", "x")]), value: 0.5, timestamp: T };
        appender.append_exemplar(series, exemplar).expect("appended");
    }
    let metadata = Metadata { metric_type: MetricType::Gauge, help: "Is it up".into(), unit: String::new() };
    appender.append_metadata("up", metadata);
    appender.commit().expect("committed");
    app.set_store(Arc::new(db));
    app
}

pub(super) async fn send(app: &Arc<App>, request: Request) -> Answer {
    let response = router(app.clone()).oneshot(request).await.expect("never fails");
    let (code, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.into_body().collect().await.expect("whole").to_bytes();
    Answer { code, headers, text: String::from_utf8_lossy(&bytes).into_owned() }
}

pub(super) fn request(method: Method, uri: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request {
    let mut builder = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body.into()).expect("well-formed")
}

pub(super) async fn get_(app: &Arc<App>, uri: &str) -> Answer {
    send(app, request(Method::GET, uri, &[], Body::empty())).await
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

#[tokio::test]
async fn a_scalar_is_answered_at_the_time_asked_for() {
    let app = app();
    // Grafana's health check.
    let answer = send(&app, request(Method::POST, "/api/v1/query", &[FORM], "query=1%2B1&time=4")).await;
    assert_eq!(answer.code, 200);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.text, r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#);
    let again = get_(&app, "/prometheus/api/v1/query?query=1%2B1&time=4").await;
    assert_eq!(again.text, answer.text);
}

#[tokio::test]
async fn bad_parameters_have_prometheus_texts() {
    let app = app();
    for (uri, code, error_type, message) in [
        (
            "query?query=up&time=x",
            400,
            "bad_data",
            r#"invalid parameter "time": invalid time value for 'time': cannot parse "x" to a valid timestamp"#,
        ),
        (
            "query?query=up&timeout=x",
            400,
            "bad_data",
            r#"invalid parameter "timeout": cannot parse "x" to a valid duration"#,
        ),
        (
            "query?query=up&limit=-1",
            400,
            "bad_data",
            r#"invalid parameter "limit": limit must be non-negative"#,
        ),
        (
            "query?query=up&lookback_delta=x",
            400,
            "bad_data",
            r#"error parsing lookback delta duration: cannot parse "x" to a valid duration"#,
        ),
        (
            "query_range?query=up&end=2&step=1",
            400,
            "bad_data",
            r#"invalid parameter "start": cannot parse "" to a valid timestamp"#,
        ),
        (
            "query_range?query=up&start=3&end=2&step=1",
            400,
            "bad_data",
            r#"invalid parameter "end": end timestamp must not be before start time"#,
        ),
        (
            "query_range?query=up&start=1&end=2&step=0",
            400,
            "bad_data",
            r#"invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer"#,
        ),
        (
            "query_range?query=up&start=0&end=11001&step=1",
            400,
            "bad_data",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        (
            "query_range?query=up[5m]&start=1&end=2&step=1",
            400,
            "bad_data",
            r#"invalid parameter "query": invalid expression type "range vector" for range query, must be Scalar or instant Vector"#,
        ),
        ("series", 400, "bad_data", "no match[] parameter provided"),
        (
            "series?match[]={}",
            400,
            "bad_data",
            r#"invalid parameter "match[]": match[] must contain at least one non-empty matcher"#,
        ),
        ("labels?match[]={}", 400, "bad_data", "match[] must contain at least one non-empty matcher"),
        (
            "label/x/values?start=x",
            400,
            "bad_data",
            r#"invalid parameter "start": invalid time value for 'start': cannot parse "x" to a valid timestamp"#,
        ),
        (
            "query?query=%FF",
            400,
            "bad_data",
            "invalid parameter \"query\": 1:1: parse error: unexpected character: '\u{fffd}'",
        ),
        ("metadata?limit=x", 400, "bad_data", "limit must be a number"),
        (
            "query_exemplars?query=up&start=3&end=2",
            400,
            "bad_data",
            "end timestamp must not be before start timestamp",
        ),
        ("labels?x=%zz", 400, "bad_data", r#"error parsing form values: invalid URL escape "%zz""#),
        (
            "query?query=%zz",
            400,
            "bad_data",
            r#"invalid parameter "query": unknown position: parse error: no expression found in input"#,
        ),
        ("label/%ff/values", 400, "bad_data", "invalid label name: it is not valid UTF-8"),
        ("status/tsdb?limit=0", 400, "bad_data", "limit must be a positive number"),
        ("status/tsdb?limit=10001", 400, "bad_data", "limit must not exceed 10000"),
        ("rules?type=bogus", 400, "bad_data", r#"invalid parameter "type": not supported value "bogus""#),
    ] {
        let answer = get_(&app, &format!("/api/v1/{uri}")).await;
        assert_eq!(answer.code, code, "{uri}: {}", answer.text);
        let expected = json!({"status": "error", "errorType": error_type, "error": message});
        assert_eq!(answer.json(), expected, "{uri}");
    }
    let unparsable = get_(&app, "/api/v1/query?query=sum(").await;
    assert_eq!(unparsable.code, 400);
    let text = unparsable.json()["error"].as_str().unwrap_or("").to_owned();
    assert!(text.starts_with(r#"invalid parameter "query": 1:5: parse error: "#), "{text}");
    let unparsable = get_(&app, "/api/v1/query_exemplars?query=sum(").await;
    let text = unparsable.json()["error"].as_str().unwrap_or("").to_owned();
    assert!(unparsable.code == 400 && text.starts_with("1:5: parse error: "), "{text}");
    for (uri, message) in [
        ("rules?group_limit=0", r#"invalid parameter "group_limit": group_limit needs to be greater than 0"#),
        (
            "rules?group_limit=x",
            r#"invalid parameter "group_limit": group_limit needs to be a valid number: strconv.ParseInt: parsing "x": invalid syntax"#,
        ),
        (
            "rules?group_next_token=00",
            r#"invalid parameter "group_next_token": group_limit needs to be present in order to paginate over the groups"#,
        ),
        (
            "rules?group_limit=1&group_next_token=00",
            r#"invalid parameter "group_next_token": invalid group_next_token '00'. were rule groups changed?"#,
        ),
        (
            "rules?exclude_alerts=x",
            r#"invalid parameter "exclude_alerts": error converting exclude_alerts: strconv.ParseBool: parsing "x": invalid syntax"#,
        ),
        ("rules?match[]={", "1:2: parse error: unexpected end of input inside braces"),
        ("targets/metadata?limit=x", "limit must be a number"),
        (
            "targets/metadata?match_target={",
            r#"invalid parameter "match_target": 1:2: parse error: unexpected end of input inside braces"#,
        ),
        (
            "query?query=1&lookback_delta=1e30",
            r#"error parsing lookback delta duration: cannot parse "1e30" to a valid duration. It overflows int64"#,
        ),
    ] {
        let answer = get_(&app, &format!("/api/v1/{uri}")).await;
        assert_eq!((answer.code, &answer.json()["error"]), (400, &json!(message)), "{uri}");
    }
}

#[tokio::test]
async fn what_does_not_decode_is_passed_over_where_single_values_are_asked_for() {
    let app = app();
    assert_eq!(get_(&app, "/api/v1/query?query=1&junk=%zz").await.code, 200);
    let form = ("content-type", "Application/X-WWW-Form-URLencoded; charset=utf-8");
    let answer = send(&app, request(Method::POST, "/api/v1/query", &[form], "query=1&a;b")).await;
    assert_eq!(answer.code, 200, "{}", answer.text);
}

#[tokio::test]
async fn forms_of_several_parts_are_taken_as_curl_sends_them() {
    let app = app();
    let part =
        |more: &str, value: &str| format!("--x\r\nContent-Disposition: form-data; {more}\r\n\r\n{value}\r\n");
    let kind = ("content-type", "Multipart/Form-Data; boundary=x");
    let ask = async |uri: &str, body: String| {
        send(&app, request(Method::POST, uri, &[kind], format!("{body}--x--\r\n"))).await
    };
    let query = part("name=\"query\"", "up{instance=\"a\"} + 1") + &part("name=\"time\"", "1700000090");
    let answer = ask("/api/v1/query", query.clone()).await.json();
    assert_eq!(answer["data"]["result"][0]["value"], json!([1_700_000_090, "6"]));
    // The URL comes before it, as in Go, and a file is no value.
    let answer = ask("/api/v1/query?query=7", query).await.json();
    assert_eq!(answer["data"]["result"], json!([1_700_000_090, "7"]));
    let files = part("name=\"query\"; filename=\"a\"", "1") + &part("name=\"query\"", "2");
    assert_eq!(ask("/api/v1/query?time=1", files).await.json()["data"]["result"], json!([1, "2"]));
    let two = part("name=\"match[]\"", "up{instance=\"a\"}") + &part("name=\"match[]\"", "none");
    assert_eq!(ask("/api/v1/series", two).await.json()["data"], json!([{"__name__": "up", "instance": "a"}]));
    for (kind, body) in [
        ("multipart/form-data", "--x--\r\n".to_owned()),
        (
            "multipart/form-data; boundary=x",
            "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1".to_owned(),
        ),
        ("multipart/form-data; boundary=x", "nothing".to_owned()),
        ("multipart/form-data; boundary=x", part("name=\"a\"", "1").repeat(10_001) + "--x--\r\n"),
    ] {
        let answer =
            send(&app, request(Method::POST, "/api/v1/labels", &[("content-type", kind)], body)).await;
        assert_eq!((answer.code, answer.json()["errorType"].clone()), (400, json!("bad_data")), "{kind}");
        assert!(answer.text.contains("error parsing form values: "), "{}", answer.text);
    }
    assert_eq!(app.form_kib.available_permits(), 64 << 10, "all is given back");
}

#[tokio::test]
async fn a_lookback_that_is_none_is_the_default() {
    let app = app();
    for lookback in ["0", "-5", "5m"] {
        let uri = format!("/api/v1/query?query=up&time=1700000090&lookback_delta={lookback}");
        let result = get_(&app, &uri).await.json()["data"]["result"].as_array().map(Vec::len);
        assert_eq!(result, Some(2), "{lookback}");
    }
    let short = get_(&app, "/api/v1/query?query=up&time=1700000090&lookback_delta=1").await.json();
    assert_eq!(short["data"]["result"], json!([]));
}

#[tokio::test]
async fn labels_values_and_series_are_sorted_and_limited() {
    let app = app();
    let all = get_(&app, "/api/v1/labels").await.json();
    assert_eq!(all, json!({"status": "success", "data": ["__name__", "instance"]}));
    let body = "match%5B%5D=up&match%5B%5D=nothing&limit=1";
    let some = send(&app, request(Method::POST, "/api/v1/labels", &[FORM], body)).await.json();
    assert_eq!(
        some,
        json!({"status": "success", "data": ["__name__"], "warnings": ["results truncated due to limit"]})
    );
    let values = get_(&app, "/api/v1/label/instance/values?match[]=up{instance!=%22a%22}").await.json();
    assert_eq!(values["data"], json!(["b"]));
    let values = get_(&app, "/api/v1/label/U__instance/values").await.json();
    assert_eq!(values["data"], json!(["a", "b"]));
    let outside = format!("/api/v1/label/instance/values?start={}&end={}", T / 1000 + 3600, T / 1000 + 7200);
    assert_eq!(get_(&app, &outside).await.json()["data"], json!([]));
    let series = get_(&app, "/api/v1/series?match[]=up").await.json();
    assert_eq!(
        series["data"],
        json!([{"__name__": "up", "instance": "a"}, {"__name__": "up", "instance": "b"}])
    );
}

#[tokio::test]
async fn metadata_and_exemplars_look_like_prometheus() {
    let app = app();
    let metadata = get_(&app, "/api/v1/metadata?limit=40000").await.json();
    assert_eq!(metadata["data"], json!({"up": [{"type": "gauge", "help": "Is it up", "unit": ""}]}));
    assert_eq!(get_(&app, "/api/v1/metadata?metric=none").await.json()["data"], json!({}));
    let exemplars = get_(&app, "/api/v1/query_exemplars?query=rate(up{instance=%22a%22}[5m])").await;
    assert_eq!(
        exemplars.json()["data"],
        json!([{"seriesLabels": {"__name__": "up", "instance": "a"},
                "exemplars": [{"labels": {"trace_id": "x"}, "value": "0.5", "timestamp": T / 1000}]}])
    );
    let none = get_(&app, "/api/v1/query_exemplars?query=1%2B1").await;
    assert_eq!((none.code, none.text.as_str()), (204, ""), "no selector, no answer");
    for (limits, metrics) in [("limit=0", 0), ("limit=-1", 1), ("limit_per_metric=0", 1), ("limit=5", 1)] {
        let metadata = get_(&app, &format!("/api/v1/metadata?{limits}")).await.json();
        assert_eq!(metadata["data"].as_object().map(|d| d.len()), Some(metrics), "{limits}");
    }
    let bad = get_(&app, "/api/v1/metadata?limit_per_metric=x").await;
    assert_eq!((bad.code, bad.json()["error"].clone()), (400, json!("limit_per_metric must be a number")));
    // Grafana's probe sends milliseconds where seconds are meant.
    let probe = "query=test&start=1732000000000&end=1732003600000";
    let answer = send(&app, request(Method::POST, "/api/v1/query_exemplars", &[FORM], probe)).await;
    assert_eq!((answer.code, answer.json()["data"].clone()), (200, json!([])));
}

#[tokio::test]
async fn queries_are_formatted_and_taken_apart() {
    let app = app();
    let formatted = get_(&app, "/api/v1/format_query?query=sum%20by(a)(up)").await.json();
    assert_eq!(formatted["data"], "sum by (a) (up)");
    let tree = get_(&app, "/api/v1/parse_query?query=-up{a=%22b%22}%20offset%205m").await.json();
    assert_eq!(
        tree["data"],
        json!({"type": "unaryExpr", "op": "-", "expr": {
            "type": "vectorSelector", "name": "up", "offset": 300_000, "timestamp": null, "startOrEnd": null,
            "offsetExpr": null, "anchored": false, "smoothed": false,
            "matchers": [{"name": "a", "value": "b", "type": "="}, {"name": "__name__", "value": "up", "type": "="}],
        }})
    );
    assert_eq!(get_(&app, "/api/v1/format_query?query=sum(").await.code, 400);
}

#[tokio::test]
async fn a_tenant_may_have_features_and_limits_of_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pyrrha.yml");
    let text = "limits:\n  a: {features: [promql-experimental-functions], query_max_samples: 1}\n";
    std::fs::write(&path, text).expect("written");
    let settings = Settings::resolve(Flags { config_file: Some(path), ..Flags::default() }).expect("valid");
    let app = Arc::new(App::new(settings, Arc::new(SystemClock::new())).expect("put together"));
    app.set_store(Arc::new(ModelDb::new()));
    let ask = |tenant: &'static str, path: &'static str| {
        let app = app.clone();
        async move { send(&app, request(Method::GET, path, &[("X-Scope-OrgID", tenant)], Body::empty())).await }
    };
    for path in ["/api/v1/format_query?query=max_of(1,2)", "/api/v1/parse_query?query=max_of(1,2)"] {
        assert_eq!(ask("a", path).await.code, 200);
        let refused = ask("b", path).await;
        assert_eq!(refused.code, 400);
        assert!(refused.text.contains(r#"function \"max_of\" is not enabled"#), "{}", refused.text);
    }
    for (tenant, is_there) in [("a", true), ("b", false)] {
        let features = ask(tenant, "/api/v1/features").await.json()["data"].clone();
        assert_eq!(features.as_object().map(|categories| categories.len()), Some(12));
        assert_eq!(features["promql_functions"]["max_of"], json!(is_there));
        assert_eq!(features["promql_operators"]["limitk"], json!(is_there));
        assert_eq!(
            (&features["promql"]["subqueries"], &features["api"]["admin"]),
            (&json!(true), &json!(false))
        );
    }
    let over = ask("a", "/api/v1/query_range?query=vector(1)&start=0&end=10&step=1").await;
    assert_eq!((over.code, over.json()["errorType"].clone()), (422, json!("execution")), "{}", over.text);
    assert_eq!(ask("b", "/api/v1/query_range?query=vector(1)&start=0&end=10&step=1").await.code, 200);
}

#[tokio::test]
async fn a_tenant_sees_its_own_data_only() {
    let app = app();
    for header in ["X-Scope-OrgID", "THANOS-TENANT"] {
        let answer =
            send(&app, request(Method::GET, "/api/v1/labels", &[(header, "other")], Body::empty())).await;
        assert_eq!(answer.json()["data"], json!([]), "{header}");
        let bad =
            send(&app, request(Method::GET, "/api/v1/labels", &[(header, "../x")], Body::empty())).await;
        assert_eq!((bad.code, bad.json()["errorType"].clone()), (400, json!("bad_data")));
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_plain_text() {
    let app = app();
    for path in ["/api/v1/unknown", "/", "/api/v2/query", "/prometheus/api/v1/status/flags"] {
        let answer = get_(&app, path).await;
        assert_eq!((answer.code, answer.text.as_str()), (404, "404 page not found\n"), "{path}");
    }
    let answer = get_(&app, "/api/v1/write").await;
    assert_eq!((answer.code, answer.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn nobody_ends_the_server_from_outside() {
    let app = app();
    for path in ["/-/reload", "/-/quit"] {
        for (method, code, text) in [
            (Method::POST, 403, "Lifecycle API is not enabled."),
            (Method::PUT, 403, "Lifecycle API is not enabled."),
            (Method::GET, 405, "Only POST or PUT requests allowed"),
        ] {
            let answer = send(&app, request(method, path, &[], Body::empty())).await;
            assert_eq!((answer.code, answer.text.as_str()), (code, text), "{path}");
        }
    }
    assert!(!app.is_stopping());
}

#[tokio::test]
async fn cors_and_compression_are_offered() {
    let app = app();
    let origin = [("origin", "https://example.org"), ("accept-encoding", "gzip")];
    let answer = send(&app, request(Method::GET, "/api/v1/status/flags", &origin, Body::empty())).await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("content-encoding"), "gzip");
    assert!(answer.headers.get_all("vary").iter().any(|v| v == "Origin"));
    let preflight = send(&app, request(Method::OPTIONS, "/api/v1/query", &origin, Body::empty())).await;
    assert_eq!(preflight.code, 204);
    assert_eq!(preflight.header("access-control-allow-methods"), "GET, POST, DELETE, OPTIONS");
    assert!(preflight.header("access-control-allow-headers").contains("X-Scope-OrgID"));
}

#[tokio::test]
async fn nothing_is_ready_before_the_store_is() {
    let settings = Settings::resolve(Flags::default()).expect("defaults are valid");
    let app = Arc::new(App::new(settings, Arc::new(SystemClock::new())).expect("put together"));
    for path in ["/-/ready", "/ready", "/api/v1/query?query=1", "/api/v1/labels"] {
        let answer = get_(&app, path).await;
        assert_eq!((answer.code, answer.header("x-prometheus-stopping")), (503, "false"), "{path}");
    }
    assert_eq!(get_(&app, "/-/healthy").await.code, 200);
    assert_eq!(get_(&app, "/api/v1/status/walreplay").await.code, 200);
    app.set_store(Arc::new(ModelDb::new()));
    assert_eq!(get_(&app, "/-/ready?for=query").await.code, 200);
    app.begin_stop();
    let answer = get_(&app, "/-/ready").await;
    assert_eq!((answer.code, answer.header("x-prometheus-stopping")), (503, "true"));
}

#[tokio::test]
async fn status_pages_answer() {
    let app = app();
    let build = get_(&app, "/api/v1/status/buildinfo").await.json();
    assert_eq!(build["data"]["version"], "3.14.0");
    assert!(build["data"].get("application").is_none());
    let mimir = get_(&app, "/prometheus/api/v1/status/buildinfo").await.json();
    assert_eq!(mimir["data"]["application"], "Grafana Mimir");
    assert_eq!(get_(&app, "/api/v1/status/flags").await.json()["data"]["query.timeout"], "2m");
    assert_eq!(get_(&app, "/api/v1/rules?type=alert").await.json()["data"], json!({"groups": []}));
    assert_eq!(get_(&app, "/api/v1/alerts").await.json()["data"], json!({"alerts": []}));
    assert_eq!(get_(&app, "/api/v1/status/config").await.json()["data"]["yaml"], "");
    assert!(get_(&app, "/api/v1/status/runtimeinfo").await.json()["data"]["startTime"].is_string());
    let pattern = "/api/v1/status/self_metrics?metric_name_pattern=";
    let own = get_(&app, &format!("{pattern}pyrrha_http_request.*|pyrrha_build_info")).await.json();
    let names: Vec<_> = own["data"].as_array().expect("a list").iter().map(|f| f["name"].clone()).collect();
    assert_eq!(
        names,
        ["pyrrha_build_info", "pyrrha_http_request_duration_seconds", "pyrrha_http_requests_total"]
    );
    assert_eq!(own["data"][2]["type"], "COUNTER");
    assert!(own["data"][1]["metric"][0]["histogram"]["sampleCount"].is_string(), "{own}");
    assert_eq!(get_(&app, &format!("{pattern}pyrrha_http")).await.json()["data"], json!([]), "anchored");
    let refused = get_(&app, &format!("{pattern}(")).await;
    let text = refused.json()["error"].as_str().unwrap_or("").to_owned();
    assert!(refused.code == 400 && text.starts_with("invalid parameter \"metric_name_pattern\": "), "{text}");
    let metrics = get_(&app, "/metrics").await.text;
    assert!(metrics.contains("# TYPE pyrrha_build_info gauge\npyrrha_build_info{version="), "{metrics}");
    let accept = [("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")];
    let open = send(&app, request(Method::GET, "/metrics", &accept, Body::empty())).await;
    assert!(open.header("content-type").starts_with("application/openmetrics-text"));
    assert!(
        open.text.contains("# TYPE pyrrha_build info\n") && open.text.ends_with("# EOF\n"),
        "{}",
        open.text
    );
    assert!(metrics.contains(r#"pyrrha_http_requests_total{handler="/api/v1/status/flags",code="200"} 1"#));
}

pub(super) fn write_v1(name: &str, samples: &[(f64, i64)]) -> Vec<u8> {
    let label = |name: &str, value: &str| proto::v1::Label { name: name.into(), value: value.into() };
    let request = proto::v1::WriteRequest {
        timeseries: vec![proto::v1::TimeSeries {
            labels: vec![label("__name__", name), label("a", "b")],
            samples: samples
                .iter()
                .map(|&(value, timestamp)| proto::v1::Sample { value, timestamp })
                .collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("compressed")
}

pub(super) const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
pub(super) const SNAPPY: (&str, &str) = ("content-encoding", "snappy");

#[tokio::test]
async fn what_is_written_is_read() {
    let app = app();
    for path in ["/api/v1/write", "/api/v1/push", "/prometheus/api/v1/push"] {
        let headers = [PROTOBUF, SNAPPY, ("X-Scope-OrgID", "team")];
        let now = app.clock.now_ms();
        let answer =
            send(&app, request(Method::POST, path, &headers, write_v1("written", &[(1.5, now)]))).await;
        assert_eq!((answer.code, answer.text.as_str()), (204, ""), "{path}");
        assert_eq!(answer.header("x-prometheus-remote-write-samples-written"), "");
    }
    let headers = [("X-Scope-OrgID", "team")];
    let series = request(Method::GET, "/api/v1/series?match[]=written", &headers, Body::empty());
    assert_eq!(send(&app, series).await.json()["data"], json!([{"__name__": "written", "a": "b"}]));
    assert_eq!(get_(&app, "/api/v1/series?match[]=written").await.json()["data"], json!([]));
}

#[tokio::test]
async fn bad_writes_are_told_apart() {
    let app = app();
    let now = app.clock.now_ms();
    let good = write_v1("written", &[(1.0, now)]);
    let nameless = write_v1("", &[(1.0, now)]);
    for (headers, body, code) in [
        (vec![("content-type", "application/json")], good.clone(), 415),
        (vec![("content-type", "application/x-protobuf;proto=foo")], good.clone(), 415),
        (vec![PROTOBUF, ("content-encoding", "gzip")], good.clone(), 415),
        (vec![PROTOBUF, ("X-Scope-OrgID", "a/b")], good.clone(), 400),
        (vec![PROTOBUF], b"no snappy".to_vec(), 400),
        (vec![PROTOBUF], snap::raw::Encoder::new().compress_vec(b"no protobuf").expect("compressed"), 400),
        // Declares 4 GiB in a dozen bytes.
        (vec![PROTOBUF], vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0], 413),
        (vec![PROTOBUF, ("content-length", "99999999999")], good.clone(), 413),
        (vec![PROTOBUF], nameless, 400),
        (vec![PROTOBUF], good, 204),
    ] {
        let answer = send(&app, request(Method::POST, "/api/v1/write", &headers, body)).await;
        assert_eq!(answer.code, code, "{headers:?}: {}", answer.text);
        assert_eq!(answer.text.is_empty(), code == 204, "a refusal says why");
    }
}

#[tokio::test]
async fn version_two_says_what_was_written() {
    let app = app();
    let now = app.clock.now_ms();
    let sample = |timestamp| proto::v2::Sample { value: 1.0, timestamp, ..Default::default() };
    let series = |labels_refs, samples| proto::v2::TimeSeries { labels_refs, samples, ..Default::default() };
    let body = proto::v2::Request {
        symbols: ["", "__name__", "v2", "a"].map(str::to_owned).to_vec(),
        timeseries: vec![
            series(vec![1, 2], vec![sample(now)]),
            // No name: refused, and nothing else suffers.
            series(vec![3, 2], vec![sample(now)]),
        ],
    };
    let body = snap::raw::Encoder::new().compress_vec(&body.encode_to_vec()).expect("compressed");
    let v2 = ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request");
    let answer = send(&app, request(Method::POST, "/api/v1/write", &[v2, SNAPPY], body)).await;
    assert_eq!(answer.code, 400, "{}", answer.text);
    assert_eq!(answer.header("x-prometheus-remote-write-samples-written"), "1");
    assert_eq!(answer.header("x-prometheus-remote-write-histograms-written"), "0");
    assert_eq!(get_(&app, "/api/v1/label/__name__/values").await.json()["data"], json!(["up", "v2"]));
}

#[tokio::test]
async fn series_are_deleted_only_if_the_admin_api_is_on() {
    let off = app();
    for (method, path) in [
        (Method::POST, "delete_series?match[]=up"),
        (Method::PUT, "clean_tombstones"),
        (Method::GET, "deletes"),
        (Method::DELETE, "deletes/00000000000000000000000000000001"),
    ] {
        let uri = format!("/api/v1/admin/tsdb/{path}");
        let answer = send(&off, request(method, &uri, &[], Body::empty())).await;
        let expected = r#"{"status":"error","errorType":"unavailable","error":"admin APIs disabled"}"#;
        assert_eq!((answer.code, answer.text.as_str()), (500, expected), "{path}");
    }
    assert_eq!(get_(&off, "/api/v1/admin/tsdb/delete_series").await.code, 405);
    assert!(get_(&off, "/api/v1/series?match[]=up").await.text.contains("instance"));
}

#[tokio::test]
async fn a_delete_is_listed_and_undone() {
    let app = app_with(Flags { enable_admin_api: Some(true), ..Flags::default() });
    let admin = async |method: Method, path: &str| {
        send(&app, request(method, &format!("/api/v1/admin/tsdb/{path}"), &[], Body::empty())).await
    };
    let none = admin(Method::POST, "delete_series").await;
    assert_eq!((none.code, none.json()["error"].clone()), (400, json!("no match[] parameter provided")));
    assert_eq!(admin(Method::POST, "delete_series?match[]=up&start=x").await.code, 400);
    assert_eq!(admin(Method::POST, "delete_series?match[]={}").await.code, 400);
    let form = request(
        Method::PUT,
        "/api/v1/admin/tsdb/delete_series",
        &[FORM],
        "match[]=up{instance=\"a\"}&end=1700000030",
    );
    let deleted = send(&app, form).await;
    assert_eq!((deleted.code, deleted.text.as_str()), (204, ""));
    let id = deleted.header("x-pyrrha-delete-id").to_owned();
    let values = async || {
        let uri = format!("/api/v1/query?query=up{{instance=%22a%22}}[1h]&time={}", T / 1000 + 60);
        get_(&app, &uri).await.json()["data"]["result"][0]["values"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(values().await, 2, "what came after the end is there");
    let listed = admin(Method::GET, "deletes").await.json();
    assert_eq!(listed["data"][0]["id"], json!(id));
    assert_eq!(listed["data"][0]["match"], json!([r#"{__name__="up",instance="a"}"#]));
    assert_eq!(
        (&listed["data"][0]["end"], &listed["data"][0]["final"]),
        (&json!(1_700_000_030), &json!(false))
    );
    assert_eq!(admin(Method::DELETE, "deletes/x").await.code, 400);
    assert_eq!(admin(Method::DELETE, &format!("deletes/{id}")).await.code, 204);
    assert_eq!(values().await, 5);
    assert_eq!(admin(Method::DELETE, &format!("deletes/{id}")).await.code, 404);
    assert_eq!(admin(Method::POST, "clean_tombstones").await.code, 204);
}
