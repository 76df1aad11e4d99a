//! Whether the parts of a native histogram agree, by the rules of Prometheus' data model. The texts
//! are those that its clients know.

use std::hash::{BuildHasher, Hasher};

use pyrrha_model::contract::Value;
use pyrrha_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use pyrrha_model::{FloatHistogram, Histogram, Span};

/// Most buckets of one histogram: a limit of ours, far beyond what senders make.
const MAX_BUCKETS: usize = 1 << 16;

/// What is wrong with the value, if anything is. Floats are always right.
pub(crate) fn check(value: &Value) -> Result<(), String> {
    match value {
        Value::Float(_) => Ok(()),
        Value::Histogram(h) => check_integer(h),
        Value::FloatHistogram(h) => check_float(h),
    }
}

fn check_integer(h: &Histogram) -> Result<(), String> {
    check_shape(h.schema, h.zero_threshold, &h.custom_values)?;
    check_custom(h.schema, h.zero_count == 0, h.zero_threshold, &h.negative_spans, h.negative_buckets.len())?;
    check_spans(
        &h.positive_spans,
        h.positive_buckets.len(),
        "positive",
        custom_len(h.schema, &h.custom_values),
    )?;
    check_spans(&h.negative_spans, h.negative_buckets.len(), "negative", None)?;
    let mut total = h.zero_count;
    for (side, deltas) in [("positive", &h.positive_buckets), ("negative", &h.negative_buckets)] {
        let mut bucket = 0i64;
        for (i, delta) in deltas.iter().enumerate() {
            bucket = bucket.wrapping_add(*delta);
            let count = u64::try_from(bucket).map_err(|_| negative(side, i, &bucket.to_string()))?;
            total = total.saturating_add(count);
        }
    }
    // Observations of NaN are counted but in no bucket, and make the sum NaN.
    if h.sum.is_nan() {
        if total > h.count {
            return Err(format!(
                "{total} observations found in buckets, but the Count field is {}: histogram's observation count should be at least the number of observations found in the buckets",
                h.count
            ));
        }
    } else if total != h.count {
        return Err(format!(
            "{total} observations found in buckets, but the Count field is {}: histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)",
            h.count
        ));
    }
    Ok(())
}

fn check_float(h: &FloatHistogram) -> Result<(), String> {
    check_shape(h.schema, h.zero_threshold, &h.custom_values)?;
    check_custom(
        h.schema,
        h.zero_count == 0.0,
        h.zero_threshold,
        &h.negative_spans,
        h.negative_buckets.len(),
    )?;
    check_spans(
        &h.positive_spans,
        h.positive_buckets.len(),
        "positive",
        custom_len(h.schema, &h.custom_values),
    )?;
    check_spans(&h.negative_spans, h.negative_buckets.len(), "negative", None)?;
    for (side, counts) in [("positive", &h.positive_buckets), ("negative", &h.negative_buckets)] {
        if let Some((i, count)) = counts.iter().enumerate().find(|(_, c)| **c < 0.0) {
            return Err(negative(side, i, &count.to_string()));
        }
    }
    if h.zero_count < 0.0 {
        return Err(format!("zero bucket has observation count of {}", h.zero_count));
    }
    if h.count < 0.0 {
        return Err(format!("observation count is {}", h.count));
    }
    Ok(())
}

fn negative(side: &str, bucket: usize, count: &str) -> String {
    format!(
        "{side} side: bucket number {} has observation count of {count}: histogram has a bucket whose observation count is negative",
        bucket + 1
    )
}

fn custom_len(schema: i32, bounds: &[f64]) -> Option<usize> {
    (schema == CUSTOM_BUCKETS_SCHEMA).then_some(bounds.len() + 1)
}

fn check_shape(schema: i32, zero_threshold: f64, bounds: &[f64]) -> Result<(), String> {
    if schema == CUSTOM_BUCKETS_SCHEMA {
        if bounds.iter().any(|b| !b.is_finite()) {
            return Err("histogram custom bounds must be finite".to_owned());
        }
        if bounds.windows(2).any(|w| w[0] >= w[1]) {
            return Err("histogram custom bounds must be in strictly increasing order".to_owned());
        }
        return Ok(());
    }
    if !(-4..=8).contains(&schema) {
        return Err(format!(
            "unknown schema {schema}: histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets"
        ));
    }
    if !bounds.is_empty() {
        return Err("histogram with exponential schema must not have custom bounds".to_owned());
    }
    if zero_threshold.is_nan() || zero_threshold < 0.0 {
        return Err(format!("zero threshold is {zero_threshold}, which is not a width"));
    }
    Ok(())
}

fn check_custom(
    schema: i32,
    zero_empty: bool,
    zero_threshold: f64,
    negative_spans: &[Span],
    negative_buckets: usize,
) -> Result<(), String> {
    if schema != CUSTOM_BUCKETS_SCHEMA {
        return Ok(());
    }
    let wrong = if !zero_empty {
        "must have zero count of 0"
    } else if zero_threshold != 0.0 {
        "must have zero threshold of 0"
    } else if !negative_spans.is_empty() {
        "must not have negative spans"
    } else if negative_buckets > 0 {
        "must not have negative buckets"
    } else {
        return Ok(());
    };
    Err(format!("custom buckets: {wrong}"))
}

