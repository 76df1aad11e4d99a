//! What every API handler needs of a request: parameters, tenant, an open store.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};
use pyrrha_model::{ErrorKind, TenantId};
use tokio::sync::OwnedSemaphorePermit;

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
    /// The memory of its form.
    _form: Option<OwnedSemaphorePermit>,
}

impl FromRequest<Arc<App>> for ApiRequest {
    type Rejection = Response;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Response> {
        let Some(store) = app.store() else { return Err(not_ready(app)) };
        let tenant = tenant::of(request.headers()).map_err(|e| ApiError::bad_data(e).into_response())?;
        let (parts, body) = request.into_parts();
        let mut params = Params::default();
        let mut form = None;
        if is_form(&parts.method, &parts.headers) {
            let (text, held) = read(app, &parts.headers, body).await.map_err(IntoResponse::into_response)?;
            params.add(&text).map_err(IntoResponse::into_response)?;
            form = Some(held);
        }
        params.add(parts.uri.query().unwrap_or("")).map_err(IntoResponse::into_response)?;
        Ok(Self { params, tenant, store, _form: form })
    }
}

/// Whether a form is sent, as Go's `ParseForm` sees it.
fn is_form(method: &Method, headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    (method == Method::POST || method == Method::PUT)
        && media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Reads a form, in memory that all forms share: it is held until the request is answered.
async fn read(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<(String, OwnedSemaphorePermit), ApiError> {
    let refused = |why: String| ApiError::bad_data(format!("error parsing form values: {why}"));
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    // What is not declared is taken to be large, until it has arrived.
    let kib = declared.unwrap_or(FORM_BYTES_MAX).min(FORM_BYTES_MAX) / 1024 + 1;
    let Ok(mut held) = app.form_kib.clone().try_acquire_many_owned(kib as u32) else {
        return Err(ApiError::of_kind(ErrorKind::Unavailable, "too many forms are being read"));
    };
    let Ok(bytes) = tokio::time::timeout(app.body_time, Limited::new(body, FORM_BYTES_MAX).collect()).await
    else {
        return Err(ApiError::body_too_slow());
    };
    let bytes = bytes.map_err(|e| refused(e.to_string()))?.to_bytes();
    drop(held.split(kib - kib.min(bytes.len() / 1024 + 1)));
    let text = String::from_utf8(bytes.into()).map_err(|_| refused("body is not valid UTF-8".into()))?;
    Ok((text, held))
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
