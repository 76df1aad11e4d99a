//! `metadata` and `query_exemplars`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pyrrha_model::contract::{Exemplars, LabelQuery, Queryable};
use pyrrha_model::go_fmt::{push_json_float, push_json_timestamp};
use pyrrha_model::{Matcher, Metadata, TimeRange};
use pyrrha_promql::ast::Expr;
use serde_json::{Value, json};

use super::envelope::{ApiError, NoticeLists, success, success_list};
use super::params::{MAX_TIME, MIN_TIME, Params};
use super::query::{context, deadline};
use super::request::ApiRequest;
use crate::app::App;
use crate::json::push_labels;

/// `GET /api/v1/metadata`
pub(crate) async fn metadata(State(app): State<Arc<App>>, request: ApiRequest) -> Result<Response, ApiError> {
    let params = &request.params;
    let limit = count(params, "limit")?;
    let per_metric = count(params, "limit_per_metric")?;
    let metric = params.get("metric").map(str::to_owned);
    let (deadline, ctx) = (deadline(&app, params)?, context(&app, &request));
    let (cancel, tenant) = (ctx.cancel.clone(), request.tenant.clone());
    let job = move || request.store.metadata(&ctx, metric.as_deref());
    let (found, _) = app.queries.run(&tenant, deadline, cancel, job).await?;
    Ok(success(&describe(found?, limit, per_metric), &NoticeLists::default()))
}

/// A count; absent or negative is no limit.
fn count(params: &Params, name: &'static str) -> Result<usize, ApiError> {
    let Some(text) = params.get(name) else { return Ok(usize::MAX) };
    let n: i64 = text.parse().map_err(|_| ApiError::bad_data(format!("{name} must be a number")))?;
    Ok(usize::try_from(n).unwrap_or(usize::MAX))
}

fn describe(
    found: BTreeMap<String, Vec<Metadata>>,
    limit: usize,
    per_metric: usize,
) -> BTreeMap<String, Vec<Value>> {
    let one = |m: &Metadata| json!({"type": m.metric_type.as_str(), "help": m.help, "unit": m.unit});
    // Zero means no limit per metric, as Prometheus has it.
    let per_metric = if per_metric == 0 { usize::MAX } else { per_metric };
    found
        .into_iter()
        .take(limit)
        .map(|(metric, all)| (metric, all.iter().take(per_metric).map(one).collect()))
        .collect()
}

/// `GET|POST /api/v1/query_exemplars`
pub(crate) async fn exemplars(
    State(app): State<Arc<App>>,
    request: ApiRequest,
) -> Result<Response, ApiError> {
    let params = &request.params;
    let start = params.time("start")?.unwrap_or(MIN_TIME);
    let end = params.time("end")?.unwrap_or(MAX_TIME);
    if end < start {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let (deadline, ctx) = (deadline(&app, params)?, context(&app, &request));
    let (cancel, tenant) = (ctx.cancel.clone(), request.tenant.clone());
    let text = params.get("query").unwrap_or("").to_owned();
    let features = app.limits(&request.tenant).features;
    let job = move || {
        let expr = pyrrha_promql::parse(&text, &features).map_err(|e| ApiError::parameter("query", e))?;
        let mut selectors = Vec::new();
        collect_selectors(&expr, &mut selectors);
        if selectors.is_empty() {
            return Ok(None);
        }
        let store: &dyn Queryable = &*request.store;
        let found = store.exemplars(&ctx, &LabelQuery::new(selectors, TimeRange::new(start, end)))?;
        Ok::<_, ApiError>(Some((found, ctx.notices.warnings())))
    };
    let (found, _) = app.queries.run(&tenant, deadline, cancel, job).await?;
    // Nothing is asked for, so there is nothing to tell, not even an empty list.
    let Some((found, warnings)) = found? else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    Ok(success_list(&found, render, &NoticeLists { warnings, infos: Vec::new() }))
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
fn render(out: &mut Vec<u8>, series: &Exemplars) {
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
