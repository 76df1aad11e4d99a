//! One batch into a head: look up, admit, log, wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::{ArcMutexGuard, RawMutex};
use pyrrha_model::contract::{AppendStats, Appender, Exemplars, Refused, SeriesKey, Value};
use pyrrha_model::{ErrorKind, Exemplar, Labels, Metadata, SeriesRef, StoreError, Timestamp, is_stale_nan};

use super::admission::{Admission, Admitted, HistogramKind, Limits, Newest};
use super::{Head, validate};
use crate::wal::{LogBatch, LogHistogram};

/// Where batches go to become durable. `submit` queues; the returned closure waits.
pub(crate) trait CommitLog: Send + Sync + std::fmt::Debug {
    /// Queues a batch. Called under the tenant's admission lock: the order of calls is the order
    /// in the log.
    fn submit(&self, batch: LogBatch) -> Result<Pending, StoreError>;
}

fn is_stale(value: &Value) -> bool {
    match value {
        Value::Float(v) => is_stale_nan(*v),
        Value::Histogram(h) => h.is_stale(),
        Value::FloatHistogram(h) => h.is_stale(),
    }
}

/// Where a sample that was not refused is logged.
#[derive(Debug, Clone, Copy)]
enum Log {
    /// Among the samples in order.
    InOrder,
    /// Among the late ones.
    Late,
    /// The log has it.
    Nowhere,
}

/// Waits until a batch is durable and applied.
pub(crate) type Pending = Box<dyn FnOnce() -> Result<(), StoreError> + Send>;

/// An open batch. Holds the tenant's admission lock.
pub(crate) struct HeadAppender {
    head: Arc<Head>,
    log: Arc<dyn CommitLog>,
    admission: ArcMutexGuard<RawMutex, Admission>,
    limits: Limits,
    batch: LogBatch,
    /// What the newest samples were before this batch, to be put back if it is dropped.
    undo: Vec<(u32, Newest)>,
    newest_time_undo: Option<Timestamp>,
    /// Its late samples.
    late: Vec<(u32, Timestamp)>,
    exemplar_undo: Vec<(u32, Option<Exemplar>)>,
    metadata_undo: Vec<(String, Option<Metadata>)>,
    stats: AppendStats,
    submitted: bool,
}

impl HeadAppender {
    /// Opens a batch. Waits for the batch that is open.
    pub(crate) fn open(head: Arc<Head>, log: Arc<dyn CommitLog>) -> Result<Self, StoreError> {
        let mut admission = head.admission.lock_arc();
        if head.draining.load(Ordering::Acquire) {
            return Err(StoreError::new(
                ErrorKind::Unavailable,
                "a log write failed and writes behind it are being settled, try again",
            ));
        }
        let now = head.clock.now_ms();
        let limits =
            Limits { latest: now.saturating_add(head.config.future_limit_ms), window: head.window_ms, now };
        admission.applied(head.settled.load(Ordering::Acquire));
        let batch = LogBatch::new(head.tenant.clone());
        Ok(Self {
            head,
            log,
            newest_time_undo: admission.newest_time,
            admission,
            limits,
            batch,
            undo: Vec::new(),
            late: Vec::new(),
            exemplar_undo: Vec::new(),
            metadata_undo: Vec::new(),
            stats: AppendStats::default(),
            submitted: false,
        })
    }

    /// Logs exemplars that a block had, which may be older than others of their series, and waits until they
    /// are durable.
    pub(crate) fn keep_exemplars(mut self, kept: Vec<Exemplars>) -> Result<(), StoreError> {
        for Exemplars { series, exemplars } in kept {
            match self.resolve(None, &series).and_then(|series| self.index(series)) {
                Ok(series) => self.batch.exemplars.extend(exemplars.into_iter().map(|e| (series, e))),
                Err(refused) => {
                    tracing::warn!(tenant = %self.head.tenant, %series, %refused, "exemplars go with the block that they were in");
                }
            }
        }
        Box::new(self).commit().map(drop)
    }

