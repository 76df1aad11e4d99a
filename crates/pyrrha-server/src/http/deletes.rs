//! `admin/tsdb`, about deletes: making them, listing and undoing them, purging.

use std::sync::Arc;

use axum::extract::{FromRequest, Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use pyrrha_model::contract::{Delete, DeleteId, Deletes};
use pyrrha_model::go_fmt::push_json_timestamp;
use pyrrha_model::{ErrorKind, StoreError, TenantId, TimeRange};

use super::admin::enabled;
use super::envelope::{ApiError, NoticeLists, success_list};
use super::labels::selectors;
use super::params::{MAX_TIME, MIN_TIME};
use super::request::{ApiRequest, on_thread};
use crate::app::App;
use crate::json::push_string;

/// Tells the id of a delete, by which it can be undone.
const DELETE_ID: HeaderName = HeaderName::from_static("x-pyrrha-delete-id");

/// A request that may come in, the admin API being on.
pub(crate) struct AdminRequest(ApiRequest);

impl FromRequest<Arc<App>> for AdminRequest {
    type Rejection = Response;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Response> {
        enabled(app).map_err(IntoResponse::into_response)?;
        ApiRequest::from_request(request, app).await.map(Self)
    }
}

/// Runs something that waits for the disk, or the bucket.
async fn blocking<T: Send + 'static>(
    request: ApiRequest,
    run: impl FnOnce(&dyn Deletes, &TenantId) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    on_thread(move || {
        let none = || StoreError::new(ErrorKind::NotFound, "this store has no deletes");
        run(request.store.deletes().ok_or_else(none)?, &request.tenant)
    })
    .await
}

/// `POST|PUT /api/v1/admin/tsdb/delete_series`
pub(crate) async fn delete_series(
    State(_): State<Arc<App>>,
    AdminRequest(request): AdminRequest,
) -> Result<Response, ApiError> {
    if request.params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let start = request.params.time("start")?.unwrap_or(MIN_TIME);
    let end = request.params.time("end")?.unwrap_or(MAX_TIME);
    let sets = selectors(&request.params)?;
    let range = TimeRange::new(start, end);
    let id = blocking(request, move |store, tenant| store.delete(tenant, &sets, range)).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(id) = id.and_then(|id| HeaderValue::from_str(&id.to_string()).ok()) {
        response.headers_mut().insert(DELETE_ID, id);
    }
    Ok(response)
}

/// `POST|PUT /api/v1/admin/tsdb/clean_tombstones`
pub(crate) async fn clean_tombstones(
    State(_): State<Arc<App>>,
    AdminRequest(request): AdminRequest,
) -> Result<StatusCode, ApiError> {
    blocking(request, |store, tenant| store.purge_deletes(tenant)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/v1/admin/tsdb/deletes`
pub(crate) async fn list(
    State(_): State<Arc<App>>,
    AdminRequest(request): AdminRequest,
) -> Result<Response, ApiError> {
    let standing = blocking(request, |store, tenant| store.standing_deletes(tenant)).await?;
    Ok(success_list(&standing, render, &NoticeLists::default()))
}

/// `DELETE /api/v1/admin/tsdb/deletes/<id>`
pub(crate) async fn undo(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<StatusCode, Response> {
    let AdminRequest(request) = AdminRequest::from_request(request, &app).await?;
    let id: DeleteId = id.parse().map_err(|e| ApiError::parameter("id", e).into_response())?;
    let undone = blocking(request, move |store, tenant| store.undo_delete(tenant, id)).await;
    undone.map(|()| StatusCode::NO_CONTENT).map_err(IntoResponse::into_response)
}

fn render(out: &mut Vec<u8>, delete: &Delete) {
    out.extend_from_slice(format!(r#"{{"id":"{}","match":["#, delete.id).as_bytes());
    for (i, selector) in delete.selectors().iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_string(out, selector);
    }
    out.push(b']');
    for (name, t) in [("start", delete.range.start), ("end", delete.range.end), ("deletedAt", delete.at)] {
        out.extend_from_slice(format!(r#","{name}":"#).as_bytes());
        push_json_timestamp(out, t);
    }
    out.extend_from_slice(format!(r#","final":{}}}"#, delete.is_final).as_bytes());
}
