//! Writes groups of batches to segments, and gives a segment up when the disk fails it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyrrha_env::{Clock, Disk, DiskFile};

use super::definitions::{Definer, NewDefinitions};
use super::frame::{self, FrameHeader, SegmentKey};
use super::metrics::WalMetrics;
use super::record::{BATCH, RecordEncoder};
use super::segment::{self, Ended, MAX_LISTED};
use super::{LogBatch, LogPosition, WalError, WalSink};

/// Most segments without records that may lie around on a failing disk.
const MAX_EMPTY: usize = 256;

/// A segment that is being written.
struct OpenSegment {
    key: SegmentKey,
    file: Box<dyn DiskFile>,
    first: u64,
    offset: u64,
    records: u32,
    samples: u32,
    group: u16,
    definer: Definer,
}

impl OpenSegment {
    fn is_empty(&self) -> bool {
        self.offset == self.first
    }

    fn ended(&self) -> Ended {
        Ended { number: self.key.number, end: self.offset, records: self.records, samples: self.samples }
    }
}

/// The end of the log.
pub(super) struct Writer {
    pub(super) dir: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<WalMetrics>,
    pub(super) segment_bytes: u64,
    /// The segments there are, oldest first, without the open one.
    pub(super) closed: Vec<Ended>,
    /// Number of the next segment.
    pub(super) next: u64,
    open: Option<OpenSegment>,
    buffer: Vec<u8>,
    encoder: RecordEncoder,
    definitions: NewDefinitions,
}

impl Writer {
    pub(super) fn new(
        dir: &Path,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        metrics: Arc<WalMetrics>,
        segment_bytes: u64,
    ) -> Self {
        Self {
            dir: dir.to_path_buf(),
            disk,
            clock,
            metrics,
            segment_bytes,
            closed: Vec::new(),
            next: 0,
            open: None,
            buffer: Vec::new(),
            encoder: RecordEncoder::default(),
            definitions: NewDefinitions::default(),
        }
    }

    /// Where the next record will start.
    pub(super) fn position(&self) -> LogPosition {
        match &self.open {
            Some(open) if open.is_empty() => LogPosition { segment: open.key.number, offset: 0 },
            Some(open) => LogPosition { segment: open.key.number, offset: open.offset },
            None => LogPosition { segment: self.next, offset: 0 },
        }
    }

    /// Makes batches durable. If the disk fails the segment, they are written once more to a new
    /// one; a failed sync is never tried again on the same file.
    pub(super) fn commit(
        &mut self,
        batches: &[LogBatch],
        sink: &dyn WalSink,
    ) -> Result<LogPosition, WalError> {
        if batches.iter().all(LogBatch::is_empty) {
            return Ok(self.position());
        }
        let error = match self.try_commit(batches, sink) {
            Ok(()) => return Ok(self.position()),
            Err(error) => error,
        };
        tracing::warn!(%error, segment = self.position().segment, "log segment given up, its last group goes to a new one");
        self.give_up();
        let again = self.try_commit(batches, sink);
        if let Err(error) = &again {
            tracing::error!(%error, batches = batches.len(), "log group could not be made durable");
            self.give_up();
        }
        again.map(|()| self.position())
    }

    fn try_commit(&mut self, batches: &[LogBatch], sink: &dyn WalSink) -> Result<(), WalError> {
        self.encode(batches, sink)?;
        let full = |open: &OpenSegment, bytes: usize| {
            open.offset + bytes as u64 > self.segment_bytes && !open.is_empty()
        };
        if self.open.as_ref().is_some_and(|open| full(open, self.buffer.len())) {
            self.cut();
            self.encode(batches, sink)?;
        }
        let Some(open) = &mut self.open else { return Err(WalError::Closed) };
        let path = || segment::path(&self.dir, open.key.number);
        open.file.write_at(open.offset, &self.buffer).map_err(|e| WalError::io("write", path(), e))?;
        let before = self.clock.monotonic();
        open.file.sync_data().map_err(|e| WalError::io("sync", path(), e))?;
        self.metrics.synced(self.clock.monotonic().saturating_sub(before));
        let records = batches.iter().filter(|b| !b.is_empty()).count();
        let samples: usize = batches.iter().map(LogBatch::samples).sum();
        open.offset += self.buffer.len() as u64;
        open.group = open.group.wrapping_add(1);
        open.records = open.records.wrapping_add(records as u32);
        open.samples = open.samples.wrapping_add(samples as u32);
        self.metrics.records.add(records as u64);
        self.metrics.samples.add(samples as u64);
        self.metrics.bytes.add(self.buffer.len() as u64);
        Ok(())
    }

    /// Fills the buffer with the frames of a group, for the open segment.
    fn encode(&mut self, batches: &[LogBatch], sink: &dyn WalSink) -> Result<(), WalError> {
        if self.open.is_none() {
            self.open = Some(self.create()?);
        }
        let Some(open) = &mut self.open else { return Err(WalError::Closed) };
        self.buffer.clear();
        let last = batches.iter().rposition(|b| !b.is_empty());
        let (mut records, mut samples) = (open.records, open.samples);
        for (i, batch) in batches.iter().enumerate().filter(|(_, b)| !b.is_empty()) {
            open.definer.define(batch, sink, &mut self.definitions);
            let defined = self.definitions.symbols.len() + self.definitions.series.len();
            self.metrics.definition_bytes.add(defined as u64);
            let start = frame::begin(&mut self.buffer);
            self.encoder.encode(&mut self.buffer, batch, &self.definitions);
            let header = FrameHeader {
                len: 0,
                kind: BATCH,
                last: Some(i) == last,
                group: open.group,
                records_before: records,
                samples_before: samples,
                samples: batch.samples() as u32,
            };
            frame::finish(&mut self.buffer, start, header, open.key, open.offset + start as u64)?;
            records = records.wrapping_add(1);
            samples = samples.wrapping_add(batch.samples() as u32);
        }
        Ok(())
    }

