//! What every API handler needs of a request: parameters, tenant, an open store.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, OriginalUri, Request};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyDataStream, BodyExt, Full, Limited};
use multer::Multipart;
use pyrrha_model::{ErrorKind, TenantId};
use tokio::sync::OwnedSemaphorePermit;

use super::envelope::{self, ApiError};
use super::params::{Params, bad_form};
use super::tenant;
use crate::app::{App, ReplayProgress, Store};
use crate::listener::Client;
use crate::query_log::Asked;

/// Largest form body, as Go's `ParseForm` has it.
const FORM_BYTES_MAX: usize = 10 << 20;

/// An API request.
pub(crate) struct ApiRequest {
    pub(crate) params: Params,
    pub(crate) tenant: TenantId,
    pub(crate) store: Arc<dyn Store>,
    /// What the query log tells of it.
    pub(crate) asked: Asked,
    /// The memory of its form.
    _form: Option<OwnedSemaphorePermit>,
}

impl FromRequest<Arc<App>> for ApiRequest {
    type Rejection = Response;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Response> {
        let Some(store) = app.store() else { return Err(not_ready(app)) };
        let tenant = tenant::of(request.headers()).map_err(|e| ApiError::bad_data(e).into_response())?;
        let (parts, body) = request.into_parts();
        let path = parts.extensions.get::<OriginalUri>().map_or(parts.uri.path(), |uri| uri.0.path());
        let asked = Asked {
            client: parts.extensions.get::<Client>().map(|client| client.0),
            method: parts.method.to_string(),
            path: path.to_owned(),
        };
        let mut params = Params::default();
        let query = parts.uri.query().unwrap_or("");
        let form = params_of(app, &parts.method, &parts.headers, query, body, &mut params).await;
        let form = form.map_err(IntoResponse::into_response)?;
        Ok(Self { params, tenant, store, asked, _form: form })
    }
}

/// Collects the parameters of a request in the order of Go's `FormValue`: a URL-encoded form, the URL, the parts
/// of a multipart form. Gives the memory of the form.
async fn params_of(
    app: &App,
    method: &Method,
    headers: &HeaderMap,
    query: &str,
    body: Body,
    params: &mut Params,
) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let has_body = method == Method::POST || method == Method::PUT;
    if has_body && media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let (bytes, held) = read(app, headers, body).await?;
        params.add(&String::from_utf8_lossy(&bytes))?;
        params.add(query)?;
        return Ok(Some(held));
    }
    params.add(query)?;
    if !media_type.eq_ignore_ascii_case("multipart/form-data") {
        return Ok(None);
    }
    let boundary = multer::parse_boundary(content_type).map_err(|e| bad_form(&e.to_string()))?;
    let (bytes, held) = read(app, headers, body).await?;
    let mut parts = Multipart::new(BodyDataStream::new(Full::new(bytes)), boundary);
    while let Some(part) = parts.next_field().await.map_err(|e| bad_form(&e.to_string()))? {
        // A file is no value.
        let (Some(name), None) = (part.name().map(str::to_owned), part.file_name()) else { continue };
        let value = part.bytes().await.map_err(|e| bad_form(&e.to_string()))?;
        params.push(name, value.into())?;
    }
    Ok(Some(held))
}

/// Reads a form, in memory that all forms share: it is held until the request is answered.
async fn read(app: &App, headers: &HeaderMap, body: Body) -> Result<(Bytes, OwnedSemaphorePermit), ApiError> {
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
    let bytes = bytes.map_err(|e| bad_form(&e.to_string()))?.to_bytes();
    drop(held.split(kib - kib.min(bytes.len() / 1024 + 1)));
    Ok((bytes, held))
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