    fn refuse(&self, refused: Refused) -> Refused {
        self.head.metrics.count_refused(&refused);
        refused
    }

    fn index(&self, series: SeriesRef) -> Result<u32, Refused> {
        u32::try_from(series.0)
            .ok()
            .filter(|&s| (s as usize) < self.admission.newest.len())
            .ok_or_else(|| Refused::InvalidLabels(format!("unknown series reference {}", series.0)))
    }

    /// How the sample has to be logged. A repetition of a sample that still waits for the log is
    /// logged too: the batch it repeats may fail.
    fn admit(&mut self, series: u32, t: Timestamp, value: u64) -> Result<Log, Refused> {
        let before = self.admission.newest[series as usize];
        match self.admission.admit(series, t, value, &self.limits) {
            Ok(Admitted::New) => {
                self.undo.push((series, before));
                Ok(Log::InOrder)
            }
            Ok(Admitted::Repeated) => Ok(self.repeated(Log::InOrder)),
            Ok(Admitted::Late) => self.admit_late(series, t, value),
            Err(refused) => Err(self.refuse(refused)),
        }
    }

    /// Admits a late sample if its time is free, the first acknowledged value stays, and if no delete
    /// stands there.
    fn admit_late(&mut self, series: u32, t: Timestamp, value: u64) -> Result<Log, Refused> {
        let stored = {
            let data = self.head.data.read();
            // What is acknowledged must show, and what a delete hides in the head it hides by time.
            if data.deletes.hides(series, t) {
                return Err(self.refuse(Refused::Deleted));
            }
            self.admission.admitted_at(series, t, &self.undo).or_else(|| data.stored_at(series, t))
        };
        match stored {
            None => {
                self.admission.add_late(series, t, value);
                self.late.push((series, t));
                Ok(Log::Late)
            }
            Some(stored) if stored == value => Ok(self.repeated(Log::Late)),
            Some(_) => Err(self.refuse(Refused::Duplicate)),
        }
    }

    fn repeated(&self, log: Log) -> Log {
        self.head.metrics.repeated.add(1);
        if self.head.in_flight.load(Ordering::Acquire) > 0 { log } else { Log::Nowhere }
    }

    fn push_float(&mut self, series: u32, start: Timestamp, t: Timestamp, v: f64) {
        if start != 0 && self.batch.starts.is_empty() {
            self.batch.starts.resize(self.batch.refs.len(), 0);
        }
        if start != 0 || !self.batch.starts.is_empty() {
            self.batch.starts.push(start);
        }
        self.batch.refs.push(series);
        self.batch.times.push(t);
        self.batch.values.push(v);
        if !self.admission.histograms.is_empty() {
            self.admission.histograms.remove(&series);
        }
    }

    fn roll_back(&mut self) {
        for (series, before) in self.undo.drain(..).rev() {
            self.admission.newest[series as usize] = before;
        }
        for (series, t) in self.late.drain(..) {
            self.admission.remove_late(series, t);
        }
        self.admission.newest_time = self.newest_time_undo;
        for (series, before) in self.exemplar_undo.drain(..).rev() {
            self.admission.exemplars.restore(series, before);
        }
        for (metric, before) in self.metadata_undo.drain(..).rev() {
            match before {
                Some(before) => drop(self.admission.metadata.insert(metric, before)),
                None => drop(self.admission.metadata.remove(&metric)),
            }
        }
    }
}

impl Appender for HeadAppender {
    fn lookup(&mut self, keys: &[SeriesKey], found: &mut Vec<Option<SeriesRef>>) {
        found.clear();
        let table = &self.admission.keys;
        found.extend(keys.iter().map(|&key| table.get(key).map(|series| SeriesRef(series.into()))));
    }

    fn resolve(&mut self, key: Option<SeriesKey>, labels: &Labels) -> Result<SeriesRef, Refused> {
        let resolved = self.head.find_or_create(&mut self.admission, labels);
        let (series, created) = resolved.map_err(|r| self.refuse(r))?;
        if let Some(key) = key {
            self.admission.keys.insert(key, series);
        }
        self.stats.new_series += u64::from(created);
        Ok(SeriesRef(series.into()))
    }

