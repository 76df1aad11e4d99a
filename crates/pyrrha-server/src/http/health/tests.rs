//! What the API answers while the log is replayed.

use std::path::Path;

use axum::http::Method;
use pyrrha_env::{OsDisk, SystemClock};
use pyrrha_storage::{Db, StorageConfig};

use super::super::tests::{PROTOBUF, SNAPPY, get_, request, send, write_v1};
use super::*;
use crate::config::{Flags, Settings};
use crate::store::DbStore;

/// A server over a data directory, whose recovery waits if `held`.
fn open(dir: &Path, held: bool) -> (Arc<App>, Arc<Db>) {
    let settings = Settings::resolve(Flags::default()).expect("defaults are valid");
    let clock = Arc::new(SystemClock::new());
    let app = App::new(settings, clock.clone()).expect("put together");
    let db = Db::open_held(StorageConfig::new(dir), Arc::new(OsDisk), clock, held).expect("opens");
    let db = Arc::new(db);
    app.set_store(Arc::new(DbStore::new(db.clone())));
    (Arc::new(app), db)
}

async fn write(app: &Arc<App>, value: f64, t: i64) {
    let body = write_v1("written", &[(value, t)]);
    let answer = send(app, request(Method::POST, "/api/v1/write", &[PROTOBUF, SNAPPY], body)).await;
    assert_eq!((answer.code, answer.text.as_str()), (204, ""));
}

#[tokio::test]
async fn writes_are_taken_and_reads_wait_while_the_log_is_replayed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (app, db) = open(dir.path(), false);
    let now = app.clock.now_ms();
    write(&app, 1.0, now - 2000).await;
    db.close().expect("closes");
    drop((app, db));

    let (app, db) = open(dir.path(), true);
    assert_eq!(get_(&app, "/-/ready").await.code, 200);
    let ready = get_(&app, "/-/ready?for=query").await;
    assert_eq!(ready.code, 503);
    assert!(ready.text.contains("answers are not complete: log replay waiting"), "{}", ready.text);
    let replay = get_(&app, "/api/v1/status/walreplay").await.json();
    assert_eq!(replay["data"]["state"], "waiting");
    write(&app, 2.0, now - 1000).await;
    for path in [
        "query?query=written[1m]",
        "query_range?query=written&start=1&end=2&step=1",
        "labels?x=y",
        "label/a/values?x=y",
        "series?match[]=written",
        "metadata?x=y",
        "query_exemplars?query=written",
    ] {
        let mut timeout = 30;
        let (answer, json) = loop {
            let answer = get_(&app, &format!("/api/v1/{path}&timeout={timeout}ms")).await;
            let json = answer.json();
            if json["error"] != "query timed out in query queue" {
                break (answer, json);
            }
            // No thread was ready so soon.
            timeout *= 2;
        };
        assert_eq!((answer.code, json["errorType"].as_str()), (503, Some("timeout")), "{path}");
        let text = json["error"].as_str().unwrap_or_default();
        assert!(text.contains("the log is being replayed") && text.contains("from="), "{path}: {text}");
    }
    for path in [
        "query?query=written[1m]",
        "labels?x=y",
        "series?match[]=written",
        "query_exemplars?query=written",
        "metadata?x=y",
    ] {
        let answer = get_(&app, &format!("/api/v1/{path}&partial_response=true")).await;
        let warning = answer.json()["warnings"][0].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.code, 200, "{path}");
        assert!(warning.starts_with("data is missing: from=") && warning.contains("replayed"), "{warning}");
    }
    assert_eq!(get_(&app, "/api/v1/query?query=1%2B1").await.code, 200, "no data is asked for");

    db.release_recovery();
    let answer = get_(&app, "/api/v1/query?query=count_over_time(written[1m])").await.json();
    assert_eq!(answer["data"]["result"][0]["value"][1], "2");
    assert!(db.wait_recovered());
    assert_eq!(get_(&app, "/-/ready?for=query").await.code, 200);
    let replay = get_(&app, "/api/v1/status/walreplay").await.json();
    assert_eq!(replay["data"]["state"], "done");
    assert_eq!(replay["data"]["current"], replay["data"]["max"]);
}
