//! What every API handler needs of a request: parameters, tenant, an open store.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};
use pyrrha_model::{ErrorKind, StoreError, TenantId};

use super::envelope::{self, ApiError};
use super::params::Params;
use super::tenant;
use crate::app::{App, ReplayProgress, Store};

/// Largest form body, as Go's `ParseForm` has it.
const FORM_BYTES_MAX: usize = 10 << 20;

/// An API request.
pub(crate) struct ApiRequest {
    pub(crate) params: Params,
    pub(crate) tenant: TenantId,
    pub(crate) store: Arc<dyn Store>,
}

impl FromRequest<Arc<App>> for ApiRequest {
    type Rejection = Response;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Response> {
        let Some(store) = app.store() else { return Err(not_ready(app)) };
        let tenant = tenant::of(request.headers()).map_err(|e| ApiError::bad_data(e).into_response())?;
        let (parts, body) = request.into_parts();
        let mut params = Params::default();
        let is_form = (parts.method == Method::POST || parts.method == Method::PUT)
            && parts
                .headers
                .get(header::CONTENT_TYPE)
                .and_then(|v| v.to_str().ok())
                .is_some_and(|t| t.trim().starts_with("application/x-www-form-urlencoded"));
        if is_form {
            let form = read(body).await.map_err(IntoResponse::into_response)?;
            params.add(&form).map_err(IntoResponse::into_response)?;
        }
        params.add(parts.uri.query().unwrap_or("")).map_err(IntoResponse::into_response)?;
        Ok(Self { params, tenant, store })
    }
}

/// Runs something that waits for the disk, or the bucket, on a thread of its own: those of the runtime
/// do not wait.
pub(crate) async fn on_thread<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let (send, receive) = tokio::sync::oneshot::channel();
    let failed = || ApiError::of_kind(ErrorKind::Internal, "the request failed unexpectedly");
    let thread = std::thread::Builder::new().name("api".into());
    thread.spawn(move || drop(send.send(run()))).map_err(|_| failed())?;
    Ok(receive.await.map_err(|_| failed())??)
}

async fn read(body: Body) -> Result<String, ApiError> {
    let bytes = Limited::new(body, FORM_BYTES_MAX)
        .collect()
        .await
        .map_err(|e| ApiError::bad_data(format!("error parsing form values: {e}")))?
        .to_bytes();
    String::from_utf8(bytes.into())
        .map_err(|_| ApiError::bad_data("error parsing form values: body is not valid UTF-8"))
}

/// The answer while the store opens and while the server stops.
pub(crate) fn not_ready(app: &App) -> Response {
    unavailable("Service Unavailable", app.is_stopping())
}

/// The answer while the log is replayed, to who asks for complete answers.
pub(crate) fn not_recovered(progress: &ReplayProgress) -> Response {
    let text = format!(
        "Service Unavailable: writes are accepted, answers are not complete: log replay {}, segment {} of {}..{}",
        progress.state.as_str(),
        progress.current,
        progress.min,
        progress.max
    );
    unavailable(&text, false)
}

fn unavailable(text: &str, stopping: bool) -> Response {
    let mut response = envelope::text(StatusCode::SERVICE_UNAVAILABLE, text);
    let stopping = if stopping { "true" } else { "false" };
    let headers = response.headers_mut();
    headers.insert("x-prometheus-stopping", axum::http::HeaderValue::from_static(stopping));
    headers.insert(header::RETRY_AFTER, axum::http::HeaderValue::from_static("1"));
    response
}
