//! The HTTP face: routes, and what every route has in common.

mod absent;
mod active;
mod admin;
mod attached;
mod body;
pub(crate) mod cors;
mod deletes;
mod envelope;
mod features;
mod federate;
mod health;
mod labels;
mod list;
mod metadata;
mod metrics;
pub(crate) mod params;
mod query;
mod request;
mod self_metrics;
mod status;
mod syntax;
mod tenant;
mod work;
mod write;

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{any, delete, get, post};
use pyrrha_model::ErrorKind;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use crate::app::App;

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    // One API under two roots: Prometheus' and Mimir's.
    Router::new()
        .nest("/api/v1", api())
        .nest("/prometheus/api/v1", api())
        .route("/-/healthy", get(health::healthy))
        .route("/-/ready", get(health::ready))
        .route("/ready", get(health::ready))
        .route("/-/reload", any(health::lifecycle))
        .route("/-/quit", any(health::lifecycle))
        .route("/metrics", get(metrics::metrics))
        .route("/federate", get(federate::federate))
        .route("/version", get(status::version))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .route_layer(middleware::from_fn_with_state(app.clone(), observe))
        .layer(middleware::from_fn_with_state(app.cors.clone(), cors::layer))
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(identify))
        .with_state(app)
}

fn api() -> Router<Arc<App>> {
    Router::new()
        .route("/query", get(query::instant).post(query::instant))
        .route("/query_range", get(query::range).post(query::range))
        .route("/query_explain", get(query::explain).post(query::explain))
        .route("/query_exemplars", get(metadata::exemplars).post(metadata::exemplars))
        .route("/format_query", get(syntax::format).post(syntax::format))
        .route("/parse_query", get(syntax::parse).post(syntax::parse))
        .route("/labels", get(labels::names).post(labels::names))
        .route("/label/{name}/values", get(labels::values))
        .route("/series", get(labels::series).post(labels::series))
        .route("/metadata", get(metadata::metadata))
        .route("/rules", get(absent::rules))
        .route("/alerts", get(absent::alerts))
        .route("/alertmanagers", get(absent::alertmanagers))
        .route("/targets", get(absent::targets))
        .route("/targets/metadata", get(absent::targets_metadata))
        .route("/scrape_pools", get(absent::scrape_pools))
        .route("/notifications", get(absent::notifications))
        .route("/features", get(features::features))
        .route("/status/self_metrics", get(self_metrics::self_metrics))
        .route("/status/buildinfo", get(status::buildinfo))
        .route("/status/runtimeinfo", get(status::runtimeinfo))
        .route("/status/flags", get(status::flags))
        .route("/status/config", get(status::config))
        .route("/status/tsdb", get(status::tsdb))
        .route("/status/tsdb/blocks", get(status::blocks))
        .route("/status/bucket/jobs", get(status::bucket_jobs))
        .route("/status/attached", get(attached::attached))
        .route("/admin/tsdb/snapshot", post(admin::snapshot).put(admin::snapshot))
        .route("/status/walreplay", get(status::walreplay))
        .route("/status/active_queries", get(active::list))
        .route("/status/active_queries/{id}", delete(active::cancel))
        .route("/admin/tsdb/delete_series", post(deletes::delete_series).put(deletes::delete_series))
        .route("/admin/tsdb/clean_tombstones", post(deletes::clean_tombstones).put(deletes::clean_tombstones))
        .route("/admin/tsdb/deletes", get(deletes::list))
        .route("/admin/tsdb/deletes/{id}", delete(deletes::undo))
        .route("/write", post(write::write))
        .route("/push", post(write::write))
}

async fn not_found() -> Response {
    envelope::text(StatusCode::NOT_FOUND, "404 page not found")
}

async fn method_not_allowed() -> Response {
    envelope::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("a handler panicked");
    axum::response::IntoResponse::into_response(envelope::ApiError::of_kind(
        ErrorKind::Internal,
        "the request failed unexpectedly, see the server's log",
    ))
}

/// Says who answers.
async fn identify(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let server = HeaderValue::from_static(concat!("Pyrrha/", env!("CARGO_PKG_VERSION")));
    response.headers_mut().insert(header::SERVER, server);
    response
}

/// Counts and times requests by route.
async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let handler = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("unknown", MatchedPath::as_str)
        .trim_start_matches("/prometheus")
        .to_owned();
    let began = app.clock.monotonic();
    let response = next.run(request).await;
    let took = app.clock.monotonic().saturating_sub(began);
    app.telemetry.observe_request(&handler, response.status().as_u16(), took);
    response
}

#[cfg(test)]
mod tests;
