//! Reads the log back, past whatever is damaged.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use pyrrha_encoding::DecodeError;
use pyrrha_env::Disk;
use pyrrha_model::{Labels, TenantId};

use super::damage::{Damage, DamageReason, DamageReport};
use super::definitions::{Defined, RefSet};
use super::frame::FrameHeader;
use super::metrics::WalMetrics;
use super::record::{self, BATCH};
use super::recover::{Planned, Recovered};
use super::walk::{Step, VOID, step};
use super::{LogBatch, LogDelete, LogEntry, LogPosition, WalError};

/// What a log held when it was opened, before anybody has said where replay starts.
#[derive(Debug)]
pub struct OldLog {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) metrics: Arc<WalMetrics>,
    pub(super) recovered: Recovered,
}

impl OldLog {
    /// Reads everything from `from` on, and fails if anything of it is damaged.
    pub fn check(&self, from: LogPosition) -> Result<(), WalError> {
        let mut replay = self.reader(from, Arc::default());
        while replay.next().is_some() {}
        if replay.report().is_clean() { Ok(()) } else { Err(WalError::Damaged(replay.report().to_string())) }
    }

    /// The same, not counted: for a look ahead.
    pub fn survey(&self, from: LogPosition) -> Replay {
        self.reader(from, Arc::default())
    }

    /// The definitions and batches from `from` on.
    pub fn replay(&self, from: LogPosition) -> Replay {
        self.reader(from, self.metrics.clone())
    }

    fn reader(&self, from: LogPosition, metrics: Arc<WalMetrics>) -> Replay {
        let plan = self.recovered.plan.iter().filter(|p| p.ended.number >= from.segment).cloned().collect();
        let mut replay = Replay::new(self.disk.clone(), metrics, from, plan);
        replay.report.torn_bytes = self.recovered.torn_bytes;
        for damage in self.recovered.lost.iter().filter(|d| d.segment >= from.segment) {
            replay.add(damage.clone());
        }
        replay
    }
}

/// Takes what replay reads, in log order.
pub trait ReplaySink {
    /// Why a tenant cannot be had.
    type Error;

    /// What follows belongs to this tenant. After an error the same record can be read again.
    fn tenant(&mut self, tenant: &TenantId) -> Result<(), Self::Error>;

    /// From here on until it is defined anew, `series` of the tenant means these labels, which are
    /// sorted by name.
    fn series(&mut self, series: u32, labels: &[(&str, &str)]);

    /// A batch of the tenant, as [`LogEntry::Batch`].
    fn batch(&mut self, position: LogPosition, batch: LogBatch);
}

/// Keeps what is read for an iterator.
#[derive(Debug, Default)]
struct Entries {
    tenant: Option<TenantId>,
    ready: VecDeque<LogEntry>,
}

impl ReplaySink for Entries {
    type Error = std::convert::Infallible;

    fn tenant(&mut self, tenant: &TenantId) -> Result<(), Self::Error> {
        self.tenant = Some(tenant.clone());
        Ok(())
    }

    fn series(&mut self, series: u32, labels: &[(&str, &str)]) {
        let Some(tenant) = self.tenant.clone() else { return };
        let labels = Labels::from_pairs(labels.iter().copied());
        self.ready.push_back(LogEntry::Series { tenant, series, labels });
    }

    fn batch(&mut self, position: LogPosition, batch: LogBatch) {
        self.ready.push_back(LogEntry::Batch { position, batch });
    }
}

/// The definitions and batches of the log from a position on, in log order. It reads what was there
/// when the log was opened, whatever is written meanwhile.
pub struct Replay {
    disk: Arc<dyn Disk>,
    metrics: Arc<WalMetrics>,
    from: LogPosition,
    plan: VecDeque<Planned>,
    current: Option<Reading>,
    entries: Entries,
    report: DamageReport,
    buffer: Vec<u8>,
    tenant: Option<TenantId>,
    /// First and last segment of the plan.
    segments: (u64, u64),
    read_bytes: u64,
    total_bytes: u64,
}

/// A segment that is being read.
struct Reading {
    bytes: Bytes,
    at: usize,
    segment: Planned,
    defined: Defined,
    /// Records and samples that the next frame should say came before it.
    records: u32,
    samples: u32,
    /// What follows belongs to a torn group, which nobody has acknowledged: a batch in it that lost
    /// a definition is no loss, and is left out whole.
    torn: bool,
}

impl Replay {
    fn new(disk: Arc<dyn Disk>, metrics: Arc<WalMetrics>, from: LogPosition, plan: Vec<Planned>) -> Self {
        let total_bytes = plan.iter().map(|p| p.ended.end).sum();
        let number = |p: Option<&Planned>| p.map_or(0, |p| p.ended.number);
        let segments = (number(plan.first()), number(plan.last()));
        Self {
            disk,
            metrics,
            from,
            plan: plan.into(),
            current: None,
            entries: Entries::default(),
            report: DamageReport::default(),
            buffer: Vec::new(),
            tenant: None,
            segments,
            read_bytes: 0,
            total_bytes,
        }
    }

    /// The damage found so far; complete once the iterator has ended.
    pub fn report(&self) -> &DamageReport {
        &self.report
    }

