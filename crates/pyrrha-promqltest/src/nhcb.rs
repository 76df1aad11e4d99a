//! Classic histograms as native ones with custom bounds: what `load_with_nhcb` adds.

use std::collections::BTreeMap;

use pyrrha_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use pyrrha_model::{FloatHistogram, Labels, METRIC_NAME, Span, Timestamp};

use crate::target::{LoadedSeries, LoadedValue};

/// What is known of a classic histogram at one time.
#[derive(Debug, Default, Clone)]
struct Classic {
    /// Cumulative counts by upper bound.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: Option<f64>,
}

/// The native histograms of all `_bucket`, `_count` and `_sum` series among `series`.
pub(crate) fn histograms(series: &[LoadedSeries]) -> Result<Vec<LoadedSeries>, String> {
    let mut classics: BTreeMap<Labels, BTreeMap<Timestamp, (Timestamp, Classic)>> = BTreeMap::new();
    for s in series {
        let name = s.labels.metric_name();
        let Some((base, suffix)) =
            ["_bucket", "_count", "_sum"].iter().find_map(|x| Some((name.strip_suffix(x)?, *x)))
        else {
            continue;
        };
        let bound = s.labels.get("le").and_then(parse_bound);
        if suffix == "_bucket" && bound.is_none() {
            continue;
        }
        let mut labels = s.labels.to_builder();
        labels.set(METRIC_NAME, base).remove("le");
        let by_time = classics.entry(labels.build()).or_default();
        for (start, t, value) in &s.samples {
            let LoadedValue::Float(value) = value else { continue };
            let (known_start, classic) = by_time.entry(*t).or_default();
            *known_start = *start;
            match (suffix, bound) {
                ("_bucket", Some(bound)) => classic.add_bucket(bound, *value),
                ("_count", _) => classic.count = Some(*value),
                _ => classic.sum = Some(*value),
            }
        }
    }
    classics
        .into_iter()
        .map(|(labels, by_time)| {
            let samples = by_time
                .into_iter()
                .map(|(t, (start, classic))| {
                    Ok((start, t, LoadedValue::Histogram(Box::new(classic.convert()?))))
                })
                .collect::<Result<_, String>>()
                .map_err(|e| format!("series={labels}: {e}"))?;
            Ok(LoadedSeries { labels, samples })
        })
        .collect()
}

fn parse_bound(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|v| !v.is_nan())
}

impl Classic {
    fn add_bucket(&mut self, bound: f64, count: f64) {
        match self.buckets.binary_search_by(|(b, _)| b.total_cmp(&bound)) {
            // The first of two equal bounds counts.
            Ok(_) => {}
            Err(at) => self.buckets.insert(at, (bound, count)),
        }
    }

    fn convert(mut self) -> Result<FloatHistogram, String> {
        let highest = self.buckets.last().map_or(0.0, |(_, n)| *n);
        let count = self.count.unwrap_or(highest);
        match self.buckets.last() {
            Some((bound, n)) if *bound == f64::INFINITY => {
                if *n != count && !(n.is_nan() && count.is_nan()) {
                    return Err(format!("count={count} differs from the +Inf bucket={n}"));
                }
            }
            _ => self.buckets.push((f64::INFINITY, count)),
        }
        let mut previous = 0.0;
        let mut counts = Vec::with_capacity(self.buckets.len());
        for (bound, cumulative) in &self.buckets {
            if *cumulative < previous {
                return Err(format!("count decreases at le={bound}"));
            }
            counts.push(cumulative - previous);
            previous = *cumulative;
        }
        let integral = counts.iter().chain([&count]).all(|n| n.fract() == 0.0);
        let bounds: Vec<f64> = self.buckets.iter().map(|(b, _)| *b).filter(|b| *b != f64::INFINITY).collect();
        let mut histogram = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count,
            sum: self.sum.unwrap_or(0.0),
            positive_spans: vec![Span { offset: 0, length: counts.len() as u32 }],
            positive_buckets: counts,
            custom_values: bounds.into(),
            ..FloatHistogram::default()
        };
        histogram.compact(if integral { 2 } else { 0 });
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests;
