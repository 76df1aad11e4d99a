//! Batches of a [`ModelDb`], and what it refuses.

use std::collections::{BTreeMap, BTreeSet};

use pyrrha_model::contract::{AppendStats, Appender, Refused, SeriesKey, Value};
use pyrrha_model::{
    ErrorKind, Exemplar, FloatHistogram, Labels, Metadata, SeriesRef, StoreError, TenantId, Timestamp,
};

use super::ModelDb;

/// How far a sample may be ahead of the wall clock, ms.
const MAX_AHEAD_MS: i64 = 600_000;

/// What was appended and is not committed.
pub(super) struct Batch<'a> {
    db: &'a ModelDb,
    tenant: TenantId,
    samples: BTreeMap<(SeriesRef, Timestamp), (Timestamp, Value)>,
    exemplars: Vec<(SeriesRef, Exemplar)>,
    metadata: Vec<(String, Metadata)>,
    new_series: BTreeSet<SeriesRef>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(db: &'a ModelDb, tenant: TenantId) -> Self {
        Self {
            db,
            tenant,
            samples: BTreeMap::new(),
            exemplars: Vec::new(),
            metadata: Vec::new(),
            new_series: BTreeSet::new(),
        }
    }

    fn add(
        &mut self,
        series: SeriesRef,
        start: Timestamp,
        t: Timestamp,
        value: Value,
    ) -> Result<(), Refused> {
        let tenants = self.db.tenants.lock();
        let stored = tenants.get(&self.tenant);
        let (stored, newest) = match stored.and_then(|t| Some((t.series.get(series.0 as usize)?, t.newest))) {
            Some((s, newest)) => (s, newest),
            None => return Err(Refused::InvalidLabels("series reference of another store".into())),
        };
        let rules = &self.db.rules;
        let now = rules.clock.as_ref().map(|c| c.now_ms());
        if now.is_some_and(|now| t > now.saturating_add(MAX_AHEAD_MS)) {
            return Err(Refused::TooFarInFuture);
        }
        // A sample that is deleted still has its time.
        let hidden = || stored.hidden.values().find_map(|samples| samples.get(&t));
        let committed = stored.samples.get(&t).or_else(hidden);
        if let Some((_, other)) = committed.or_else(|| self.samples.get(&(series, t))) {
            return if same_bits(other, &value) { Ok(()) } else { Err(Refused::Duplicate) };
        }
        let staged = self.samples.range((series, Timestamp::MIN)..=(series, Timestamp::MAX));
        let last = stored.last().max(staged.map(|((_, t), _)| *t).next_back());
        if last.is_some_and(|last| t < last) && rules.out_of_order_window_ms == 0 {
            return Err(Refused::OutOfOrder);
        }
        if last.is_none_or(|last| t < last)
            && let Some(newest) = newest
        {
            // An empty tenant takes any past time, and a new series is judged like an old sample.
            let reference = now.map_or(newest, |now| newest.min(now));
            if t < reference.saturating_sub(rules.out_of_order_window_ms) && rules.out_of_order_window_ms > 0
            {
                return Err(Refused::TooOld);
            }
        }
        drop(tenants);
        self.samples.insert((series, t), (start, value));
        Ok(())
    }
}