    /// Bytes read so far, and bytes there are to read.
    pub fn progress(&self) -> (u64, u64) {
        let current = self.current.as_ref().map_or(0, |c| c.at as u64);
        (self.read_bytes + current, self.total_bytes)
    }

    /// First and last segment there are to read, and the one being read.
    pub fn segments(&self) -> (u64, u64, u64) {
        let (first, last) = self.segments;
        (first, last, self.current.as_ref().map_or(last, |c| c.segment.ended.number))
    }

    /// Between two segments, the number of the next.
    pub fn next_segment(&self) -> Option<u64> {
        if self.current.is_some() { None } else { self.plan.front().map(|p| p.ended.number) }
    }

    /// Reads one frame or passes one gap; false at the end of the log.
    pub fn step<S: ReplaySink>(&mut self, sink: &mut S) -> Result<bool, S::Error> {
        let Some(mut current) = self.current.take().or_else(|| self.open_next()) else { return Ok(false) };
        let at = current.at;
        match self.read_frame(&mut current, sink) {
            Ok(true) => self.current = Some(current),
            Ok(false) => self.read_bytes += current.segment.ended.end,
            Err(error) => {
                current.at = at;
                self.current = Some(current);
                return Err(error);
            }
        }
        Ok(true)
    }

    fn open_next(&mut self) -> Option<Reading> {
        while let Some(segment) = self.plan.pop_front() {
            let marked = segment.marked.clone();
            match marked.map_or_else(|| self.disk.map(&segment.path), Ok) {
                Ok(bytes) => {
                    let end = usize::try_from(segment.ended.end).unwrap_or(usize::MAX);
                    let bytes = bytes.slice(..end.min(bytes.len()));
                    let at = segment.first;
                    let defined = Defined::default();
                    return Some(Reading {
                        bytes,
                        at,
                        segment,
                        defined,
                        records: 0,
                        samples: 0,
                        torn: false,
                    });
                }
                Err(error) => {
                    tracing::error!(%error, segment = segment.ended.number, "log segment is not readable");
                    self.add(Damage {
                        segment: segment.ended.number,
                        offset: 0,
                        bytes: segment.ended.end,
                        records: Some(u64::from(segment.ended.records)),
                        samples: Some(u64::from(segment.ended.samples)),
                        reason: DamageReason::Unreadable,
                    });
                }
            }
        }
        None
    }

    /// Reads one frame or passes one gap; false at the segment's end.
    fn read_frame<S: ReplaySink>(&mut self, current: &mut Reading, sink: &mut S) -> Result<bool, S::Error> {
        let bytes = current.bytes.clone();
        let start = current.at;
        match step(&bytes, start, current.segment.key) {
            Step::Frame { header, payload, next } => {
                current.at = next;
                if header.kind == VOID {
                    current.torn = true;
                    (current.records, current.samples) = (header.records_before, header.samples_before);
                    return Ok(true);
                }
                let taken = self.take_frame(current, start, &header, payload, sink)?;
                self.account(current, start, start, &header);
                current.records = header.records_before.wrapping_add(1);
                current.samples = header.samples_before.wrapping_add(header.samples);
                if let Some(damage) = taken {
                    self.add(damage);
                }
                Ok(true)
            }
            Step::Gap { next, .. } => {
                current.at = next;
                match step(&bytes, next, current.segment.key) {
                    // Two gaps in a row are told as two; the first does not know its share.
                    Step::Gap { .. } => self.lose(current, start, next, Some((0, 0))),
                    Step::Frame { header, .. } => {
                        self.account(current, start, next, &header);
                        current.records = header.records_before;
                        current.samples = header.samples_before;
                    }
                    Step::End => {
                        let ended = current.segment.ended;
                        let records = ended.records.wrapping_sub(current.records);
                        let samples = ended.samples.wrapping_sub(current.samples);
                        self.lose(current, start, next, Some((records, samples)));
                        (current.records, current.samples) = (ended.records, ended.samples);
                    }
                }
                Ok(true)
            }
            Step::End => {
                let ended = current.segment.ended;
                if current.records != ended.records {
                    let records = ended.records.wrapping_sub(current.records);
                    let samples = ended.samples.wrapping_sub(current.samples);
                    self.lose(current, start, ended.end as usize, Some((records, samples)));
                }
                Ok(false)
            }
        }
    }

    /// Compares what a frame says came before it with what was read; `start..end` is the gap.
    fn account(&mut self, current: &mut Reading, start: usize, end: usize, header: &FrameHeader) {
        let records = header.records_before.wrapping_sub(current.records);
        let samples = header.samples_before.wrapping_sub(current.samples);
        if records == 0 && start == end {
            return;
        }
        self.lose(current, start, end, Some((records, samples)));
    }

    fn lose(&mut self, current: &Reading, start: usize, end: usize, known: Option<(u32, u32)>) {
        // Before the wanted position it is no loss.
        let segment = current.segment.ended.number;
        if (LogPosition { segment, offset: end as u64 }) <= self.from {
            return;
        }
        self.add(Damage {
            segment,
            offset: start as u64,
            bytes: (end - start) as u64,
            records: known.map(|(records, _)| u64::from(records)),
            samples: known.map(|(_, samples)| u64::from(samples)),
            reason: DamageReason::Checksum,
        });
    }