fn check_spans(spans: &[Span], buckets: usize, side: &str, most: Option<usize>) -> Result<(), String> {
    let (mut total, mut end) = (0u64, 0i64);
    for (i, span) in spans.iter().enumerate() {
        if i > 0 && span.offset < 0 || i == 0 && most.is_some() && span.offset < 0 {
            return Err(format!(
                "{side} side: span number {} with offset {}: histogram has a span whose offset is negative",
                i + 1,
                span.offset
            ));
        }
        total += u64::from(span.length);
        end += i64::from(span.offset) + i64::from(span.length);
    }
    if total != buckets as u64 {
        return Err(format!(
            "{side} side: spans need {total} buckets, have {buckets} buckets: histogram spans specify different number of buckets than provided"
        ));
    }
    if buckets > MAX_BUCKETS || end.unsigned_abs() > i32::MAX as u64 {
        return Err(format!("{side} side: {buckets} buckets up to index {end} are too many"));
    }
    if most.is_some_and(|most| end > most as i64) {
        return Err(format!(
            "{side} side: only {} custom bounds defined which is insufficient to cover total span length of {end}: histogram custom bounds are too few",
            most.unwrap_or(0).saturating_sub(1)
        ));
    }
    Ok(())
}

/// A number that identifies a value among those of one series: the bits of a float, a hash of a
/// histogram. Buckets without observations do not count: a chunk may add some to a histogram. Only
/// compared within a process and its checkpoints, of one build.
pub(crate) fn fingerprint(value: &Value) -> u64 {
    let mut hasher = foldhash::quality::FixedState::with_seed(0x9A17).build_hasher();
    match value {
        Value::Float(v) => return v.to_bits(),
        // A marker is stored in the kind of the samples before it, whichever kind was sent.
        Value::Histogram(h) if h.is_stale() => return pyrrha_model::stale_nan().to_bits(),
        Value::FloatHistogram(h) if h.is_stale() => return pyrrha_model::stale_nan().to_bits(),
        Value::Histogram(h) => {
            numbers(&mut hasher, h.schema, &[h.sum, h.zero_threshold], &h.custom_values);
            hasher.write_u64(h.zero_count);
            hasher.write_u64(h.count);
            for (spans, deltas) in
                [(&h.positive_spans, &h.positive_buckets), (&h.negative_spans, &h.negative_buckets)]
            {
                let mut count = 0i64;
                let counts = deltas.iter().map(|delta| {
                    count = count.wrapping_add(*delta);
                    count as u64
                });
                filled(&mut hasher, spans, counts);
            }
        }
        Value::FloatHistogram(h) => {
            numbers(
                &mut hasher,
                h.schema,
                &[h.sum, h.zero_threshold, h.zero_count, h.count],
                &h.custom_values,
            );
            // No count is negative, so only an empty bucket has these bits.
            filled(&mut hasher, &h.positive_spans, h.positive_buckets.iter().map(|c| c.to_bits()));
            filled(&mut hasher, &h.negative_spans, h.negative_buckets.iter().map(|c| c.to_bits()));
            hasher.write_u8(1);
        }
    }
    hasher.finish()
}

fn numbers(hasher: &mut impl Hasher, schema: i32, values: &[f64], bounds: &[f64]) {
    hasher.write_i32(schema);
    values.iter().chain(bounds).for_each(|v| hasher.write_u64(v.to_bits()));
}

/// Hashes the index and count of each bucket that is not empty.
fn filled(hasher: &mut impl Hasher, spans: &[Span], mut counts: impl Iterator<Item = u64>) {
    let mut index = 0i64;
    for span in spans {
        index += i64::from(span.offset);
        for count in counts.by_ref().take(span.length as usize) {
            if count != 0 {
                hasher.write_i64(index);
                hasher.write_u64(count);
            }
            index += 1;
        }
    }
    hasher.write_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Histogram {
        Histogram {
            schema: 1,
            count: 6,
            sum: 10.0,
            zero_count: 1,
            positive_spans: vec![Span { offset: -2, length: 2 }],
            positive_buckets: vec![2, 1],
            ..Histogram::default()
        }
    }

    #[test]
    fn contradictions_are_named() {
        let wrong = |edit: fn(&mut Histogram)| {
            let mut h = good();
            edit(&mut h);
            check(&Value::Histogram(Box::new(h))).expect_err("refused")
        };
        assert_eq!(check(&Value::Histogram(Box::new(good()))), Ok(()));
        assert!(wrong(|h| h.count = 7).ends_with("(in absence of NaN)"));
        assert!(wrong(|h| h.positive_buckets[1] = -3).ends_with("count is negative"));
        assert!(wrong(|h| h.positive_spans[0].length = 3).contains("different number of buckets"));
        assert!(wrong(|h| h.schema = 9).contains("unknown schema 9"));
        assert!(wrong(|h| h.schema = CUSTOM_BUCKETS_SCHEMA).contains("zero count of 0"));
        assert!(
            wrong(|h| h.positive_spans.push(Span { offset: -1, length: 0 })).contains("offset is negative")
        );
        assert!(wrong(|h| h.custom_values = [1.0].into()).contains("must not have custom bounds"));
    }

    #[test]
    fn a_fingerprint_tells_values_apart() {
        let of = |h: Histogram| fingerprint(&Value::Histogram(Box::new(h)));
        assert_eq!(of(good()), of(good()));
        assert_ne!(of(good()), of(Histogram { sum: 11.0, ..good() }));
        let moved = Histogram { negative_spans: good().positive_spans, positive_spans: Vec::new(), ..good() };
        assert_ne!(of(good()), of(moved));
        assert_ne!(of(good()), fingerprint(&Value::FloatHistogram(Box::new(good().to_float()))));
        let spans = vec![Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }];
        let wide = Histogram { positive_spans: spans, positive_buckets: vec![2, 1, -3], ..good() };
        assert_eq!(of(good()), of(wide), "an empty bucket more");
    }
}
