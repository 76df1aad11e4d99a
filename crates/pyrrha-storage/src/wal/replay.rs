//! Reads the log back, past whatever is damaged.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use pyrrha_encoding::DecodeError;
use pyrrha_env::Disk;
use pyrrha_model::TenantId;

use super::damage::{Damage, DamageReason, DamageReport};
use super::definitions::{Defined, RefSet};
use super::frame::FrameHeader;
use super::metrics::WalMetrics;
use super::record::{self, BATCH};
use super::recover::Planned;
use super::walk::{Step, VOID, step};
use super::{LogBatch, LogEntry, LogPosition};

/// The definitions and batches of the log from a position on, in log order. It reads what was there
/// when the log was opened, whatever is written meanwhile.
pub struct Replay {
    disk: Arc<dyn Disk>,
    metrics: Arc<WalMetrics>,
    from: LogPosition,
    plan: VecDeque<Planned>,
    current: Option<Reading>,
    ready: VecDeque<LogEntry>,
    report: DamageReport,
    buffer: Vec<u8>,
    tenant: Option<TenantId>,
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
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        metrics: Arc<WalMetrics>,
        from: LogPosition,
        plan: Vec<Planned>,
        report: DamageReport,
    ) -> Self {
        let total_bytes = plan.iter().map(|p| p.ended.end).sum();
        Self {
            disk,
            metrics,
            from,
            plan: plan.into(),
            current: None,
            ready: VecDeque::new(),
            report,
            buffer: Vec::new(),
            tenant: None,
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

    /// Reads frames until an entry is ready; false at the end of the log.
    fn advance(&mut self) -> bool {
        loop {
            if !self.ready.is_empty() {
                return true;
            }
            let Some(mut current) = self.current.take().or_else(|| self.open_next()) else { return false };
            if self.read_frame(&mut current) {
                self.current = Some(current);
            } else {
                self.read_bytes += current.segment.ended.end;
            }
        }
    }

    fn open_next(&mut self) -> Option<Reading> {
        while let Some(segment) = self.plan.pop_front() {
            match self.disk.map(&segment.path) {
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
    fn read_frame(&mut self, current: &mut Reading) -> bool {
        let bytes = current.bytes.clone();
        let start = current.at;
        match step(&bytes, start, current.segment.key) {
            Step::Frame { header, payload, next } => {
                current.at = next;
                if header.kind == VOID {
                    current.torn = true;
                    (current.records, current.samples) = (header.records_before, header.samples_before);
                    return true;
                }
                self.account(current, start, start, &header);
                current.records = header.records_before.wrapping_add(1);
                current.samples = header.samples_before.wrapping_add(header.samples);
                self.take_frame(current, start, &header, payload);
                true
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
                true
            }
            Step::End => {
                let ended = current.segment.ended;
                if current.records != ended.records {
                    let records = ended.records.wrapping_sub(current.records);
                    let samples = ended.samples.wrapping_sub(current.samples);
                    self.lose(current, start, ended.end as usize, Some((records, samples)));
                }
                false
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

    fn take_frame(&mut self, current: &mut Reading, at: usize, header: &FrameHeader, payload: &[u8]) {
        let position = LogPosition { segment: current.segment.ended.number, offset: at as u64 };
        let damage = |reason, records, samples| Damage {
            segment: position.segment,
            offset: position.offset,
            bytes: u64::from(header.len),
            records: Some(records),
            samples: Some(samples),
            reason,
        };
        let undefined = match header.kind {
            BATCH => self.take_batch(current, position, payload),
            _ => Err(DecodeError::Malformed { part: "record kind" }),
        };
        match undefined {
            Ok(0) => {}
            Ok(samples) => self.add(Damage { bytes: 0, ..damage(DamageReason::Undefined, 0, samples) }),
            Err(error) => {
                tracing::error!(%error, segment = position.segment, offset = position.offset, "malformed log record");
                self.add(damage(DamageReason::Malformed, 1, u64::from(header.samples)));
            }
        }
    }

    /// Reads a batch with its definitions; gives the number of its samples that nobody can place.
    fn take_batch(
        &mut self,
        current: &mut Reading,
        position: LogPosition,
        payload: &[u8],
    ) -> Result<u64, DecodeError> {
        let sections = record::sections(payload)?;
        let tenant = match &self.tenant {
            Some(tenant) if tenant.as_str() == sections.tenant => tenant.clone(),
            _ => TenantId::new(sections.tenant).map_err(|_| DecodeError::Malformed { part: "tenant" })?,
        };
        self.tenant = Some(tenant.clone());
        let (ready, buffer, defined) = (&mut self.ready, &mut self.buffer, &mut current.defined);
        if !sections.symbols.is_empty() {
            defined.take_symbols(sections.symbols.body(buffer)?)?;
        }
        if !sections.series.is_empty() {
            defined.take_series(&tenant, sections.series.body(buffer)?, &mut |series, labels| {
                ready.push_back(LogEntry::Series { tenant: tenant.clone(), series, labels });
            })?;
        }
        if position < self.from {
            return Ok(0);
        }
        let mut batch = record::decode_batch(&sections, tenant.clone(), buffer)?;
        let undefined = drop_undefined(&mut batch, defined.of(&tenant));
        if current.torn && undefined > 0 {
            return Ok(0);
        }
        if undefined > 0 && batch.is_empty() {
            return Ok(undefined);
        }
        self.metrics.replayed_records.add(1);
        self.metrics.replayed_samples.add(batch.samples() as u64);
        ready.push_back(LogEntry::Batch { position, batch });
        Ok(undefined)
    }
}

impl Iterator for Replay {
    type Item = LogEntry;

    fn next(&mut self) -> Option<LogEntry> {
        if self.advance() { self.ready.pop_front() } else { None }
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
    let before = batch.samples();
    batch.histograms.retain(|h| defined.contains(h.series));
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
