//! `admin/tsdb`, about deletes: making them, listing and undoing them, purging.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use pyrrha_model::contract::{CancelToken, Delete, DeleteId, Deletes};
use pyrrha_model::go_fmt::push_json_timestamp;
use pyrrha_model::{ErrorKind, StoreError};

use super::admin::enabled;
use super::envelope::{ApiError, NoticeLists, success_list};
use super::labels::{listed, range, selectors};
use super::request::ApiRequest;
use super::work;
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

/// Does something that waits for the disk, or the bucket.
async fn wait<T: Send + 'static>(
    app: &Arc<App>,
    request: ApiRequest,
    text: &str,
    job: impl FnOnce(&ApiRequest, &dyn Deletes) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    work::wait(app, request, text, |request| {
        let none = || StoreError::new(ErrorKind::NotFound, "this store has no deletes");
        job(request, request.store.deletes().ok_or_else(none)?)
    })
    .await
}

/// `POST|PUT /api/v1/admin/tsdb/delete_series`
pub(crate) async fn delete_series(
    State(app): State<Arc<App>>,
    AdminRequest(request): AdminRequest,
) -> Result<Response, ApiError> {
    request.params.check()?;
    request.params.some("match[]")?;
    let (range, text) = (range(&request.params)?, listed("delete", &request.params));
    let id = wait(&app, request, &text, move |request, store| {
        let sets = selectors(&request.params, &CancelToken::default());
        let sets = sets.map_err(|e| e.of_parameter("match[]"))?;
        Ok(store.delete(&request.tenant, &sets, range)?)
    })
    .await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(id) = id.and_then(|id| HeaderValue::from_str(&id.to_string()).ok()) {
        response.headers_mut().insert(DELETE_ID, id);
    }
    Ok(response)
}

/// `POST|PUT /api/v1/admin/tsdb/clean_tombstones`
pub(crate) async fn clean_tombstones(
    State(app): State<Arc<App>>,
    AdminRequest(request): AdminRequest,
) -> Result<StatusCode, ApiError> {
    let purge = |request: &ApiRequest, store: &dyn Deletes| Ok(store.purge_deletes(&request.tenant)?);
    wait(&app, request, "purge deletes", purge).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/v1/admin/tsdb/deletes`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    AdminRequest(request): AdminRequest,
) -> Result<Response, ApiError> {
    let look = |request: &ApiRequest, store: &dyn Deletes| Ok(store.standing_deletes(&request.tenant)?);
    let standing = wait(&app, request, "deletes", look).await?;
    Ok(success_list(&standing, render, &NoticeLists::default()))
}

/// `DELETE /api/v1/admin/tsdb/deletes/<id>`
pub(crate) async fn undo(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<StatusCode, Response> {
    let AdminRequest(request) = AdminRequest::from_request(request, &app).await?;
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let id: DeleteId = id.parse().map_err(|e| ApiError::parameter("id", e).into_response())?;
    let undo = move |request: &ApiRequest, store: &dyn Deletes| Ok(store.undo_delete(&request.tenant, id)?);
    let undone = wait(&app, request, "undo a delete", undo).await;
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
