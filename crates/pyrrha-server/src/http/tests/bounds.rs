//! What requests may take: bodies, texts, regular expressions, memory while an answer is sent.

use std::time::Duration;

use pyrrha_model::contract::CancelToken;

use super::*;
use crate::http::labels::selectors;
use crate::http::params::Params;

/// A body of which nothing arrives.
struct Silent;

impl axum::body::HttpBody for Silent {
    type Data = axum::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

fn impatient() -> Arc<App> {
    let mut app = unshared(Flags::default());
    app.body_time = Duration::from_millis(20);
    Arc::new(app)
}

#[tokio::test]
async fn a_write_that_does_not_arrive_is_to_be_sent_again() {
    let body = Body::new(Silent);
    let answer = send(&impatient(), request(Method::POST, "/api/v1/write", &[PROTOBUF, SNAPPY], body)).await;
    assert_eq!((answer.code, answer.header("retry-after")), (503, "1"), "{}", answer.text);
    assert_eq!(answer.text, "the body did not arrive in time\n");
}

#[tokio::test]
async fn forms_share_memory_and_have_to_arrive() {
    let app = impatient();
    let late = send(&app, request(Method::POST, "/api/v1/query", &[FORM], Body::new(Silent))).await;
    assert_eq!((late.code, late.json()["errorType"].clone()), (408, json!("timeout")));
    let all = app.form_kib.available_permits();
    let held = app.form_kib.clone().try_acquire_many_owned(all as u32 - 10).expect("nobody has any");
    let large = Body::new(Silent);
    let refused = send(&app, request(Method::POST, "/api/v1/query", &[FORM], large)).await;
    assert_eq!((refused.code, refused.json()["errorType"].clone()), (503, json!("unavailable")));
    let small = [FORM, ("content-length", "7")];
    assert_eq!(send(&app, request(Method::POST, "/api/v1/query", &small, "query=1")).await.code, 200);
    drop(held);
    assert_eq!(app.form_kib.available_permits(), all, "all is given back");
}

#[test]
fn selectors_of_a_request_are_bounded_together() {
    let params = |selector: &str, n: usize| {
        let mut params = Params::default();
        params.add(&vec![format!("match[]={selector}"); n].join("&")).expect("well-formed");
        params
    };
    let large = r#"{a=~"\\pL{100}"}"#;
    let refused = |params: &Params| {
        selectors(params, &CancelToken::default()).map(|s| s.len()).map_err(|e| e.to_string())
    };
    assert_eq!(refused(&params(large, 3)), Ok(3));
    let error = refused(&params(large, 10_000)).expect_err("much more than one should have");
    assert!(error.starts_with("regular expressions are too large"), "{error}");
    let long = params(&format!("up{{a=\"{}\"}}", "x".repeat(300)), 10_000);
    let error = refused(&long).expect_err("too long");
    assert!(error.contains("selectors are too long together"), "{error}");
    let cancel = CancelToken::default();
    cancel.cancel(pyrrha_model::contract::CancelReason::Canceled);
    assert!(selectors(&params("up", 1), &cancel).is_err(), "nobody waits for it");
}

#[tokio::test]
async fn lists_are_charged_until_the_last_byte_and_dropped_if_nobody_reads() {
    let app = app();
    for path in [
        "/api/v1/series?match[]=up",
        "/api/v1/labels",
        "/api/v1/label/instance/values",
        "/api/v1/query_exemplars?query=up",
        "/api/v1/metadata",
    ] {
        let ask = || router(app.clone()).oneshot(request(Method::GET, path, &[], Body::empty()));
        let response = ask().await.expect("never fails");
        assert!(app.budgets.used() > 0, "{path}");
        let whole = response.into_body().collect().await.expect("whole").to_bytes();
        let json: Value = serde_json::from_slice(&whole).expect("JSON");
        assert_eq!((json["status"].as_str(), app.budgets.used()), (Some("success"), 0), "{path}");

        let stalled = ask().await.expect("never fails");
        let active = get_(&app, "/api/v1/status/active_queries").await.json();
        assert_eq!(active["data"][0]["state"], json!("sending"), "{path}");
        let patience = crate::listener::WRITE_STALL_MAX;
        app.active.drop_stalled(app.clock.monotonic() + patience, patience);
        assert_eq!(app.budgets.used(), 0, "{path}");
        assert!(stalled.into_body().collect().await.is_err(), "a broken end, not a good one");
    }
}
