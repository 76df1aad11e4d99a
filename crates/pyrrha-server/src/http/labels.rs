//! `labels`, `label/<name>/values` and `series`.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Path, Request, State};
use axum::response::{IntoResponse, Response};
use pyrrha_model::contract::{CancelToken, LabelQuery, QueryContext, Queryable};
use pyrrha_model::{Matcher, StoreError, TimeRange};
use pyrrha_promql::parser::{PROGRAM_BYTES_MAX, TEXT_BYTES_MAX, parse_selector, program_bytes};

use super::envelope::ApiError;
use super::list::{self, Shape, bytes_of_labels};
use super::params::{MAX_TIME, MIN_TIME, Params};
use super::request::ApiRequest;
use crate::app::App;
use crate::json::{push_labels, push_string};

/// From `start` to `end`; where one is missing, from the first time there is and to the last.
pub(crate) fn range(params: &Params) -> Result<TimeRange, ApiError> {
    let start = params.time("start")?.unwrap_or(MIN_TIME);
    Ok(TimeRange::new(start, params.time("end")?.unwrap_or(MAX_TIME)))
}

/// The matchers of all `match[]` parameters, which may mean much work: to be parsed on the query pool. What is
/// wrong is said as it is; some endpoints of Prometheus say it of the parameter.
pub(crate) fn selectors(params: &Params, cancel: &CancelToken) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let refused = |why: String| ApiError::bad_data(why);
    let bytes: usize = params.all("match[]").map(str::len).sum();
    if bytes > TEXT_BYTES_MAX {
        return Err(refused(format!(
            "selectors are too long together: bytes={bytes} limit={TEXT_BYTES_MAX}"
        )));
    }
    let (mut sets, mut programs) = (Vec::new(), 0);
    for text in params.all("match[]") {
        cancel.check()?;
        let matchers = parse_selector(text).map_err(|e| refused(e.to_string()))?;
        programs += program_bytes(&matchers);
        if programs > PROGRAM_BYTES_MAX {
            return Err(refused(format!(
                "regular expressions are too large together: limit={PROGRAM_BYTES_MAX} bytes"
            )));
        }
        sets.push(matchers);
    }
    Ok(sets)
}

/// What a request is listed as: where it goes, and its selectors.
pub(crate) fn listed(what: &str, params: &Params) -> String {
    let selectors: Vec<&str> = params.all("match[]").collect();
    format!("{what} {}", selectors.join(" or ")).trim_end().to_owned()
}

const NAMES: Shape<String> =
    Shape { brackets: *b"[]", bytes: String::len, push: |out, name| push_string(out, name) };

/// Answers what the three have in common: a list of what series have that satisfy one of the selectors.
async fn answer<T: 'static>(
    app: Arc<App>,
    request: ApiRequest,
    what: &str,
    shape: Shape<T>,
    refused: fn(ApiError) -> ApiError,
    find: impl FnOnce(&QueryContext, &dyn Queryable, &LabelQuery) -> Result<Vec<T>, StoreError> + Send + 'static,
) -> Result<Response, ApiError> {
    let params = &request.params;
    params.check()?;
    let (limit, range, text) = (params.limit()?, range(params)?, listed(what, params));
    list::answer(app, request, &text, limit, shape, move |ctx, request| {
        // One more than the limit tells whether anything was left out.
        let most = if limit == 0 { 0 } else { limit.saturating_add(1) };
        let sets = selectors(&request.params, &ctx.cancel).map_err(refused)?;
        let query = LabelQuery::new(sets, range).limited_to(most);
        Ok(Some(find(ctx, &*request.store, &query)?))
    })
    .await
}

/// `GET|POST /api/v1/labels`
pub(crate) async fn names(State(app): State<Arc<App>>, request: ApiRequest) -> Result<Response, ApiError> {
    answer(app, request, "labels", NAMES, |e| e, |ctx, store, query| store.label_names(ctx, query)).await
}

/// `GET /api/v1/label/<name>/values`
pub(crate) async fn values(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let request = match ApiRequest::from_request(request, &app).await {
        Ok(request) => request,
        Err(response) => return response,
    };
    let Ok(Path(name)) = name else {
        return ApiError::bad_data("invalid label name: it is not valid UTF-8").into_response();
    };
    let name = unescape_name(&name);
    if name.is_empty() {
        return ApiError::bad_data("invalid label name: \"\"").into_response();
    }
    let what = format!("values of {name}");
    let find = move |ctx: &QueryContext, store: &dyn Queryable, query: &LabelQuery| {
        store.label_values(ctx, &name, query)
    };
    answer(app, request, &what, NAMES, |e| e, find).await.into_response()
}

/// `GET|POST /api/v1/series`
pub(crate) async fn series(State(app): State<Arc<App>>, request: ApiRequest) -> Result<Response, ApiError> {
    request.params.check()?;
    request.params.some("match[]")?;
    let shape =
        Shape { brackets: *b"[]", bytes: bytes_of_labels, push: |out, labels| push_labels(out, labels) };
    let refused = |e: ApiError| e.of_parameter("match[]");
    answer(app, request, "series", shape, refused, |ctx, store, query| store.series(ctx, query)).await
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
