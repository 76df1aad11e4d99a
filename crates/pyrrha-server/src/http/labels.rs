//! `labels`, `label/<name>/values` and `series`.

use std::sync::Arc;

use axum::extract::{FromRequest, Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pyrrha_model::contract::{LabelQuery, QueryContext, Queryable};
use pyrrha_model::{Label, Labels, Matcher, StoreError, TimeRange};

use super::body::held;
use super::envelope::{ApiError, NoticeLists, json};
use super::params::{MAX_TIME, MIN_TIME, Params};
use super::query::{context, deadline};
use super::request::ApiRequest;
use crate::active::Reservation;
use crate::app::App;
use crate::json::{push_labels, push_string};

/// What the three have in common.
fn label_query(params: &Params) -> Result<LabelQuery, ApiError> {
    let limit = params.limit()?;
    let start = params.time("start")?.unwrap_or(MIN_TIME);
    let end = params.time("end")?.unwrap_or(MAX_TIME);
    Ok(LabelQuery::new(selectors(params)?, TimeRange::new(start, end)).limited_to(limit))
}

/// The matchers of all `match[]` parameters.
pub(crate) fn selectors(params: &Params) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let mut sets = Vec::new();
    for text in params.all("match[]") {
        let matchers =
            pyrrha_promql::parser::parse_selector(text).map_err(|e| ApiError::parameter("match[]", e))?;
        sets.push(matchers);
    }
    Ok(sets)
}

/// Answers a query on the query pool, cuts its answer to the limit, and says so.
async fn answer<T: Send + 'static>(
    app: Arc<App>,
    request: ApiRequest,
    query: LabelQuery,
    find: impl FnOnce(&QueryContext, &dyn Queryable, &LabelQuery) -> Result<Vec<T>, StoreError> + Send + 'static,
    bytes: impl Fn(&T) -> usize + Send + 'static,
    push: impl Fn(&mut Vec<u8>, &T) + Send + 'static,
) -> Result<Response, ApiError> {
    let deadline = deadline(&app, &request.params)?;
    let ctx = context(&app, &request);
    let (cancel, tenant, limit) = (ctx.cancel.clone(), request.tenant.clone(), query.limit);
    // One more than the limit tells whether anything was left out.
    let query = query.limited_to(if limit == 0 { 0 } else { limit.saturating_add(1) });
    let job = move || {
        let mut found = find(&ctx, &*request.store, &query)?;
        let _found = Reservation::take(&ctx.budget, found.iter().map(bytes).sum())?;
        let mut notices = NoticeLists::of(&ctx.notices);
        if limit > 0 && found.len() > limit {
            found.truncate(limit);
            notices.warnings.push("results truncated due to limit".to_owned());
        }
        encode(&found, push, &notices, &ctx)
    };
    let (encoded, _) = app.queries.run(&tenant, deadline, cancel, job).await?;
    let (text, reservation) = encoded?;
    Ok(json(StatusCode::OK, held(text, reservation)))
}

/// The answer as JSON, in memory that is reserved before it grows.
fn encode<T>(
    list: &[T],
    push: impl Fn(&mut Vec<u8>, &T),
    notices: &NoticeLists,
    ctx: &QueryContext,
) -> Result<(Vec<u8>, Reservation), StoreError> {
    /// Room that one element nearly always fits in.
    const ROOM: usize = 4096;
    let mut out = Vec::new();
    let mut reservation = Reservation::take(&ctx.budget, 0)?;
    out.extend_from_slice(br#"{"status":"success","data":["#);
    for (i, one) in list.iter().enumerate() {
        if out.capacity() - out.len() < ROOM {
            ctx.cancel.check()?;
            let more = out.capacity().max(4 * ROOM);
            reservation.grow(more)?;
            out.reserve_exact(more);
        }
        if i > 0 {
            out.push(b',');
        }
        push(&mut out, one);
    }
    out.push(b']');
    notices.close(&mut out);
    Ok((out, reservation))
}

/// `GET|POST /api/v1/labels`
pub(crate) async fn names(State(app): State<Arc<App>>, request: ApiRequest) -> Result<Response, ApiError> {
    let query = label_query(&request.params)?;
    answer(
        app,
        request,
        query,
        |ctx, store, query| store.label_names(ctx, query),
        String::len,
        |out, name| push_string(out, name),
    )
    .await
}

/// `GET /api/v1/label/<name>/values`
pub(crate) async fn values(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let request = match ApiRequest::from_request(request, &app).await {
        Ok(request) => request,
        Err(response) => return response,
    };
    let name = unescape_name(&name);
    if name.is_empty() {
        return ApiError::bad_data("invalid label name: \"\"").into_response();
    }
    let query = match label_query(&request.params) {
        Ok(query) => query,
        Err(error) => return error.into_response(),
    };
    answer(
        app,
        request,
        query,
        move |ctx, store, query| store.label_values(ctx, &name, query),
        String::len,
        |out, name| push_string(out, name),
    )
    .await
    .into_response()
}

/// `GET|POST /api/v1/series`
pub(crate) async fn series(State(app): State<Arc<App>>, request: ApiRequest) -> Result<Response, ApiError> {
    if request.params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let query = label_query(&request.params)?;
    answer(
        app,
        request,
        query,
        |ctx, store, query| store.series(ctx, query),
        |labels: &Labels| labels.iter().map(|l| l.name.len() + l.value.len() + size_of::<Label>()).sum(),
        push_labels,
    )
    .await
}

/// Undoes the escaping by which UTF-8 names travel as `U__my_2e_name`; a name that is not escaped
/// well stands for itself. Source: Prometheus' "values" escaping scheme.
fn unescape_name(name: &str) -> String {
    fn unescape(escaped: &str) -> Option<String> {
        let mut out = String::with_capacity(escaped.len());
        let mut rest = escaped;
        while let Some(at) = rest.find('_') {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if let Some(next) = after.strip_prefix('_') {
                out.push('_');
                rest = next;
                continue;
            }
            let (hex, next) = after.split_once('_')?;
            if hex.is_empty() || hex.len() > 6 {
                return None;
            }
            out.push(char::from_u32(u32::from_str_radix(hex, 16).ok()?)?);
            rest = next;
        }
        out.push_str(rest);
        Some(out)
    }
    name.strip_prefix("U__").and_then(unescape).unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_become_what_they_were() {
        for (escaped, name) in [
            ("U__service_2e_name", "service.name"),
            ("U__a__b", "a_b"),
            ("U___1f600_", "\u{1f600}"),
            ("plain_name", "plain_name"),
            ("U__bad_zz_x", "U__bad_zz_x"),
            ("U__open_2e", "U__open_2e"),
        ] {
            assert_eq!(unescape_name(escaped), name, "{escaped}");
        }
    }
}
