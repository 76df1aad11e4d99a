//! A run of float histograms as one chunk, with integers where all their counts are.

use std::sync::Arc;

use pyrrha_model::{ChunkEncoding, CounterResetHint, FloatHistogram, Histogram, Timestamp};

use super::appender::one_chunk;

/// Whole numbers up to here are exact as floats.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// One chunk of at most 65,535 histograms of the same bounds, with this header, however long it gets.
/// If `integers`, and all counts are whole numbers, it is one of integer histograms, which read as the
/// same floats.
pub(crate) fn encode_run(
    times: &[Timestamp],
    samples: &[&FloatHistogram],
    header: CounterResetHint,
    integers: bool,
) -> (ChunkEncoding, Vec<u8>) {
    let run = || times.iter().copied().zip(samples.iter().copied());
    if integers
        && let Some(whole) = run().map(|(t, h)| Some((t, to_integers(h)?))).collect::<Option<Vec<_>>>()
    {
        return (ChunkEncoding::Histogram, one_chunk(header, &whole));
    }
    let floats: Vec<_> = run().map(|(t, h)| (t, h.clone())).collect();
    (ChunkEncoding::FloatHistogram, one_chunk(header, &floats))
}

/// The same with integers, if all counts are whole numbers that are exact either way.
fn to_integers(h: &FloatHistogram) -> Option<Histogram> {
    let whole = |n: f64| {
        let exact = (0.0..=MAX_WHOLE).contains(&n) && n.fract() == 0.0 && n.is_sign_positive();
        exact.then_some(n as i64)
    };
    let deltas = |counts: &[f64]| {
        let mut before = 0;
        let delta = |n: &f64| whole(*n).map(|n| n - std::mem::replace(&mut before, n));
        counts.iter().map(delta).collect::<Option<Vec<i64>>>()
    };
    Some(Histogram {
        counter_reset_hint: h.counter_reset_hint,
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        zero_count: whole(h.zero_count)?.unsigned_abs(),
        count: whole(h.count)?.unsigned_abs(),
        sum: h.sum,
        positive_spans: h.positive_spans.clone(),
        negative_spans: h.negative_spans.clone(),
        positive_buckets: deltas(&h.positive_buckets)?,
        negative_buckets: deltas(&h.negative_buckets)?,
        custom_values: Arc::clone(&h.custom_values),
    })
}
