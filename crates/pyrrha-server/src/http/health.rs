//! Health and readiness, and what would end them.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;

use super::{envelope, request};
use crate::app::App;

/// `/-/healthy`: the process lives.
pub(crate) async fn healthy() -> Response {
    envelope::text(StatusCode::OK, "Pyrrha is Healthy.")
}

/// `/-/ready`: writes are accepted; with `?for=query`: and answers are complete.
pub(crate) async fn ready(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response {
    let Some(store) = app.store() else { return request::not_ready(&app) };
    let for_query = query.unwrap_or_default().split('&').any(|p| p == "for=query");
    if for_query && !store.is_recovered() {
        return request::not_recovered(&store.replay());
    }
    envelope::text(StatusCode::OK, "Pyrrha is Ready.")
}

/// `/-/reload` and `/-/quit`, which there are none of: settings are read at the start, and the server ends by a signal.
pub(crate) async fn lifecycle(method: Method) -> (StatusCode, &'static str) {
    match method {
        Method::POST | Method::PUT => (StatusCode::FORBIDDEN, "Lifecycle API is not enabled."),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "Only POST or PUT requests allowed"),
    }
}

#[cfg(test)]
mod tests;
