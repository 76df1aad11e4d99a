//! `metadata` and `query_exemplars`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use pyrrha_model::contract::{Exemplars, LabelQuery};
use pyrrha_model::go_fmt::{push_json_float, push_json_timestamp};
use pyrrha_model::{Exemplar, Matcher, Metadata};
use pyrrha_promql::ast::Expr;

use super::envelope::ApiError;
use super::labels::range;
use super::list::{self, Shape, bytes_of_labels};
use super::params::Params;
use super::request::ApiRequest;
use crate::app::App;
use crate::json::{push_labels, push_string};

/// `GET /api/v1/metadata`
pub(crate) async fn metadata(State(app): State<Arc<App>>, request: ApiRequest) -> Result<Response, ApiError> {
    let params = &request.params;
    let limit = count(params, "limit")?;
    // Zero means no limit per metric, as Prometheus has it.
    let per_metric = match count(params, "limit_per_metric")? {
        0 => usize::MAX,
        n => n,
    };
    let shape = Shape {
        brackets: *b"{}",
        bytes: |(metric, all): &(String, Vec<Metadata>)| {
            metric.len()
                + all.iter().map(|m| size_of::<Metadata>() + m.help.len() + m.unit.len()).sum::<usize>()
        },
        push: push_metadata,
    };
    let text = format!("metadata {}", params.get("metric").unwrap_or_default());
    list::answer(app, request, text.trim_end(), 0, shape, move |ctx, request| {
        let mut found = request.store.metadata(ctx, request.params.get("metric"))?;
        found.values_mut().for_each(|all| all.truncate(per_metric));
        Ok(Some(found.into_iter().take(limit).collect()))
    })
    .await
}

/// A count; absent or negative is no limit.
fn count(params: &Params, name: &'static str) -> Result<usize, ApiError> {
    let Some(text) = params.get(name) else { return Ok(usize::MAX) };
    let n: i64 = text.parse().map_err(|_| ApiError::bad_data(format!("{name} must be a number")))?;
    Ok(usize::try_from(n).unwrap_or(usize::MAX))
}

/// `"metric":[{"type":…,"help":…,"unit":…},…]`
fn push_metadata(out: &mut Vec<u8>, (metric, all): &(String, Vec<Metadata>)) {
    push_string(out, metric);
    out.extend_from_slice(b":[");
    for (i, one) in all.iter().enumerate() {
        out.extend_from_slice(if i == 0 { br#"{"type":"# } else { br#",{"type":"# });
        push_string(out, one.metric_type.as_str());
        out.extend_from_slice(br#","help":"#);
        push_string(out, &one.help);
        out.extend_from_slice(br#","unit":"#);
        push_string(out, &one.unit);
        out.push(b'}');
    }
    out.push(b']');
}

/// `GET|POST /api/v1/query_exemplars`
pub(crate) async fn exemplars(
    State(app): State<Arc<App>>,
    request: ApiRequest,
) -> Result<Response, ApiError> {
    let range = range(&request.params)?;
    if range.end < range.start {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let query = request.params.get("query").unwrap_or("").to_owned();
    let features = app.limits(&request.tenant).features;
    let shape = Shape { brackets: *b"[]", bytes, push: push_exemplars };
    list::answer(app, request, &format!("exemplars {query}"), 0, shape, move |ctx, request| {
        let expr = pyrrha_promql::parse(&query, &features).map_err(|e| ApiError::bad_data(e.to_string()))?;
        let mut selectors = Vec::new();
        collect_selectors(&expr, &mut selectors);
        if selectors.is_empty() {
            return Ok(None);
        }
        Ok(Some(request.store.exemplars(ctx, &LabelQuery::new(selectors, range))?))
    })
    .await
}

/// About how much memory one series' exemplars take.
fn bytes(found: &Exemplars) -> usize {
    let all = found.exemplars.iter().map(|e| bytes_of_labels(&e.labels) + size_of::<Exemplar>());
    bytes_of_labels(&found.series) + all.sum::<usize>()
}

/// The matchers of every selector of an expression.
fn collect_selectors(expr: &Expr, found: &mut Vec<Vec<Matcher>>) {
    match expr {
        Expr::Number(_) | Expr::String(_) => {}
        Expr::Selector(s) => found.push(s.matchers.clone()),
        Expr::Matrix(m) => found.push(m.selector.matchers.clone()),
        Expr::Subquery(s) => collect_selectors(&s.expr, found),
        Expr::Paren(p) => collect_selectors(&p.expr, found),
        Expr::Unary(u) => collect_selectors(&u.expr, found),
        Expr::Binary(b) => {
            collect_selectors(&b.lhs, found);
            collect_selectors(&b.rhs, found);
        }
        Expr::Call(c) => c.args.iter().for_each(|a| collect_selectors(a, found)),
        Expr::Aggregate(a) => {
            if let Some(param) = &a.param {
                collect_selectors(param, found);
            }
            collect_selectors(&a.expr, found);
        }
    }
}

/// One series' exemplars.
fn push_exemplars(out: &mut Vec<u8>, series: &Exemplars) {
    out.extend_from_slice(br#"{"seriesLabels":"#);
    push_labels(out, &series.series);
    out.extend_from_slice(br#","exemplars":["#);
    for (i, e) in series.exemplars.iter().enumerate() {
        out.extend_from_slice(if i == 0 { br#"{"labels":"# } else { br#",{"labels":"# });
        push_labels(out, &e.labels);
        out.extend_from_slice(br#","value":""#);
        push_json_float(out, e.value);
        out.extend_from_slice(br#"","timestamp":"#);
        push_json_timestamp(out, e.timestamp);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}
