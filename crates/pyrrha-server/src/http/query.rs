//! `query`, `query_range` and `query_explain`.

mod stats;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use pyrrha_model::contract::QueryContext;
use pyrrha_model::{ErrorKind, Labels, Timestamp};
use pyrrha_promql::{EngineOptions, Features, QueryError, QueryOptions, QueryResult, QueryValue, Stopwatch};

use super::body::streamed;
use super::envelope::{self, ApiError, NoticeLists};
use super::params::Params;
use super::request::ApiRequest;
use super::work::{context, deadline};
use crate::active::{ActiveQuery, Reservation, Sending};
use crate::app::{App, QueryLimits};
use crate::json::ResultEncoder;
use crate::query_log::{Outcome, Span};

/// Most steps of a range query.
const STEPS_MAX: i64 = 11_000;

const TRUNCATED: &str = "results truncated due to limit";

/// When to evaluate.
#[derive(Clone, Copy)]
enum When {
    At(Timestamp),
    Steps { start: Timestamp, end: Timestamp, step: i64 },
}

/// What the answer holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// The result, cut to so many series (0: all).
    Result { limit: usize },
    /// What each operator did; of the result only the type.
    Plan,
}

/// `GET|POST /api/v1/query`
pub(crate) async fn instant(State(app): State<Arc<App>>, request: ApiRequest) -> Result<Response, ApiError> {
    let limit = request.params.limit()?;
    let when = at(&app, &request.params)?;
    run(app, request, when, Wanted::Result { limit }).await
}

/// `GET|POST /api/v1/query_range`
pub(crate) async fn range(State(app): State<Arc<App>>, request: ApiRequest) -> Result<Response, ApiError> {
    let limit = request.params.limit()?;
    let when = steps(&request.params)?;
    run(app, request, when, Wanted::Result { limit }).await
}

/// `GET|POST /api/v1/query_explain`: evaluates an instant query, or with `start`, `end` or `step` one over a
/// range, and answers with what each operator did.
pub(crate) async fn explain(State(app): State<Arc<App>>, request: ApiRequest) -> Result<Response, ApiError> {
    let params = &request.params;
    let ranged = ["start", "end", "step"].iter().any(|name| params.get(name).is_some());
    let when = if ranged { steps(params)? } else { at(&app, params)? };
    run(app, request, when, Wanted::Plan).await
}

fn at(app: &App, params: &Params) -> Result<When, ApiError> {
    Ok(When::At(params.time("time")?.unwrap_or_else(|| app.clock.now_ms())))
}

fn steps(params: &Params) -> Result<When, ApiError> {
    let (start, end) = (params.required_time("start")?, params.required_time("end")?);
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
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
    Ok(When::Steps { start, end, step })
}

async fn run(app: Arc<App>, request: ApiRequest, when: When, wanted: Wanted) -> Result<Response, ApiError> {
    let limits = app.limits(&request.tenant);
    let deadline = deadline(&app, &request)?;
    let mut options = options(&app, &request.params, limits.features)?;
    options.explain |= wanted == Wanted::Plan;
    let ctx = context(&app, &request);
    let (cancel, tenant, asked) = (ctx.cancel.clone(), request.tenant.clone(), request.asked.clone());
    let (now_ms, now) = (app.clock.now_ms(), app.clock.monotonic());
    let guard = app.active.begin(&ctx, &options.text, options.progress.clone(), now_ms, now);
    let query = guard.query.clone();
    let job = {
        let (app, query) = (app.clone(), query.clone());
        move || {
            query.run();
            evaluate(&app, &query, &request, &ctx, when, wanted, &options)
        }
    };
    let answer = app.queries.run_until(&tenant, deadline, cancel, query.cancelled(), job).await;
    let refused = match answer {
        Ok((Ok(()), _)) => {
            return Ok(envelope::json(StatusCode::OK, streamed(guard, app.clock.clone())));
        }
        // The job has told the log itself.
        Ok((Err(error), _)) => return Err(error),
        Err(error) => ApiError::from(error),
    };
    app.telemetry.query_failed();
    let waited = app.clock.monotonic().saturating_sub(query.began);
    let outcome = Outcome { asked, error: Some(refused.to_string()), queued: waited, ..Outcome::default() };
    app.query_log.tell(&query, span(when), &outcome);
    Err(refused)
}

fn span(when: When) -> Span {
    match when {
        When::At(t) => Span { start: t, end: t, step: 0 },
        When::Steps { start, end, step } => Span { start, end, step },
    }
}

fn options(app: &App, params: &Params, features: Features) -> Result<QueryOptions, ApiError> {
    let lookback_delta_ms = params
        .span("lookback_delta")
        .map_err(|e| ApiError::bad_data(format!("error parsing lookback delta duration: {e}")))?;
    let clock = app.clock.clone();
    Ok(QueryOptions {
        lookback_delta_ms,
        max_source_resolution_ms: max_source_resolution(params)?,
        text: params.get("query").unwrap_or("").to_owned(),
        stopwatch: Some(Stopwatch::new(move || clock.monotonic())),
        per_step: params.get("stats") == Some("all") && features.per_step_stats,
        explain: params.get("explain").is_some_and(|v| v == "true" || v == "1"),
        ..QueryOptions::default()
    })
}

