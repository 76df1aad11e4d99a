//! `format_query` and `parse_query`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use pyrrha_model::contract::QueryContext;
use pyrrha_promql::ast::Expr;

use super::envelope::{ApiError, NoticeLists, success};
use super::request::ApiRequest;
use super::work;
use crate::app::App;

/// `GET|POST /api/v1/format_query`
pub(crate) async fn format(State(app): State<Arc<App>>, request: ApiRequest) -> Result<Response, ApiError> {
    let text = parsed(&app, request, pyrrha_promql::printer::pretty).await?;
    Ok(success(&text, &NoticeLists::default()))
}

/// `GET|POST /api/v1/parse_query`
pub(crate) async fn parse(State(app): State<Arc<App>>, request: ApiRequest) -> Result<Response, ApiError> {
    let tree = parsed(&app, request, pyrrha_promql::ast_json::to_json).await?;
    let tree = tree.map_err(|e| ApiError::parameter("query", e))?;
    Ok(success(&tree, &NoticeLists::default()))
}

/// Parses on the query pool, whose threads have the stack for it.
async fn parsed<T: Send + 'static>(
    app: &Arc<App>,
    request: ApiRequest,
    then: impl FnOnce(&Expr) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let text = request.params.get("query").unwrap_or("").to_owned();
    let features = app.limits(&request.tenant).features;
    let listed = format!("parse {text}");
    let job = move |_: &QueryContext, _: &ApiRequest| {
        let parsed = pyrrha_promql::parse(&text, &features);
        parsed.map(|expr| then(&expr)).map_err(|e| ApiError::parameter("query", e))
    };
    Ok(work::run(app, request, &listed, job).await?.0)
}
