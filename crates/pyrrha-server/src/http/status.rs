//! Status endpoints: build, runtime, flags, configuration, head, replay.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{OriginalUri, State};
use axum::response::Response;
use pyrrha_model::contract::QueryContext;
use pyrrha_model::rfc3339;
use pyrrha_storage::Cardinality;
use serde::Serialize;
use serde_json::{Value, json};

use super::envelope::{ApiError, NoticeLists, success};
use super::request::ApiRequest;
use super::work;
use crate::app::App;

/// The API level that clients may rely on: Grafana chooses its requests by this version.
const API_LEVEL: &str = "3.14.0";
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn build() -> Value {
    json!({
        "version": API_LEVEL,
        "revision": "",
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
        "pyrrha": {"version": VERSION},
    })
}

/// `GET /version`
pub(crate) async fn version() -> Response {
    super::envelope::json(axum::http::StatusCode::OK, build().to_string())
}

/// `GET /api/v1/status/buildinfo`: Prometheus' flavour at the root, Mimir's under `/prometheus`,
/// so that Grafana knows what to expect of each.
pub(crate) async fn buildinfo(OriginalUri(uri): OriginalUri) -> Response {
    let mut info = build();
    if uri.path().starts_with("/prometheus/") {
        info["application"] = "Grafana Mimir".into();
        info["features"] = json!({"ruler_config_api": "false", "alertmanager_config_api": "false"});
    }
    success(&info, &NoticeLists::default())
}

/// `GET /api/v1/status/flags`
pub(crate) async fn flags(State(app): State<Arc<App>>, OriginalUri(uri): OriginalUri) -> Response {
    // Mimir has no such endpoint, and Grafana tells Mimir from Thanos by that.
    if uri.path().starts_with("/prometheus/") {
        return super::envelope::text(axum::http::StatusCode::NOT_FOUND, "404 page not found");
    }
    let flags: BTreeMap<_, _> = app.settings.as_flags().into_iter().collect();
    success(&flags, &NoticeLists::default())
}

/// `GET /api/v1/status/config`
pub(crate) async fn config(State(app): State<Arc<App>>) -> Response {
    let yaml = app.settings.file.as_ref().map_or("", |(_, text)| text.as_str());
    success(&json!({"yaml": yaml}), &NoticeLists::default())
}

/// `GET /api/v1/status/runtimeinfo`
pub(crate) async fn runtimeinfo(State(app): State<Arc<App>>) -> Response {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let directory = std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_default();
    let info = json!({
        "startTime": rfc3339::format(app.started_ms),
        "CWD": directory,
        "hostname": std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim(),
        "serverTime": rfc3339::format(app.clock.now_ms()),
        "uptimeSeconds": app.uptime().as_secs(),
        "reloadConfigSuccess": true,
        "lastConfigTime": rfc3339::format(app.started_ms),
        "corruptionCount": 0,
        "goroutineCount": 0,
        "GOMAXPROCS": cores,
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": app.settings.storage.retention_text(),
    });
    success(&info, &NoticeLists::default())
}

/// `GET /api/v1/status/walreplay`, also before the server is ready.
pub(crate) async fn walreplay(State(app): State<Arc<App>>) -> Response {
    let progress = app.store().map(|s| s.replay()).unwrap_or_default();
    let data = json!({
        "min": progress.min,
        "max": progress.max,
        "current": progress.current,
        "state": progress.state.as_str(),
    });
    success(&data, &NoticeLists::default())
}

#[derive(Serialize)]
struct Stat {
    name: String,
    value: u64,
}

/// `GET /api/v1/status/tsdb`
pub(crate) async fn tsdb(State(app): State<Arc<App>>, request: ApiRequest) -> Result<Response, ApiError> {
    /// Greatest `limit`, as Prometheus has it.
    const LIMIT_MAX: usize = 10_000;
    let limit = match request.params.get("limit").map(str::parse::<usize>) {
        None => 10,
        Some(Ok(n)) if n > LIMIT_MAX => {
            return Err(ApiError::bad_data(format!("limit must not exceed {LIMIT_MAX}")));
        }
        Some(Ok(n)) if n > 0 => n,
        Some(_) => return Err(ApiError::bad_data("limit must be a positive number")),
    };
    let job =
        move |_: &QueryContext, request: &ApiRequest| Ok(request.store.cardinality(&request.tenant, limit));
    let (found, _) = work::run(&app, request, "statistics of the head", job).await?;
    Ok(success(&statistics(found), &NoticeLists::default()))
}

/// `GET /api/v1/status/tsdb/blocks`
pub(crate) async fn blocks(request: ApiRequest) -> Response {
    success(&json!({"blocks": request.store.blocks(&request.tenant)}), &NoticeLists::default())
}

/// `GET /api/v1/status/bucket/jobs`: what is planned, under way and waiting, and how long it takes.
pub(crate) async fn bucket_jobs(
    State(app): State<Arc<App>>,
    request: ApiRequest,
) -> Result<Response, ApiError> {
    let look = |request: &ApiRequest| Ok(request.store.bucket_jobs(&request.tenant)?);
    let overview = work::wait(&app, request, "jobs of the bucket", look).await?;
    Ok(success(&overview, &NoticeLists::default()))
}

fn statistics(found: Cardinality) -> Value {
    let stats = |list: Vec<(String, u64)>| -> Vec<Stat> {
        list.into_iter().map(|(name, value)| Stat { name, value }).collect()
    };
    json!({
        "headStats": {
            "numSeries": found.series,
            "numLabelPairs": found.label_pairs,
            "chunkCount": found.chunks,
            // Of an empty head Prometheus gives these.
            "minTime": found.times.map_or(i64::MAX, |t| t.start),
            "maxTime": found.times.map_or(i64::MIN, |t| t.end),
        },
        "seriesCountByMetricName": stats(found.series_by_metric),
        "labelValueCountByLabelName": stats(found.values_by_label),
        "memoryInBytesByLabelName": stats(found.bytes_by_label),
        "seriesCountByLabelValuePair": stats(found.series_by_pair),
    })
}
