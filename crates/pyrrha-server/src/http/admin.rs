//! `admin/tsdb`: what changes the store, and is off unless asked for.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use pyrrha_model::rfc3339;
use serde_json::json;

use super::envelope::{ApiError, NoticeLists, success};
use super::request::ApiRequest;
use super::work;
use crate::app::App;

/// `POST /api/v1/admin/tsdb/snapshot`: of all tenants; `skip_head` leaves out what is in no block.
pub(crate) async fn snapshot(State(app): State<Arc<App>>, request: ApiRequest) -> Result<Response, ApiError> {
    enabled(&app)?;
    let skip_head = request.params.flag("skip_head")?;
    let name = name(app.clock.now_ms());
    let made = name.clone();
    work::wait(&app, request, "snapshot", move |request| Ok(request.store.snapshot(&made, skip_head)?))
        .await?;
    Ok(success(&json!({"name": name}), &NoticeLists::default()))
}

/// Fails unless the admin API is on.
pub(super) fn enabled(app: &App) -> Result<(), ApiError> {
    if app.settings.enable_admin_api { Ok(()) } else { Err(ApiError::admin_disabled()) }
}

/// Prometheus' form: the time and 16 random hexadecimal digits.
fn name(now: i64) -> String {
    let time: String = rfc3339::format(now).chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let seconds = time.split(['.', 'Z']).next().unwrap_or_default();
    format!("{seconds}Z-{:016x}", RandomState::new().hash_one(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_named_by_its_time() {
        let name = name(1_700_000_000_123);
        assert!(name.starts_with("20231114T221320Z-") && name.len() == 33, "{name}");
    }
}