impl Appender for Batch<'_> {
    fn lookup(&mut self, keys: &[SeriesKey], found: &mut Vec<Option<SeriesRef>>) {
        found.clear();
        found.resize(keys.len(), None);
    }

    fn resolve(&mut self, _key: Option<SeriesKey>, labels: &Labels) -> Result<SeriesRef, Refused> {
        let mut tenants = self.db.tenants.lock();
        let tenant = tenants.entry(self.tenant.clone()).or_default();
        let series = tenant.resolve(labels);
        if tenant.series.get(series.0 as usize).is_some_and(|s| s.samples.is_empty()) {
            self.new_series.insert(series);
        }
        Ok(series)
    }

    fn append(&mut self, series: SeriesRef, start: Timestamp, t: Timestamp, v: f64) -> Result<(), Refused> {
        self.add(series, start, t, Value::Float(v))
    }

    fn append_histogram(
        &mut self,
        series: SeriesRef,
        start: Timestamp,
        t: Timestamp,
        value: Value,
    ) -> Result<(), Refused> {
        check_histogram(&value)?;
        self.add(series, start, t, value)
    }

    fn append_exemplar(&mut self, series: SeriesRef, exemplar: Exemplar) -> Result<(), Refused> {
        let tenants = self.db.tenants.lock();
        let stored = tenants.get(&self.tenant).and_then(|t| t.series.get(series.0 as usize));
        let staged = self.exemplars.iter().rev().find(|(s, _)| *s == series).map(|(_, e)| e);
        let newest = staged.or_else(|| stored.and_then(|s| s.exemplars.last()));
        match newest {
            Some(newest) if *newest == exemplar => return Err(Refused::DuplicateExemplar),
            Some(newest) if newest.timestamp > exemplar.timestamp => return Err(Refused::OutOfOrderExemplar),
            _ => {}
        }
        drop(tenants);
        self.exemplars.push((series, exemplar));
        Ok(())
    }

    fn append_metadata(&mut self, metric: &str, metadata: Metadata) {
        self.metadata.push((metric.to_owned(), metadata));
    }

    fn commit(self: Box<Self>) -> Result<AppendStats, StoreError> {
        let mut tenants = self.db.tenants.lock();
        let tenant = tenants.entry(self.tenant).or_default();
        let gone = || StoreError::new(ErrorKind::Unavailable, "the store was cleared during the batch");
        let mut stats = AppendStats::default();
        for ((series, t), (start, value)) in self.samples {
            let stored = tenant.series.get_mut(series.0 as usize).ok_or_else(gone)?;
            stats.new_series += u64::from(self.new_series.contains(&series) && stored.samples.is_empty());
            match value {
                Value::Float(_) => stats.samples += 1,
                Value::Histogram(_) | Value::FloatHistogram(_) => stats.histograms += 1,
            }
            // Another batch may have come first: the first committed sample stays.
            stored.samples.entry(t).or_insert((start, value));
            stored.chunks = None;
            tenant.newest = tenant.newest.max(Some(t));
        }
        for (series, exemplar) in self.exemplars {
            tenant.series.get_mut(series.0 as usize).ok_or_else(gone)?.exemplars.push(exemplar);
            stats.exemplars += 1;
        }
        tenant.metadata.extend(self.metadata);
        Ok(stats)
    }
}

/// Whether both are the same sample, NaN payloads included.
fn same_bits(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::Histogram(a), Value::Histogram(b)) => {
            a.sum.to_bits() == b.sum.to_bits() && format!("{a:?}") == format!("{b:?}")
        }
        (Value::FloatHistogram(a), Value::FloatHistogram(b)) => {
            a.sum.to_bits() == b.sum.to_bits() && format!("{a:?}") == format!("{b:?}")
        }
        _ => false,
    }
}

/// Refuses a histogram whose spans do not cover its buckets.
fn check_histogram(value: &Value) -> Result<(), Refused> {
    let check = |spans: &[pyrrha_model::Span], buckets: usize, side: &str| {
        let covered: u64 = spans.iter().map(|s| u64::from(s.length)).sum();
        if covered == buckets as u64 {
            return Ok(());
        }
        Err(Refused::InvalidHistogram(format!("{side} spans cover {covered} buckets, {buckets} are given")))
    };
    match value {
        Value::Float(_) => Ok(()),
        Value::Histogram(h) => {
            check(&h.positive_spans, h.positive_buckets.len(), "positive")?;
            check(&h.negative_spans, h.negative_buckets.len(), "negative")
        }
        Value::FloatHistogram(h) => {
            let FloatHistogram { positive_spans, positive_buckets, negative_spans, negative_buckets, .. } =
                &**h;
            check(positive_spans, positive_buckets.len(), "positive")?;
            check(negative_spans, negative_buckets.len(), "negative")
        }
    }
}
