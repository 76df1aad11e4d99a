//! Remote write: `write` and `push`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use pyrrha_ingest::remote_write::{Protocol, WriteError, WriteOutcome};
use pyrrha_model::contract::AppendStats;
use pyrrha_model::{ErrorKind, TenantId};

use super::{envelope, request, tenant};
use crate::app::{App, Store, WRITE_KIB_MAX};

const WAITING: &str = "too many write requests are waiting";

/// `POST /api/v1/write`, `POST /api/v1/push`
pub(crate) async fn write(State(app): State<Arc<App>>, request: Request) -> Response {
    let Some(store) = app.store() else { return request::not_ready(&app) };
    let (tenant, protocol) = match negotiate(request.headers()) {
        Ok(negotiated) => negotiated,
        Err((code, why)) => return envelope::text(code, &why),
    };
    let mut response = match take(&app, store, &tenant, protocol, request).await {
        Ok(outcome) => {
            let mut response = match outcome.error_text() {
                None => StatusCode::NO_CONTENT.into_response(),
                Some(text) => envelope::text(StatusCode::BAD_REQUEST, &text),
            };
            written(protocol, &outcome.stats, response.headers_mut());
            return response;
        }
        Err(response) => response,
    };
    app.telemetry.write_rejected();
    written(protocol, &AppendStats::default(), response.headers_mut());
    response
}

/// Tenant and protocol by the headers.
fn negotiate(headers: &HeaderMap) -> Result<(TenantId, Protocol), (StatusCode, String)> {
    let text = |name| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
    let tenant = tenant::of(headers).map_err(|e| (StatusCode::BAD_REQUEST, e))?;
    let protocol = Protocol::negotiate(text(header::CONTENT_TYPE), text(header::CONTENT_ENCODING))
        .map_err(|e| (StatusCode::UNSUPPORTED_MEDIA_TYPE, e.to_string()))?;
    Ok((tenant, protocol))
}

/// Reads the body and stores it. What is refused here was not stored at all.
async fn take(
    app: &Arc<App>,
    store: Arc<dyn Store>,
    tenant: &TenantId,
    protocol: Protocol,
    request: Request,
) -> Result<WriteOutcome, Response> {
    let max = app.settings.max_body_bytes;
    let declared = declared_length(request.headers());
    if declared.is_some_and(|n| n > max as u64) {
        return Err(too_large(max));
    }
    // Memory is admitted before a body is read: what is not declared is taken to be large.
    let kib = declared.unwrap_or(max as u64).div_ceil(1024).max(1);
    let kib = u32::try_from(kib.min(WRITE_KIB_MAX as u64)).unwrap_or(u32::MAX);
    let Ok(_held) = app.write_kib.try_acquire_many(kib) else { return Err(busy(WAITING)) };
    let Ok(body) = tokio::time::timeout(app.body_time, read(request.into_body(), max)).await else {
        // Senders drop what is answered with 4xx, and nothing is wrong with these samples.
        return Err(busy("the body did not arrive in time"));
    };
    let body = body?;
    let Ok(_slot) = app.write_slots.acquire().await else { return Err(busy(WAITING)) };
    let (app, tenant) = (app.clone(), tenant.clone());
    // Waits for the disk, so it gets a thread of its own. The number of slots bounds the threads.
    let task = tokio::task::spawn_blocking(move || {
        let result = app.writer.write(&*store, &tenant, protocol, &body);
        if let Ok(outcome) = &result {
            app.telemetry.observe_write(body.len(), &outcome.stats, outcome.refused());
        }
        result
    });
    match task.await {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(error)) => Err(refusal(&error)),
        Err(_) => Err(envelope::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the request failed unexpectedly, see the server's log",
        )),
    }
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn read(body: Body, max: usize) -> Result<Bytes, Response> {
    match Limited::new(body, max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(e) if e.downcast_ref::<LengthLimitError>().is_some() => Err(too_large(max)),
        Err(e) => Err(envelope::text(StatusCode::BAD_REQUEST, &format!("cannot read the body: {e}"))),
    }
}

fn too_large(max: usize) -> Response {
    let text = format!("body is over the limit of {max} bytes; send smaller requests");
    envelope::text(StatusCode::PAYLOAD_TOO_LARGE, &text)
}

/// Asks the sender to send the same again.
fn busy(why: &str) -> Response {
    let mut response = envelope::text(StatusCode::SERVICE_UNAVAILABLE, why);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn refusal(error: &WriteError) -> Response {
    let code = match (error, error.kind()) {
        (WriteError::TooLarge { .. }, _) => StatusCode::PAYLOAD_TOO_LARGE,
        (_, ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Execution) => StatusCode::BAD_REQUEST,
        (_, ErrorKind::Limit) => StatusCode::TOO_MANY_REQUESTS,
        (_, ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Canceled) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        (_, ErrorKind::Corrupt | ErrorKind::Internal) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = envelope::text(code, &error.to_string());
    if matches!(code, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Says what was stored. Senders of 1.0 do not expect these headers.
fn written(protocol: Protocol, stats: &AppendStats, headers: &mut HeaderMap) {
    if protocol == Protocol::V1 {
        return;
    }
    for (name, n) in [
        ("x-prometheus-remote-write-samples-written", stats.samples),
        ("x-prometheus-remote-write-histograms-written", stats.histograms),
        ("x-prometheus-remote-write-exemplars-written", stats.exemplars),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(n));
    }
}