/// `max_source_resolution`, as in Thanos: `auto`, `0s` (or `raw`), `5m`, `1h`, or another duration.
fn max_source_resolution(params: &Params) -> Result<Option<i64>, ApiError> {
    match params.get("max_source_resolution") {
        None | Some("" | "auto") => Ok(None),
        Some("raw") => Ok(Some(0)),
        Some(_) => params.duration("max_source_resolution"),
    }
}

/// Evaluates on a thread of the pool, and leaves the result with the query, ready to be read.
fn evaluate(
    app: &App,
    query: &ActiveQuery,
    request: &ApiRequest,
    ctx: &QueryContext,
    when: When,
    wanted: Wanted,
    options: &QueryOptions,
) -> Result<(), ApiError> {
    let began = app.clock.monotonic();
    let queued = began.saturating_sub(query.began);
    let mut outcome = Outcome { asked: request.asked.clone(), queued, ..Outcome::default() };
    let answer = answer(app, request, ctx, when, options).and_then(|result| {
        outcome.times = result.times;
        let took = app.clock.monotonic().saturating_sub(began);
        app.telemetry.observe_query(took, queued, result.stats.samples_read);
        let now = app.clock.monotonic();
        let sending =
            respond(result, ctx, request, options, when, wanted, stats::Times { queued, took }, now)?;
        // Whoever cancelled it meanwhile shall not get an answer that begins well.
        ctx.cancel.check()?;
        query.send(sending);
        Ok(())
    });
    outcome.fetched = ctx.fetched.counts();
    app.telemetry.observe_fetched(outcome.fetched);
    outcome.took = app.clock.monotonic().saturating_sub(began);
    if let Err(error) = &answer {
        app.telemetry.query_failed();
        outcome.error = Some(error.to_string());
    }
    // What does not parse was no query.
    if !answer.as_ref().is_err_and(ApiError::is_bad_data) {
        app.query_log.tell(query, span(when), &outcome);
    }
    answer
}

fn answer(
    app: &App,
    request: &ApiRequest,
    ctx: &QueryContext,
    when: When,
    options: &QueryOptions,
) -> Result<QueryResult, ApiError> {
    let QueryLimits { features, max_samples, .. } = app.limits(&request.tenant);
    let expr = pyrrha_promql::parse(&options.text, &features).map_err(|e| ApiError::parameter("query", e))?;
    let store: &dyn pyrrha_model::contract::Queryable = &*request.store;
    // Queries share the processors: the fewer run, the more threads each may use.
    let all = app.engine.options();
    let threads = (all.threads / app.queries.running().max(1)).max(1);
    let engine = app.engine.with(EngineOptions { threads, features, max_samples, ..all.clone() });
    match when {
        When::At(t) => engine.instant_with(ctx, store, &expr, t, options),
        When::Steps { start, end, step } => engine.range_with(ctx, store, &expr, start, end, step, options),
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

#[allow(clippy::too_many_arguments, reason = "an answer tells all of it")]
fn respond(
    result: QueryResult,
    ctx: &QueryContext,
    request: &ApiRequest,
    options: &QueryOptions,
    when: When,
    wanted: Wanted,
    times: stats::Times,
    now: Duration,
) -> Result<Sending, ApiError> {
    let text = &options.text;
    let mut notices =
        NoticeLists { warnings: result.annotations.warnings(text), infos: result.annotations.infos(text) };
    notices.warnings.extend(NoticeLists::of(&ctx.notices).warnings);
    let mut tail = stats::of(request.params.get("stats"), &result, times, ctx.fetched.counts(), &mut notices);
    if let Some(plan) = &result.explain {
        tail.extend(stats::explain(plan, ctx.fetched.counts()));
    }
    let mut value = result.value;
    match wanted {
        Wanted::Result { limit: 0 } => {}
        Wanted::Result { limit } => {
            if truncate(&mut value, limit) {
                notices.warnings.push(TRUNCATED.to_owned());
            }
        }
        Wanted::Plan => {
            truncate(&mut value, 0);
        }
    }
    tail.push(b'}');
    notices.close(&mut tail);
    let reservation = Reservation::take(&ctx.budget, bytes_of(&value))?;
    let span = span(when);
    let start = if span.step == 0 { 0 } else { span.start };
    Ok(Sending {
        encoder: Box::new(ResultEncoder::new(value, start, span.step, tail)),
        _reservation: reservation,
        last_read: now,
    })
}

/// Cuts a result to `limit` series; whether it did.
fn truncate(value: &mut QueryValue, limit: usize) -> bool {
    let before = match value {
        QueryValue::Vector(samples) => samples.len(),
        QueryValue::Matrix(series) => series.len(),
        QueryValue::Scalar { .. } | QueryValue::String { .. } => 0,
    };
    if before <= limit {
        return false;
    }
    match value {
        QueryValue::Vector(samples) => samples.truncate(limit),
        QueryValue::Matrix(series) => series.truncate(limit),
        QueryValue::Scalar { .. } | QueryValue::String { .. } => {}
    }
    true
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
            .map(|s| {
                let histograms: usize =
                    s.histograms.iter().map(|(_, h)| 16 * pyrrha_promql::value::histogram_weight(h)).sum();
                labels(&s.labels) + 72 + 16 * s.floats.len() + histograms
            })
            .sum(),
    }
}
