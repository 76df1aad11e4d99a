//! What Prometheus has and this server has not: it scrapes nothing, evaluates no rules and notifies nobody, so
//! these lists are empty. Prometheus' page, and dashboards, ask for them.

use axum::response::Response;
use serde_json::{Value, json};

use super::envelope::{ApiError, NoticeLists, success};
use super::params::Params;
use super::request::ApiRequest;

fn nothing(data: &Value) -> Response {
    success(data, &NoticeLists::default())
}

/// Refuses a value of a parameter that is none of those that there are.
fn one_of(params: &Params, name: &str, words: &[&str]) -> Result<(), ApiError> {
    match params.get(name).map(str::to_lowercase) {
        Some(word) if !words.contains(&word.as_str()) => {
            let word = pyrrha_model::go_fmt::quote(&word);
            Err(ApiError::parameter(name, format!("not supported value {word}")))
        }
        _ => Ok(()),
    }
}

/// `GET /api/v1/rules`: Grafana asks when it opens a datasource.
pub(crate) async fn rules(request: ApiRequest) -> Result<Response, ApiError> {
    let params = &request.params;
    one_of(params, "type", &["alert", "record"])?;
    params.flag("exclude_alerts")?;
    if !matches!(params.get("group_limit").map(str::parse::<i64>), None | Some(Ok(1..))) {
        return Err(ApiError::parameter("group_limit", "group_limit must be a positive number"));
    }
    if params.get("group_next_token").is_some() {
        // Tokens come with answers that were cut, of which there are none.
        return Err(ApiError::parameter("group_next_token", "no group has this token"));
    }
    Ok(nothing(&json!({"groups": []})))
}

/// `GET /api/v1/alerts`
pub(crate) async fn alerts() -> Response {
    nothing(&json!({"alerts": []}))
}

/// `GET /api/v1/alertmanagers`
pub(crate) async fn alertmanagers() -> Response {
    nothing(&json!({"activeAlertmanagers": [], "droppedAlertmanagers": []}))
}

/// `GET /api/v1/targets`
pub(crate) async fn targets() -> Response {
    nothing(&json!({"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {}}))
}

/// `GET /api/v1/targets/metadata`
pub(crate) async fn targets_metadata() -> Response {
    nothing(&json!([]))
}

/// `GET /api/v1/scrape_pools`
pub(crate) async fn scrape_pools() -> Response {
    nothing(&json!({"scrapePools": []}))
}

/// `GET /api/v1/notifications`
pub(crate) async fn notifications() -> Response {
    nothing(&json!([]))
}
