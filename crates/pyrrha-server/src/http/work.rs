//! What requests do beside queries: on the query pool, listed, within their deadline and memory.

use std::sync::Arc;
use std::time::Duration;

use pyrrha_model::contract::{MemoryBudget, QueryContext};

use super::envelope::ApiError;
use super::request::ApiRequest;
use crate::active::ActiveGuard;
use crate::app::App;
use crate::query_pool::waiting_elsewhere;

/// The deadline of a request: its `timeout`, but no later than the tenant's and the server's.
pub(crate) fn deadline(app: &App, request: &ApiRequest) -> Result<Duration, ApiError> {
    let most = app.settings.query_timeout.min(app.limits(&request.tenant).timeout);
    let wanted = request.params.duration("timeout")?;
    Ok(wanted.map_or(most, |ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(most)))
}

/// A context for one request.
pub(crate) fn context(app: &App, request: &ApiRequest) -> QueryContext {
    let tenant = app.budgets.of(&request.tenant);
    let limit = app.limits(&request.tenant).memory_budget;
    let budget = MemoryBudget::new("query", limit, Some(&tenant));
    let mut ctx = QueryContext::new(request.tenant.clone(), budget, Default::default());
    ctx.partial_response = request.params.get("partial_response").is_some_and(|v| v == "true" || v == "1");
    ctx
}

/// Does `job` when it is its turn, listed as `text` until the guard is dropped.
pub(crate) async fn run<T: Send + 'static>(
    app: &Arc<App>,
    request: ApiRequest,
    text: &str,
    job: impl FnOnce(&QueryContext, &ApiRequest) -> Result<T, ApiError> + Send + 'static,
) -> Result<(T, ActiveGuard), ApiError> {
    let deadline = deadline(app, &request)?;
    let ctx = context(app, &request);
    let (cancel, tenant) = (ctx.cancel.clone(), request.tenant.clone());
    let guard = app.active.begin(&ctx, text, Arc::default(), app.clock.now_ms(), app.clock.monotonic());
    let job = {
        let (app, query) = (app.clone(), guard.query.clone());
        move || {
            query.run();
            let result = job(&ctx, &request);
            app.telemetry.observe_fetched(ctx.fetched.counts());
            result
        }
    };
    let (result, _) = app.queries.run_until(&tenant, deadline, cancel, guard.query.cancelled(), job).await?;
    Ok((result?, guard))
}

/// [`run`] for what waits for the disk, or the bucket, and needs no processor meanwhile.
pub(crate) async fn wait<T: Send + 'static>(
    app: &Arc<App>,
    request: ApiRequest,
    text: &str,
    job: impl FnOnce(&ApiRequest) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    Ok(run(app, request, text, move |_, request| waiting_elsewhere(|| job(request))).await?.0)
}
