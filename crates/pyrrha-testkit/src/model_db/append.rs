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
    /// The newest of its samples that are in order, by series.
    last: BTreeMap<SeriesRef, (Timestamp, Value)>,
    newest: Option<Timestamp>,
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
            last: BTreeMap::new(),
            newest: None,
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
        let Some(tenant) = tenants.get(&self.tenant) else { return Err(unknown_series()) };
        let Some(stored) = tenant.series.get(series.0 as usize) else { return Err(unknown_series()) };
        let verdict = |other: &Value| if same_bits(other, &value) { Ok(()) } else { Err(Refused::Duplicate) };
        let rules = &self.db.rules;
        let now = rules.clock.as_ref().map(|c| c.now_ms());
        let cut = tenant.cut.iter().any(|range| range.contains(t));
        let last = self.last.get(&series).or(stored.last.as_ref());
        let in_order = last.is_none_or(|(last, _)| t > *last) && !cut;
        if !in_order
            && let Some((last, other)) = last
            && *last == t
        {
            return verdict(other);
        }
        if now.is_some_and(|now| t > now.saturating_add(MAX_AHEAD_MS)) {
            return Err(Refused::TooFarInFuture);
        }
        let newest = tenant.newest.max(self.newest);
        if !in_order {
            let window = rules.out_of_order_window_ms;
            if let Some(newest) = newest
                && window > 0
                && t < newest.min(now.unwrap_or(newest)).saturating_sub(window)
            {
                return Err(Refused::TooOld);
            }
            if window == 0 {
                return Err(Refused::OutOfOrder);
            }
            let staged = self.samples.get(&(series, t)).map(|(_, value)| value);
            if let Some(other) = staged.or(stored.in_head.get(&t)) {
                return verdict(other);
            }
        }
        drop(tenants);
        if in_order {
            self.last.insert(series, (t, value.clone()));
        }
        self.newest = newest.max(Some(t));
        self.samples.insert((series, t), (start, value));
        Ok(())
    }
}

fn unknown_series() -> Refused {
    Refused::InvalidLabels("series reference of another store".into())
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
            stored.chunks = None;
            tenant.newest = tenant.newest.max(Some(t));
            // Another batch may have come first: the first committed sample stays in the head.
            if stored.in_head.contains_key(&t) {
                continue;
            }
            stored.in_head.insert(t, value.clone());
            // What is not in the head any more gives way to what goes before it in a merge.
            let stays = stored.samples.get(&t).is_some_and(|(s, v)| (rank(v), *s) >= (rank(&value), start));
            if !stays {
                stored.samples.insert(t, (start, value));
            }
        }
        for (series, last) in self.last {
            let stored = tenant.series.get_mut(series.0 as usize).ok_or_else(gone)?;
            if stored.last.as_ref().is_none_or(|(t, _)| *t < last.0) {
                stored.last = Some(last);
            }
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

/// The greater one stays where samples of one time meet: any value over a stale marker, a histogram
/// over a float, then the greater numbers, bit by bit.
fn rank(value: &Value) -> (bool, bool, Vec<Vec<u64>>) {
    let float = |h: &FloatHistogram| {
        if h.is_stale() {
            return (false, true, Vec::new());
        }
        let numbers = [h.sum.to_bits(), h.count.to_bits(), h.zero_count.to_bits(), h.schema as u64];
        let mut all: Vec<Vec<u64>> = numbers.map(|n| vec![n]).into();
        all.push(vec![h.zero_threshold.to_bits()]);
        all.push(h.custom_values.iter().map(|v| v.to_bits()).collect());
        for (spans, counts) in
            [(&h.positive_spans, &h.positive_buckets), (&h.negative_spans, &h.negative_buckets)]
        {
            let (mut place, mut filled, mut counts) = (0i64, Vec::new(), counts.iter());
            for span in spans {
                place += i64::from(span.offset);
                for count in counts.by_ref().take(span.length as usize) {
                    if *count != 0.0 {
                        // Places may be below zero and still have to sort.
                        filled.extend([place.wrapping_sub(i64::MIN) as u64, count.to_bits()]);
                    }
                    place += 1;
                }
            }
            all.push(filled);
        }
        (true, true, all)
    };
    match value {
        Value::Float(v) => (!pyrrha_model::is_stale_nan(*v), false, vec![vec![v.to_bits()]]),
        Value::Histogram(h) => float(&h.to_float()),
        Value::FloatHistogram(h) => float(h),
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
