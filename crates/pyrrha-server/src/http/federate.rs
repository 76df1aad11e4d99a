//! `GET /federate`: the newest sample of each selected series, as text that a Prometheus scrapes.

mod text;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use pyrrha_encoding::{SeriesDecoder, SeriesSamples, Want};
use pyrrha_model::contract::{QueryContext, Queryable, SelectHints, SeriesBatch};
use pyrrha_model::{
    ErrorKind, FloatHistogram, Labels, Matcher, StoreError, TimeRange, Timestamp, is_stale_nan,
};

use super::body::streamed;
use super::envelope::ApiError;
use super::labels::{listed, selectors};
use super::list::{bytes_of_labels, sending};
use super::request::ApiRequest;
use super::work;
use crate::active::Reservation;
use crate::app::App;
use text::Format;

/// Series that are read at once.
const BATCH: usize = 512;

/// The newest sample of a series.
#[derive(Debug, Clone, PartialEq)]
struct Newest {
    labels: Labels,
    time: Timestamp,
    value: Value,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Float(f64),
    /// Of custom buckets: others cannot be written as text.
    Buckets(FloatHistogram),
}

/// `GET /federate`
pub(crate) async fn federate(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    request: ApiRequest,
) -> Response {
    answer(app, &headers, request).await.unwrap_or_else(ApiError::into_text)
}

async fn answer(app: Arc<App>, headers: &HeaderMap, request: ApiRequest) -> Result<Response, ApiError> {
    request.params.check()?;
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let (format, text) = (Format::accepted(accept), listed("federate", &request.params));
    let now = app.clock.now_ms();
    let range = TimeRange::new(now - app.settings.query_lookback_ms + 1, now);
    let clock = app.clock.clone();
    let job = move |ctx: &QueryContext, request: &ApiRequest| {
        let sets = selectors(&request.params, &ctx.cancel)?;
        let (found, _found) = newest(ctx, &*request.store, &sets, range)?;
        // A line is a little longer than what it says.
        let reservation = Reservation::take(&ctx.budget, 2 * found.iter().map(bytes).sum::<usize>())?;
        let text = text::write(&found, format, || ctx.cancel.check())?;
        Ok(sending(text, reservation, clock.monotonic()))
    };
    let (sending, guard) = work::run(&app, request, &text, job).await?;
    guard.query.send(sending);
    let mut response = Response::new(streamed(guard, app.clock.clone()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    Ok(response)
}

/// About how much memory, or text, a sample takes.
fn bytes(newest: &Newest) -> usize {
    let lines = match &newest.value {
        Value::Float(_) => 1,
        Value::Buckets(histogram) => histogram.custom_values.len() + 3,
    };
    size_of::<Newest>() + lines * (bytes_of_labels(&newest.labels) + 48)
}

/// The newest samples of all series that satisfy one of the sets, stale ones left out; each series once.
fn newest(
    ctx: &QueryContext,
    store: &dyn Queryable,
    sets: &[Vec<Matcher>],
    range: TimeRange,
) -> Result<(Vec<Newest>, Reservation), StoreError> {
    let mut found: Vec<Newest> = Vec::new();
    let mut reservation = Reservation::take(&ctx.budget, 0)?;
    let hints = SelectHints { newest_only: true, ..SelectHints::default() };
    let (mut batch, mut decoder) = (SeriesBatch::default(), SeriesDecoder::default());
    let mut samples = SeriesSamples::default();
    for matchers in sets {
        let mut series = store.select(ctx, matchers, range, &hints)?;
        while series.next_batch(BATCH, &mut batch)? {
            ctx.cancel.check()?;
            let before = found.len();
            for entry in &batch.series {
                decoder
                    .decode(entry, range, Want::default(), &mut samples)
                    .map_err(|e| StoreError::new(ErrorKind::Corrupt, e.to_string()))?;
                let Some((time, value)) = last(&mut samples) else { continue };
                found.push(Newest { labels: batch.resolve(&ctx.symbols, entry), time, value });
            }
            reservation.grow(found[before..].iter().map(bytes).sum())?;
        }
    }
    found.retain(|one| !one.labels.metric_name().is_empty());
    found.sort_by(|a, b| (a.labels.metric_name(), &a.labels).cmp(&(b.labels.metric_name(), &b.labels)));
    found.dedup_by(|a, b| a.labels == b.labels);
    Ok((found, reservation))
}

/// The newest sample, if text can carry it and it is none that ends the series.
fn last(samples: &mut SeriesSamples) -> Option<(Timestamp, Value)> {
    let float = samples.floats.times.last().copied();
    let histogram = samples.histograms.times.last().copied();
    if float > histogram {
        let value = *samples.floats.values.last()?;
        return (!is_stale_nan(value)).then_some((float?, Value::Float(value)));
    }
    let value = samples.histograms.values.pop()?;
    (!value.is_stale() && value.uses_custom_buckets()).then_some((histogram?, Value::Buckets(value)))
}

#[cfg(test)]
mod tests;
