//! Health and readiness.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
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

#[cfg(test)]
mod tests;
