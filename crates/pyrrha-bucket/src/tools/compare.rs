//! Whether two sources answer the same: series and samples, piece of time by piece of time.
//!
//! Both are read in the order of labels, a piece at a time, so memory is that of one series' piece. The
//! digest of a piece is that of all labels, times and values in it: equal digests are equal answers.

use std::cmp::Ordering;
use std::sync::Arc;

use pyrrha_encoding::{crc, decode_stored};
use pyrrha_model::contract::{QueryContext, Queryable, SelectHints, SeriesBatch, SeriesSet, Value};
use pyrrha_model::{ErrorKind, FloatHistogram, Labels, StoreError, TimeRange, Timestamp};
use serde::Serialize;

/// Series that are read at once.
const AT_ONCE: usize = 64;
/// Differences of a piece of time that are told.
const TOLD: usize = 5;

/// What a source has of a piece of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Digest {
    /// Series that have samples.
    pub series: u64,
    /// Their samples.
    pub samples: u64,
    /// CRC-32C over labels, times and values.
    pub crc32c: u32,
}

/// What two sources have of a piece of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ComparedRange {
    /// First millisecond.
    pub start: Timestamp,
    /// Last millisecond.
    pub end: Timestamp,
    /// What the source has.
    pub source: Digest,
    /// What the destination has.
    pub destination: Digest,
    /// Series that differ, the first of them, each with what differs.
    pub differences: Vec<String>,
}

impl ComparedRange {
    /// Whether both have the same.
    pub fn is_equal(&self) -> bool {
        self.source == self.destination
    }
}

/// Compares the samples of two sources in a piece of time.
pub(super) fn compare(
    source: (&dyn Queryable, &QueryContext),
    destination: (&dyn Queryable, &QueryContext),
    range: TimeRange,
) -> Result<ComparedRange, StoreError> {
    let (mut a, mut b) = (Walk::start(source, range)?, Walk::start(destination, range)?);
    let mut found = ComparedRange {
        start: range.start,
        end: range.end,
        source: Digest::default(),
        destination: Digest::default(),
        differences: Vec::new(),
    };
    let (mut left, mut right) = (a.next()?, b.next()?);
    loop {
        let order = match (&left, &right) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(l), Some(r)) => l.labels.cmp(&r.labels),
        };
        let difference = match (order, &left, &right) {
            (Ordering::Less, Some(l), _) => Some(format!("{}: not in the destination", l.labels)),
            (Ordering::Greater, _, Some(r)) => Some(format!("{}: not in the source", r.labels)),
            (_, Some(l), Some(r)) if (l.samples, l.crc32c) != (r.samples, r.crc32c) => Some(format!(
                "{}: source samples={} crc32c={:08x} destination samples={} crc32c={:08x}",
                l.labels, l.samples, l.crc32c, r.samples, r.crc32c
            )),
            _ => None,
        };
        found.differences.extend(difference.filter(|_| found.differences.len() < TOLD));
        if order != Ordering::Greater {
            left = a.next()?;
        }
        if order != Ordering::Less {
            right = b.next()?;
        }
    }
    (found.source, found.destination) = (a.digest, b.digest);
    Ok(found)
}

/// A series with the digest of its samples.
struct Series {
    labels: Labels,
    samples: u64,
    crc32c: u32,
}

/// The series of a source.
struct Walk<'c> {
    set: Box<dyn SeriesSet>,
    ctx: &'c QueryContext,
    range: TimeRange,
    batch: SeriesBatch,
    next: usize,
    digest: Digest,
}

