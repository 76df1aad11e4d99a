//! `query` and `query_range`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use pyrrha_model::contract::{CancelToken, MemoryBudget, QueryContext};
use pyrrha_model::{ErrorKind, Labels, Timestamp};
use pyrrha_promql::{QueryError, QueryOptions, QueryResult, QueryStats, QueryValue};
use serde_json::json;

use super::body::{Reservation, streamed};
use super::envelope::{self, ApiError, NoticeLists};
use super::params::Params;
use super::request::ApiRequest;
use crate::app::App;
use crate::json::ResultEncoder;

/// Most steps of a range query.
const STEPS_MAX: i64 = 11_000;

const TRUNCATED: &str = "results truncated due to limit";

/// When to evaluate.
#[derive(Clone, Copy)]
enum When {
    At(Timestamp),
    Steps { start: Timestamp, end: Timestamp, step: i64 },
}

/// `GET|POST /api/v1/query`
pub(crate) async fn instant(State(app): State<Arc<App>>, request: ApiRequest) -> Result<Response, ApiError> {
    let limit = request.params.limit()?;
    let t = request.params.time("time")?.unwrap_or_else(|| app.clock.now_ms());
    run(app, request, When::At(t), limit).await
}

/// `GET|POST /api/v1/query_range`
pub(crate) async fn range(State(app): State<Arc<App>>, request: ApiRequest) -> Result<Response, ApiError> {
    let params = &request.params;
    let limit = params.limit()?;
    let (start, end) = (params.required_time("start")?, params.required_time("end")?);
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start timestamp"));
    }
    let step = params.required_duration("step")?;
    if step <= 0 {
        return Err(ApiError::parameter(
            "step",
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    if end.saturating_sub(start) / step > STEPS_MAX {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query \
             resolution (?step=XX)",
        ));
    }
    run(app, request, When::Steps { start, end, step }, limit).await
}

/// The deadline of a request: its `timeout`, but no later than the server's.
pub(crate) fn deadline(app: &App, params: &Params) -> Result<Duration, ApiError> {
    let wanted = params.duration("timeout")?.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    Ok(wanted.map_or(app.settings.query_timeout, |w| w.min(app.settings.query_timeout)))
}

/// A context for one query.
pub(crate) fn context(app: &App, request: &ApiRequest) -> QueryContext {
    let budget = MemoryBudget::new("query", usize::MAX, Some(&app.memory));
    let mut ctx = QueryContext::new(request.tenant.clone(), budget, CancelToken::default());
    ctx.partial_response = request.params.get("partial_response").is_some_and(|v| v == "true" || v == "1");
    ctx
}

async fn run(app: Arc<App>, request: ApiRequest, when: When, limit: usize) -> Result<Response, ApiError> {
    let deadline = deadline(&app, &request.params)?;
    let options = options(&request.params)?;
    let ctx = context(&app, &request);
    let (cancel, tenant) = (ctx.cancel.clone(), request.tenant.clone());
    let job = {
        let app = app.clone();
        move || {
            let began = app.clock.monotonic();
            let result = evaluate(&app, &request, &ctx, when, &options);
            let took = app.clock.monotonic().saturating_sub(began);
            result.map(|result| Answer { result, text: options.text, ctx, params: request.params, took })
        }
    };
    let (answer, queued) = app.queries.run(&tenant, deadline, cancel, job).await?;
    let answer = answer.inspect_err(|_| app.telemetry.query_failed())?;
    app.telemetry.observe_query(answer.took, queued, answer.result.stats.samples_read);
    respond(answer, when, limit, queued)
}

struct Answer {
    result: QueryResult,
    text: String,
    ctx: QueryContext,
    params: Params,
    took: Duration,
}

fn options(params: &Params) -> Result<QueryOptions, ApiError> {
    let lookback_delta_ms = params.duration("lookback_delta").map_err(|_| {
        let given = pyrrha_model::go_fmt::quote(params.get("lookback_delta").unwrap_or(""));
        ApiError::bad_data(format!(
            "error parsing lookback delta duration: cannot parse {given} to a valid duration"
        ))
    })?;
    let text = params.get("query").unwrap_or("").to_owned();
    Ok(QueryOptions { lookback_delta_ms, text })
}