    fn add(&mut self, damage: Damage) {
        self.metrics.damaged(&damage);
        self.report.add(damage);
    }

    /// Reads the frame of a record; gives what of it is lost.
    fn take_frame<S: ReplaySink>(
        &mut self,
        current: &mut Reading,
        at: usize,
        header: &FrameHeader,
        payload: &[u8],
        sink: &mut S,
    ) -> Result<Option<Damage>, S::Error> {
        let position = LogPosition { segment: current.segment.ended.number, offset: at as u64 };
        let damage = |reason, bytes, records, samples| Damage {
            segment: position.segment,
            offset: position.offset,
            bytes,
            records: Some(records),
            samples: Some(samples),
            reason,
        };
        let undefined = match self.record_of(header, payload) {
            Ok((sections, tenant)) => {
                sink.tenant(&tenant)?;
                self.take_batch(current, position, &sections, &tenant, sink)
            }
            Err(error) => Err(error),
        };
        Ok(match undefined {
            Ok(0) => None,
            Ok(samples) => Some(damage(DamageReason::Undefined, 0, 0, samples)),
            Err(error) => {
                tracing::error!(%error, segment = position.segment, offset = position.offset, "malformed log record");
                Some(damage(DamageReason::Malformed, u64::from(header.len), 1, u64::from(header.samples)))
            }
        })
    }

    fn record_of<'a>(
        &mut self,
        header: &FrameHeader,
        payload: &'a [u8],
    ) -> Result<(record::Sections<'a>, TenantId), DecodeError> {
        if header.kind != BATCH {
            return Err(DecodeError::Malformed { part: "record kind" });
        }
        let sections = record::sections(payload)?;
        let tenant = match &self.tenant {
            Some(tenant) if tenant.as_str() == sections.tenant => tenant.clone(),
            _ => TenantId::new(sections.tenant).map_err(|_| DecodeError::Malformed { part: "tenant" })?,
        };
        self.tenant = Some(tenant.clone());
        Ok((sections, tenant))
    }

    /// Reads a batch with its definitions; gives the number of its samples that nobody can place.
    fn take_batch<S: ReplaySink>(
        &mut self,
        current: &mut Reading,
        position: LogPosition,
        sections: &record::Sections<'_>,
        tenant: &TenantId,
        sink: &mut S,
    ) -> Result<u64, DecodeError> {
        let (buffer, defined) = (&mut self.buffer, &mut current.defined);
        if !sections.symbols.is_empty() {
            defined.take_symbols(sections.symbols.body(buffer)?)?;
        }
        if !sections.series.is_empty() {
            let give = |series, labels: &[(&str, &str)]| sink.series(series, labels);
            defined.take_series(tenant, sections.series.body(buffer)?, give)?;
        }
        if position < self.from {
            return Ok(0);
        }
        let mut batch = record::decode_batch(sections, tenant.clone(), buffer)?;
        let undefined = drop_undefined(&mut batch, defined.of(tenant));
        if current.torn && undefined > 0 {
            return Ok(0);
        }
        if undefined > 0 && batch.is_empty() {
            return Ok(undefined);
        }
        self.metrics.replayed_records.add(1);
        self.metrics.replayed_samples.add(batch.samples() as u64);
        sink.batch(position, batch);
        Ok(undefined)
    }
}

impl Iterator for Replay {
    type Item = LogEntry;

    fn next(&mut self) -> Option<LogEntry> {
        loop {
            if let Some(entry) = self.entries.ready.pop_front() {
                return Some(entry);
            }
            let mut entries = std::mem::take(&mut self.entries);
            let Ok(more) = self.step(&mut entries);
            self.entries = entries;
            if !more && self.entries.ready.is_empty() {
                return None;
            }
        }
    }
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay")
            .field("from", &self.from)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

/// Removes what refers to series whose definition was lost; gives the number of samples removed.
fn drop_undefined(batch: &mut LogBatch, defined: Option<&RefSet>) -> u64 {
    let none = RefSet::default();
    let defined = defined.unwrap_or(&none);
    batch.exemplars.retain(|(series, _)| defined.contains(*series));
    for hidden in batch.deletes.iter_mut().filter_map(LogDelete::hidden_mut) {
        hidden.retain(|(series, _)| defined.contains(*series));
    }
    let before = batch.samples();
    batch.histograms.retain(|h| defined.contains(h.series));
    batch.late.retain(|h| defined.contains(h.series));
    if !batch.refs.iter().all(|&series| defined.contains(series)) {
        let keep: Vec<bool> = batch.refs.iter().map(|&series| defined.contains(series)).collect();
        retain(&mut batch.refs, &keep);
        retain(&mut batch.times, &keep);
        retain(&mut batch.values, &keep);
        retain(&mut batch.starts, &keep);
    }
    (before - batch.samples()) as u64
}

fn retain<T>(column: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    column.retain(|_| keep.next().copied().unwrap_or(false));
}