impl<'c> Walk<'c> {
    fn start(
        (source, ctx): (&dyn Queryable, &'c QueryContext),
        range: TimeRange,
    ) -> Result<Self, StoreError> {
        let set = source.select(ctx, &[], range, &SelectHints::default())?;
        Ok(Self { set, ctx, range, batch: SeriesBatch::default(), next: 0, digest: Digest::default() })
    }

    /// The next series that has samples.
    fn next(&mut self) -> Result<Option<Series>, StoreError> {
        loop {
            self.ctx.cancel.check()?;
            if self.next == self.batch.series.len() {
                self.next = 0;
                if !self.set.next_batch(AT_ONCE, &mut self.batch)? {
                    self.batch.clear();
                    return Ok(None);
                }
            }
            let Some(entry) = self.batch.series.get(self.next) else { continue };
            self.next += 1;
            let labels = self.batch.resolve(&self.ctx.symbols, entry);
            let damaged = |e| {
                StoreError::caused(ErrorKind::Corrupt, format!("samples cannot be read: series={labels}"), e)
            };
            let samples = decode_stored(entry, self.range).map_err(damaged)?;
            if samples.is_empty() {
                continue;
            }
            let mut sum = 0;
            for (_, time, value) in &samples {
                sum = crc::checksum_append(sum, &time.to_le_bytes());
                sum = append_value(sum, value);
            }
            self.digest.series += 1;
            self.digest.samples += samples.len() as u64;
            self.digest.crc32c = crc::checksum_append(self.digest.crc32c, labels.to_string().as_bytes());
            self.digest.crc32c = crc::checksum_append(self.digest.crc32c, &sum.to_le_bytes());
            return Ok(Some(Series { labels, samples: samples.len() as u64, crc32c: sum }));
        }
    }
}

/// Of histograms all but the hint, which depends on how chunks are cut, and on how spans are.
fn append_value(sum: u32, value: &Value) -> u32 {
    match value {
        Value::Float(value) => crc::checksum_append(sum, &value.to_bits().to_le_bytes()),
        Value::Histogram(histogram) => append_histogram(sum, &histogram.to_float()),
        Value::FloatHistogram(histogram) => append_histogram(sum, histogram),
    }
}

fn append_histogram(mut sum: u32, h: &FloatHistogram) -> u32 {
    sum = crc::checksum_append(sum, &h.schema.to_le_bytes());
    let mut append = |value: f64| sum = crc::checksum_append(sum, &value.to_bits().to_le_bytes());
    [h.zero_threshold, h.zero_count, h.count, h.sum].into_iter().for_each(&mut append);
    for (spans, buckets) in
        [(&h.positive_spans, &h.positive_buckets), (&h.negative_spans, &h.negative_buckets)]
    {
        let (mut index, mut buckets) = (0i64, buckets.iter());
        for span in spans {
            index = index.saturating_add(i64::from(span.offset));
            for bucket in buckets.by_ref().take(span.length as usize) {
                // Where there is nothing, an empty bucket may be written or not.
                if *bucket != 0.0 {
                    append(index as f64);
                    append(*bucket);
                }
                index = index.saturating_add(1);
            }
        }
        append(f64::NAN);
    }
    h.custom_values.iter().copied().for_each(append);
    sum
}

/// A store that has nothing.
pub(super) struct Nothing;

impl Queryable for Nothing {
    fn select(
        &self,
        ctx: &QueryContext,
        _: &[pyrrha_model::Matcher],
        _: TimeRange,
        _: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StoreError> {
        Ok(pyrrha_storage::merge(ctx, Vec::new(), 0))
    }

    fn label_names(
        &self,
        _: &QueryContext,
        _: &pyrrha_model::contract::LabelQuery,
    ) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn label_values(
        &self,
        _: &QueryContext,
        _: &str,
        _: &pyrrha_model::contract::LabelQuery,
    ) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn series(
        &self,
        _: &QueryContext,
        _: &pyrrha_model::contract::LabelQuery,
    ) -> Result<Vec<Labels>, StoreError> {
        Ok(Vec::new())
    }

    fn exemplars(
        &self,
        _: &QueryContext,
        _: &pyrrha_model::contract::LabelQuery,
    ) -> Result<Vec<pyrrha_model::contract::Exemplars>, StoreError> {
        Ok(Vec::new())
    }

    fn metadata(
        &self,
        _: &QueryContext,
        _: Option<&str>,
    ) -> Result<std::collections::BTreeMap<String, Vec<pyrrha_model::Metadata>>, StoreError> {
        Ok(std::collections::BTreeMap::new())
    }
}

/// A source with nothing beside it.
pub(super) fn nothing() -> Arc<dyn Queryable> {
    Arc::new(Nothing)
}