fn evaluate(
    app: &App,
    request: &ApiRequest,
    ctx: &QueryContext,
    when: When,
    options: &QueryOptions,
) -> Result<QueryResult, ApiError> {
    let expr = pyrrha_promql::parse(&options.text, &app.features.promql)
        .map_err(|e| ApiError::parameter("query", e))?;
    let store: &dyn pyrrha_model::contract::Queryable = &*request.store;
    match when {
        When::At(t) => app.engine.instant_with(ctx, store, &expr, t, options),
        When::Steps { start, end, step } => {
            app.engine.range_with(ctx, store, &expr, start, end, step, options)
        }
    }
    .map_err(failure)
}

fn failure(error: QueryError) -> ApiError {
    match error.kind() {
        // The engine refuses expressions by their type only: the query's text is wrong.
        ErrorKind::Invalid => ApiError::parameter("query", error),
        kind => ApiError::of_kind(kind, error.to_string()),
    }
}

fn respond(answer: Answer, when: When, limit: usize, queued: Duration) -> Result<Response, ApiError> {
    let Answer { result, text, ctx, params, took } = answer;
    let mut notices =
        NoticeLists { warnings: result.annotations.warnings(&text), infos: result.annotations.infos(&text) };
    notices.warnings.extend(ctx.notices.warnings());
    for (range, why) in ctx.notices.gaps() {
        notices.warnings.push(format!("data is missing: from={} to={}: {why}", range.start, range.end));
    }
    let mut value = result.value;
    if truncate(&mut value, limit) {
        notices.warnings.push(TRUNCATED.to_owned());
    }
    let mut tail = stats(&params, &result.stats, took, queued, &mut notices);
    tail.push(b'}');
    notices.close(&mut tail);
    let reservation = Reservation::take(&ctx.budget, bytes_of(&value))?;
    let (start, step) = match when {
        When::At(_) => (0, 0),
        When::Steps { start, step, .. } => (start, step),
    };
    let encoder = ResultEncoder::new(value, start, step, tail);
    Ok(envelope::json(StatusCode::OK, streamed(encoder, reservation)))
}

/// Cuts a result to `limit` series (0: none); whether it did.
fn truncate(value: &mut QueryValue, limit: usize) -> bool {
    let before = match value {
        QueryValue::Vector(samples) => samples.len(),
        QueryValue::Matrix(series) => series.len(),
        QueryValue::Scalar { .. } | QueryValue::String { .. } => 0,
    };
    if limit == 0 || before <= limit {
        return false;
    }
    match value {
        QueryValue::Vector(samples) => samples.truncate(limit),
        QueryValue::Matrix(series) => series.truncate(limit),
        QueryValue::Scalar { .. } | QueryValue::String { .. } => {}
    }
    true
}

/// `,"stats":{…}` if asked for.
fn stats(
    params: &Params,
    stats: &QueryStats,
    took: Duration,
    queued: Duration,
    notices: &mut NoticeLists,
) -> Vec<u8> {
    let Some(wanted) = params.get("stats") else { return Vec::new() };
    if wanted != "true" && wanted != "all" {
        notices.warnings.push(format!(
            "value {} for parameter \"stats\" is deprecated and will be rejected in the next major release, \
             use \"true\" or \"all\"",
            pyrrha_model::go_fmt::quote(wanted)
        ));
    }
    let (took, queued) = (took.as_secs_f64(), queued.as_secs_f64());
    let stats = json!({
        "timings": {
            "evalTotalTime": took,
            "resultSortTime": 0,
            "queryPreparationTime": 0,
            "innerEvalTime": took,
            "execQueueTime": queued,
            "execTotalTime": took + queued,
        },
        "samples": {
            "totalQueryableSamples": stats.total_samples,
            "samplesRead": stats.samples_read,
            "peakSamples": stats.peak_samples,
        },
    });
    format!(",\"stats\":{stats}").into_bytes()
}

/// About how much memory a result takes.
fn bytes_of(value: &QueryValue) -> usize {
    let labels = |labels: &Labels| labels.iter().map(|l| l.name.len() + l.value.len() + 48).sum::<usize>();
    match value {
        QueryValue::Scalar { .. } => 0,
        QueryValue::String { text, .. } => text.len(),
        QueryValue::Vector(samples) => {
            samples.iter().map(|s| labels(&s.labels) + 40 + 16 * s.value.weight()).sum()
        }
        QueryValue::Matrix(series) => series
            .iter()
            .map(|s| labels(&s.labels) + 72 + 16 * s.floats.len() + 16 * s.histograms.len())
            .sum(),
    }
}