    fn append(&mut self, series: SeriesRef, start: Timestamp, t: Timestamp, v: f64) -> Result<(), Refused> {
        if is_stale_nan(v) && !self.admission.histograms.is_empty() {
            let stale = self.index(series).ok().and_then(|s| self.admission.stale_value(s));
            if let Some(stale) = stale {
                return self.append_histogram(series, start, t, stale);
            }
        }
        let series = self.index(series)?;
        match self.admit(series, t, v.to_bits())? {
            Log::InOrder => self.push_float(series, start, t, v),
            Log::Late => self.batch.late.push(LogHistogram { series, t, start, value: Value::Float(v) }),
            Log::Nowhere => {}
        }
        self.stats.samples += 1;
        Ok(())
    }

    fn append_histogram(
        &mut self,
        series: SeriesRef,
        start: Timestamp,
        t: Timestamp,
        value: Value,
    ) -> Result<(), Refused> {
        let kind = match value {
            Value::Float(v) => return self.append(series, start, t, v),
            Value::Histogram(_) => HistogramKind::Integer,
            Value::FloatHistogram(_) => HistogramKind::Float,
        };
        let series = self.index(series)?;
        if !is_stale(&value) {
            validate::check(&value).map_err(|text| self.refuse(Refused::InvalidHistogram(text)))?;
        }
        match self.admit(series, t, validate::fingerprint(&value))? {
            Log::InOrder => {
                self.batch.histograms.push(LogHistogram { series, t, start, value });
                self.admission.histograms.insert(series, kind);
            }
            Log::Late => self.batch.late.push(LogHistogram { series, t, start, value }),
            Log::Nowhere => {}
        }
        self.stats.histograms += 1;
        Ok(())
    }

    fn append_exemplar(&mut self, series: SeriesRef, exemplar: Exemplar) -> Result<(), Refused> {
        let series = self.index(series)?;
        let before = self.admission.exemplars.admit(series, &exemplar).map_err(|r| self.refuse(r))?;
        self.exemplar_undo.push((series, before));
        self.batch.exemplars.push((series, exemplar));
        self.stats.exemplars += 1;
        Ok(())
    }

    fn append_metadata(&mut self, metric: &str, metadata: Metadata) {
        // Senders repeat it with every request; only what is new is logged.
        let known = self.admission.metadata.get(metric);
        if known.is_none() && self.admission.metadata.len() >= self.head.config.max_metadata_per_tenant {
            self.head.metrics.metadata_dropped.add(1);
            return;
        }
        if known != Some(&metadata) {
            let before = self.admission.metadata.insert(metric.to_owned(), metadata.clone());
            self.metadata_undo.push((metric.to_owned(), before));
            self.batch.metadata.push((metric.to_owned(), metadata));
        }
    }

    fn commit(mut self: Box<Self>) -> Result<AppendStats, StoreError> {
        let stats = self.stats;
        if self.batch.is_empty() {
            self.submitted = true;
            return Ok(stats);
        }
        let tenant = self.head.tenant.clone();
        let batch = std::mem::replace(&mut self.batch, LogBatch::new(tenant));
        let unjudged = self.head.recovery.submitted();
        let (number, pending) = self.head.enqueue(batch, &*self.log).inspect_err(|_| {
            if unjudged {
                self.head.recovery.withdrawn();
            }
        })?;
        let (before, late) = (std::mem::take(&mut self.undo), std::mem::take(&mut self.late));
        self.admission.submitted(number, before, late);
        self.submitted = true;
        // The lock goes before the wait, so that other batches join the same group.
        drop(self);
        pending()?;
        Ok(stats)
    }
}

impl Drop for HeadAppender {
    fn drop(&mut self) {
        if !self.submitted {
            self.roll_back();
        }
    }
}
