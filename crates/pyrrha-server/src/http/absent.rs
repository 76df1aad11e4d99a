//! What Prometheus has and this server has not: it scrapes nothing, evaluates no rules and notifies nobody, so
//! these lists are empty. Prometheus' page, and dashboards, ask for them.

use axum::response::Response;
use pyrrha_model::go_fmt::quote;
use pyrrha_promql::parser::parse_selector;
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
            let word = quote(&word);
            Err(ApiError::parameter(name, format!("not supported value {word}")))
        }
        _ => Ok(()),
    }
}

/// `GET /api/v1/rules`: Grafana asks when it opens a datasource.
pub(crate) async fn rules(request: ApiRequest) -> Result<Response, ApiError> {
    let params = &request.params;
    one_of(params, "type", &["alert", "record"])?;
    params.flag_or("exclude_alerts", "error converting exclude_alerts")?;
    for selector in params.all("match[]") {
        parse_selector(selector).map_err(|e| ApiError::bad_data(e.to_string()))?;
    }
    let limit = params.get("group_limit").filter(|text| !text.is_empty());
    match limit.map(|text| (text, text.parse::<i64>())) {
        None | Some((_, Ok(1..))) => {}
        Some((_, Ok(_))) => {
            return Err(ApiError::parameter("group_limit", "group_limit needs to be greater than 0"));
        }
        Some((text, Err(_))) => {
            let text = quote(text);
            return Err(ApiError::parameter(
                "group_limit",
                format!(
                    "group_limit needs to be a valid number: strconv.ParseInt: parsing {text}: invalid syntax"
                ),
            ));
        }
    }
    if let Some(token) = params.get("group_next_token").filter(|text| !text.is_empty()) {
        // Tokens come with answers that were cut, of which there are none.
        let message = match limit {
            None => "group_limit needs to be present in order to paginate over the groups".to_owned(),
            Some(_) => format!("invalid group_next_token '{token}'. were rule groups changed?"),
        };
        return Err(ApiError::parameter("group_next_token", message));
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
    nothing(&json!({"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": null}))
}

/// `GET /api/v1/targets/metadata`
pub(crate) async fn targets_metadata(request: ApiRequest) -> Result<Response, ApiError> {
    if request.params.get("limit").is_some_and(|text| !text.is_empty() && text.parse::<i64>().is_err()) {
        return Err(ApiError::bad_data("limit must be a number"));
    }
    if let Some(selector) = request.params.get("match_target").filter(|text| !text.is_empty()) {
        parse_selector(selector).map_err(|e| ApiError::parameter("match_target", e.to_string()))?;
    }
    Ok(nothing(&json!([])))
}

/// `GET /api/v1/scrape_pools`
pub(crate) async fn scrape_pools() -> Response {
    nothing(&json!({"scrapePools": []}))
}

/// `GET /api/v1/notifications`
pub(crate) async fn notifications() -> Response {
    nothing(&json!([]))
}
