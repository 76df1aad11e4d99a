//! `status/active_queries`: what runs, and how to stop it.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use pyrrha_model::{ErrorKind, TenantId, rfc3339};
use serde::Serialize;

use super::envelope::{ApiError, NoticeLists, success};
use super::tenant;
use crate::app::App;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    id: u64,
    query: &'a str,
    tenant: &'a str,
    start: String,
    elapsed_seconds: f64,
    state: &'static str,
    samples_held: usize,
    samples_read: u64,
    bytes_held: usize,
    bytes_peak: usize,
}

/// Whose queries a request may see: with a tenant header its own, without one all.
fn whose(headers: &HeaderMap) -> Result<Option<TenantId>, ApiError> {
    let named = tenant::HEADERS.iter().any(|name| headers.contains_key(*name));
    let tenant = tenant::of(headers).map_err(ApiError::bad_data)?;
    Ok(named.then_some(tenant))
}

/// `GET /api/v1/status/active_queries`
pub(crate) async fn list(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, ApiError> {
    let tenant = whose(&headers)?;
    let now = app.clock.monotonic();
    let queries = app.active.list(tenant.as_ref());
    let entries: Vec<Entry<'_>> = queries
        .iter()
        .map(|q| Entry {
            id: q.id,
            query: &q.text,
            tenant: q.tenant.as_str(),
            start: rfc3339::format(q.started_ms),
            elapsed_seconds: now.saturating_sub(q.began).as_secs_f64(),
            state: q.state().as_str(),
            samples_held: q.progress.samples_held(),
            samples_read: q.progress.stats().samples_read,
            bytes_held: q.budget.used(),
            bytes_peak: q.budget.peak(),
        })
        .collect();
    Ok(success(&entries, &NoticeLists::default()))
}

/// `DELETE /api/v1/status/active_queries/{id}`
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let tenant = whose(&headers)?;
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let number: u64 = id.parse().map_err(|_| ApiError::parameter("id", "must be a number"))?;
    if app.active.cancel(number, tenant.as_ref()) {
        tracing::info!(id = number, "a query was cancelled by request");
        Ok(axum::http::StatusCode::NO_CONTENT.into_response())
    } else {
        Err(ApiError::of_kind(ErrorKind::NotFound, format!("no active query: id={number}")))
    }
}

#[cfg(test)]
mod tests;