    fn create(&mut self) -> Result<OpenSegment, WalError> {
        self.sweep_empty()?;
        let number = self.next;
        let path = segment::path(&self.dir, number);
        let file = self.disk.create_new(&path).map_err(|e| WalError::io("create", &path, e))?;
        // Whatever happens now, this number is used up.
        self.next += 1;
        let created = self.prepare(number, &*file, &path);
        match created {
            Ok((key, first)) => Ok(OpenSegment {
                key,
                file,
                first,
                offset: first,
                records: 0,
                samples: 0,
                group: 0,
                definer: Definer::default(),
            }),
            Err(error) => {
                self.drop_empty(number);
                Err(error)
            }
        }
    }

    fn prepare(
        &mut self,
        number: u64,
        file: &dyn DiskFile,
        path: &Path,
    ) -> Result<(SegmentKey, u64), WalError> {
        let now = self.clock.now_ms();
        // Guessing it is what a sender would have to do to make label bytes look like a record.
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        seed[8..16].copy_from_slice(&now.to_le_bytes());
        seed[16..].copy_from_slice(&self.clock.monotonic().as_nanos().to_le_bytes());
        let key = SegmentKey { number, nonce: xxhash_rust::xxh3::xxh3_64(&seed) };
        let listed = &self.closed[self.closed.len().saturating_sub(MAX_LISTED)..];
        let header = segment::encode_header(key, now, listed);
        match file.allocate(self.segment_bytes.max(header.len() as u64)) {
            // What a full disk still has is used record by record.
            Err(e) if e.kind() == std::io::ErrorKind::StorageFull => {}
            result => result.map_err(|e| WalError::io("allocate", path, e))?,
        }
        file.write_at(0, &header).map_err(|e| WalError::io("write", path, e))?;
        // The header is durable before the first record is written: a readable record always has
        // a readable header, unless damage struck.
        file.sync_data().map_err(|e| WalError::io("sync", path, e))?;
        self.disk.sync_dir(&self.dir).map_err(|e| WalError::io("sync directory", &self.dir, e))?;
        Ok((key, header.len() as u64))
    }

    /// Ends the open segment, unless it is empty; the next group starts a new one.
    pub(super) fn cut(&mut self) {
        if let Some(open) = self.open.take_if(|open| !open.is_empty()) {
            // Only saves space: zeros are as good an end.
            let _ = open.file.set_len(open.offset);
            self.closed.push(open.ended());
        }
    }

    /// Ends the open segment after a failure. What was written beyond its end may be there or not;
    /// the headers of later segments tell readers to ignore it.
    fn give_up(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.metrics.failed_segments.add(1);
        if open.is_empty() {
            self.drop_empty(open.key.number);
        } else {
            self.closed.push(open.ended());
        }
    }

    /// Removes a segment without records. While it is not sure to be gone, it stays listed as
    /// empty, so that nobody reads what a failed write may have left in it.
    fn drop_empty(&mut self, number: u64) {
        let removed = self.disk.remove_file(&segment::path(&self.dir, number));
        if removed.and_then(|()| self.disk.sync_dir(&self.dir)).is_err() {
            self.closed.push(Ended { number, end: 0, records: 0, samples: 0 });
        }
    }

    /// Tries again to get rid of empty segments; refuses to pile up more of them than a header lists.
    fn sweep_empty(&mut self) -> Result<(), WalError> {
        let empty: Vec<u64> = self.closed.iter().filter(|e| e.end == 0).map(|e| e.number).collect();
        if empty.len() < MAX_EMPTY {
            return Ok(());
        }
        for number in empty {
            let path = segment::path(&self.dir, number);
            match self.disk.remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(WalError::io("remove", &path, e));
                }
                _ => {}
            }
        }
        self.disk.sync_dir(&self.dir).map_err(|e| WalError::io("sync directory", &self.dir, e))?;
        self.closed.retain(|e| e.end != 0);
        Ok(())
    }

    /// Deletes the segments before `number`, oldest first, so that what remains has no holes. One
    /// that was never readable is set aside instead.
    pub(super) fn truncate(&mut self, number: u64) -> Result<(), WalError> {
        while let Some(oldest) = self.closed.first().filter(|oldest| oldest.number < number) {
            let path = segment::path(&self.dir, oldest.number);
            // What could not be read when the log was opened may be readable some other day.
            let gone = match oldest.end {
                segment::UNKNOWN => self.disk.rename(&path, &path.with_extension("wal-unreadable")),
                _ => self.disk.remove_file(&path),
            };
            match gone {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(WalError::io("remove", &path, e));
                }
                _ => {}
            }
            self.disk.sync_dir(&self.dir).map_err(|e| WalError::io("sync directory", &self.dir, e))?;
            self.closed.remove(0);
        }
        Ok(())
    }

    /// Segments with their bytes, oldest first.
    pub(super) fn sizes(&self) -> Vec<(u64, u64)> {
        let open = self.open.iter().map(|open| (open.key.number, open.offset));
        let known = |e: &Ended| (e.number, if e.end == segment::UNKNOWN { 0 } else { e.end });
        self.closed.iter().map(known).chain(open).collect()
    }

    /// Segments and bytes of the log.
    pub(super) fn size(&self) -> (u64, u64) {
        self.sizes().into_iter().fold((0, 0), |(n, sum), (_, bytes)| (n + 1, sum + bytes))
    }
}
