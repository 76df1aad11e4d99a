//! A head as sections of a checkpoint, and back. Format: docs/format/head.md.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use pyrrha_encoding::DecodeError;
use pyrrha_encoding::varint::{
    put_uvarint, put_varint, take_array, take_count, take_length_prefixed, take_u8, take_u64, take_uvarint,
    take_uvarint32, take_varint,
};
use pyrrha_env::Disk;
use pyrrha_index::RoaringBitmap;
use pyrrha_model::contract::DeleteId;
use pyrrha_model::{ChunkEncoding, Exemplar, LabelsBuilder, Metadata, TimeRange, Timestamp};

use super::admission::{Newest, is_cut};
use super::checkpoint_late::{LATE_RANGE, LATE_SERIES, NEWEST};
use super::chunk_store::{Place, SegmentFile, Shelf, file_name};
use super::data::{HeadData, RangeInfo};
use super::exemplars::RingItem;
use super::sealed::{NONE, Sealed};
use super::{Directory, Head};
use crate::metric_type;
use crate::wal::checkpoint::CheckpointWriter;
use crate::wal::{LogPosition, WalError, put_delete, put_hidden, take_delete, take_hidden};

/// A tenant begins: its id.
pub(crate) const TENANT: u32 = 1;
/// Strings of the next symbol ids.
const SYMBOLS: u32 = 2;
/// Head chunk files: number, range start, length.
const FILES: u32 = 3;
/// Ranges with samples in the log.
const RANGES: u32 = 4;
/// Series with what they have.
const SERIES: u32 = 5;
/// Metadata by metric family.
const METADATA: u32 = 6;
/// Exemplars by series, as numbered in this checkpoint.
const EXEMPLARS: u32 = 7;
/// Deletes that stand, with what they hide of the series of this checkpoint.
const DELETES: u32 = 9;
/// Samples that came after a delete into what it hides.
const SHOWN: u32 = 12;

/// Series in one section, captured under one hold of the lock.
pub(super) const SLICE: usize = 1024;
/// Bytes of symbols in one section, about.
const SYMBOL_BYTES: usize = 1 << 20;
/// Where a sealed chunk is: in a file, or in the checkpoint.
const IN_FILE: u8 = 0;
const INLINE: u8 = 1;

/// Lengths of head chunk files, as far as they are synced, with what is in them.
pub(crate) type SyncedFiles = BTreeMap<u32, (Shelf, u32)>;

/// Series as a checkpoint numbers them.
struct Numbers {
    /// By reference.
    of: Vec<u32>,
    next: u32,
    /// These are written even without a sample.
    with_exemplars: RoaringBitmap,
}

impl Head {
    /// Makes all chunks that are sealed by now durable in files.
    pub(crate) fn sync_chunks(&self, disk: &dyn Disk, dir: &Path) -> io::Result<SyncedFiles> {
        self.write_chunks(disk, dir, true)?;
        let files: Vec<(u32, Shelf, u32, Option<Arc<SegmentFile>>)> = {
            let data = self.data.read();
            data.store.segments().map(|(n, shelf, len, file)| (n, shelf, len, file.cloned())).collect()
        };
        let mut synced = SyncedFiles::new();
        for (number, shelf, len, file) in files {
            // Files of earlier runs were synced by them.
            if len > 0 && file.is_none_or(|file| file.sync()) {
                synced.insert(number, (shelf, len));
            }
        }
        disk.sync_dir(dir)?;
        Ok(synced)
    }

    /// Writes what the head has. What is appended meanwhile may be in it or not: the log has it.
    pub(crate) fn write_checkpoint(
        &self,
        out: &mut CheckpointWriter,
        synced: &SyncedFiles,
    ) -> Result<(), WalError> {
        out.section(TENANT, self.tenant.as_str().as_bytes())?;
        let bound = self.write_symbols(out)?;
        let mut buffer = Vec::new();
        let in_order = || synced.iter().filter(|(_, (shelf, _))| shelf.late == 0);
        put_uvarint(&mut buffer, in_order().count() as u64);
        for (&number, &(shelf, len)) in in_order() {
            put_uvarint(&mut buffer, number.into());
            put_varint(&mut buffer, shelf.start);
            put_uvarint(&mut buffer, len.into());
        }
        out.section(FILES, &buffer)?;
        buffer.clear();
        self.put_ranges(&mut buffer);
        out.section(RANGES, &buffer)?;
        let mut numbers = Numbers {
            of: vec![u32::MAX; bound],
            next: 0,
            with_exemplars: self.extras.read().exemplars.series(),
        };
        for first in (0..bound).step_by(SLICE) {
            buffer.clear();
            self.put_series(&mut buffer, first..bound.min(first + SLICE), synced, &mut numbers);
            out.section(SERIES, &buffer)?;
        }
        self.write_late(out, synced, &numbers.of)?;
        self.write_extras(out, &numbers.of)?;
        buffer.clear();
        let shown = self.put_deletes(&mut buffer, &numbers.of);
        out.section(DELETES, &buffer)?;
        if shown.is_empty() { Ok(()) } else { out.section(SHOWN, &shown) }
    }

    /// Gives what a section of its own says.
    fn put_deletes(&self, out: &mut Vec<u8>, numbers: &[u32]) -> Vec<u8> {
        let mut shown = Vec::new();
        let data = self.data.read();
        out.extend_from_slice(&data.deletes.last.0.to_be_bytes());
        for standing in data.deletes.iter() {
            put_delete(out, &standing.delete);
            put_uvarint(out, standing.logged_at.segment);
            put_uvarint(out, standing.logged_at.offset);
            let number = |&(series, end): &(u32, Timestamp)| {
                let number = numbers.get(series as usize).copied().filter(|n| *n != u32::MAX)?;
                Some((number, end))
            };
            put_hidden(out, &standing.hidden.iter().filter_map(number).collect::<Vec<_>>());
            for (series, t) in standing.shown.iter().filter_map(number) {
                shown.extend_from_slice(&standing.delete.id.0.to_be_bytes());
                put_uvarint(&mut shown, series.into());
                put_varint(&mut shown, t);
            }
        }
        shown
    }

    /// Returns the number of references that the symbols suffice for.
    fn write_symbols(&self, out: &mut CheckpointWriter) -> Result<usize, WalError> {
        let (texts, bound) = {
            let directory = self.directory.read();
            let mut sections = vec![Vec::new()];
            for id in 0..directory.symbols.id_bound() as u32 {
                if sections.last().is_some_and(|s: &Vec<u8>| s.len() > SYMBOL_BYTES) {
                    sections.push(Vec::new());
                }
                if let Some(section) = sections.last_mut() {
                    put_text(section, directory.symbols.get(id));
                }
            }
            (sections, directory.bound())
        };
        texts.iter().try_for_each(|section| out.section(SYMBOLS, section))?;
        Ok(bound)
    }

    fn put_ranges(&self, out: &mut Vec<u8>) {
        let data = self.data.read();
        put_uvarint(out, data.ranges.len() as u64);
        for (&start, info) in &data.ranges {
            put_varint(out, start);
            put_uvarint(out, info.logged_from.segment);
            put_uvarint(out, info.logged_from.offset);
            put_varint(out, info.min_time);
            put_varint(out, info.max_time);
        }
    }

    fn put_series(
        &self,
        out: &mut Vec<u8>,
        series: std::ops::Range<usize>,
        synced: &SyncedFiles,
        numbers: &mut Numbers,
    ) {
        let directory = self.directory.read();
        let data = self.data.read();
        for series in series {
            let (names, values) = directory.ids(series as u32);
            let hot = &data.hot[series];
            let wanted = hot.newest.t != Timestamp::MIN
                || numbers.with_exemplars.contains(series as u32)
                || data.late.has(series as u32);
            if names.is_empty() || !wanted {
                continue;
            }
            put_uvarint(out, names.len() as u64);
            for (&name, &value) in names.iter().zip(values) {
                put_uvarint(out, name.into());
                put_uvarint(out, value.into());
            }
            put_varint(out, hot.newest.t);
            out.extend_from_slice(&hot.newest.value.to_be_bytes());
            data.put_chunks(out, series as u32, synced);
            numbers.of[series] = numbers.next;
            numbers.next += 1;
        }
    }

    fn write_extras(&self, out: &mut CheckpointWriter, numbers: &[u32]) -> Result<(), WalError> {
        let (mut metadata, mut exemplars) = (Vec::new(), Vec::new());
        {
            let extras = self.extras.read();
            let from = extras.logged_from.unwrap_or_default();
            put_uvarint(&mut metadata, from.segment);
            put_uvarint(&mut metadata, from.offset);
            for (name, m) in &extras.metadata {
                put_text(&mut metadata, name);
                metadata.push(metric_type::byte(m.metric_type));
                put_text(&mut metadata, &m.help);
                put_text(&mut metadata, &m.unit);
            }
            for RingItem { series, exemplar, .. } in extras.exemplars.iter() {
                let number = numbers.get(*series as usize).copied().unwrap_or(u32::MAX);
                if number == u32::MAX {
                    continue;
                }
                put_uvarint(&mut exemplars, number.into());
                put_varint(&mut exemplars, exemplar.timestamp);
                exemplars.extend_from_slice(&exemplar.value.to_bits().to_be_bytes());
                put_uvarint(&mut exemplars, exemplar.labels.len() as u64);
                for label in &exemplar.labels {
                    put_text(&mut exemplars, &label.name);
                    put_text(&mut exemplars, &label.value);
                }
            }
        }
        out.section(METADATA, &metadata)?;
        out.section(EXEMPLARS, &exemplars)
    }
}

impl HeadData {
    /// Sealed chunks, oldest first, then the open one.
    fn put_chunks(&self, out: &mut Vec<u8>, series: u32, synced: &SyncedFiles) {
        let hot = &self.hot[series as usize];
        let mut list = Vec::new();
        let mut index = hot.tail;
        while index != NONE {
            let sealed = self.sealed.get(index);
            list.push(sealed);
            index = sealed.before;
        }
        put_uvarint(out, list.len() as u64);
        list.into_iter().rev().for_each(|sealed| self.put_sealed(out, sealed, synced));
        match self.open_chunk(hot, self.open_count(hot)) {
            Some((encoding, chunk)) => {
                out.push(encoding as u8);
                put_varint(out, hot.open_start());
                put_bytes(out, &chunk);
            }
            None => out.push(0),
        }
    }
}

impl HeadData {
    /// A sealed chunk: a place in a file, or the chunk itself.
    pub(super) fn put_sealed(&self, out: &mut Vec<u8>, sealed: &Sealed, synced: &SyncedFiles) {
        put_varint(out, sealed.min_time);
        put_uvarint(out, sealed.span.into());
        out.push(sealed.encoding);
        let Place { segment, offset, len } = sealed.place;
        if synced.get(&segment).is_some_and(|&(_, end)| offset + len <= end) {
            out.push(IN_FILE);
            put_uvarint(out, segment.into());
            put_uvarint(out, offset.into());
            put_uvarint(out, len.into());
        } else {
            out.push(INLINE);
            // A chunk that does not read back stays one: it is reported when it is asked for.
            put_bytes(out, &self.store.read(sealed.place, sealed.encoding()).unwrap_or_default());
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uvarint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take_text<'a>(input: &mut &'a [u8]) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(take_length_prefixed(input)?).map_err(|_| MALFORMED)
}

pub(super) const MALFORMED: DecodeError = DecodeError::Malformed { part: "head checkpoint" };

/// Fills a head from the sections of a checkpoint.
pub(crate) struct HeadRestorer<'a> {
    pub(super) head: &'a Head,
    disk: &'a dyn Disk,
    dir: &'a Path,
    /// Symbol ids of the checkpoint as ids of the head.
    symbols: Vec<u32>,
    /// Series of the checkpoint as references of the head.
    pub(super) series: Vec<u32>,
    /// The late range whose series come.
    pub(super) late: Option<u64>,
}

/// A sealed chunk of the checkpoint.
pub(super) struct SealedChunk<'a> {
    pub(super) min_time: Timestamp,
    pub(super) span: u32,
    pub(super) encoding: ChunkEncoding,
    stored: Stored<'a>,
}

enum Stored<'a> {
    File(Place),
    Inline(&'a [u8]),
}

impl<'a> HeadRestorer<'a> {
    pub(crate) fn new(head: &'a Head, disk: &'a dyn Disk, dir: &'a Path) -> Self {
        Self { head, disk, dir, symbols: Vec::new(), series: Vec::new(), late: None }
    }

    /// Takes a section after [`TENANT`]. After an error the head is of no use.
    pub(crate) fn section(&mut self, kind: u32, payload: &[u8]) -> Result<(), DecodeError> {
        match kind {
            SYMBOLS => self.take_symbols(payload),
            FILES => self.take_files(payload),
            RANGES => self.take_ranges(payload),
            SERIES => self.take_series(payload),
            METADATA => self.take_metadata(payload),
            EXEMPLARS => self.take_exemplars(payload),
            DELETES => self.take_deletes(payload),
            SHOWN => self.take_shown(payload),
            LATE_RANGE => self.take_late_range(payload),
            LATE_SERIES => self.take_late_series(payload),
            NEWEST => self.take_newest(payload),
            _ => Err(MALFORMED),
        }
    }

    fn take_symbols(&mut self, mut input: &[u8]) -> Result<(), DecodeError> {
        let mut directory = self.head.directory.write();
        while !input.is_empty() {
            let text = take_text(&mut input)?;
            self.symbols.push(directory.symbols.intern(text));
        }
        Ok(())
    }

    fn take_files(&mut self, mut input: &[u8]) -> Result<(), DecodeError> {
        let cut = self.head.admission.lock().cut.clone();
        for _ in 0..take_count(&mut input, 3)? {
            let number = take_uvarint32(&mut input)?;
            let start = take_varint(&mut input)?;
            let len = take_uvarint32(&mut input)? as usize;
            if !is_cut(&cut, start) {
                self.adopt(number, Shelf::in_order(start), len)?;
            }
        }
        Ok(())
    }

    pub(super) fn adopt(&self, number: u32, shelf: Shelf, len: usize) -> Result<(), DecodeError> {
        let mapped = self.disk.map(&self.dir.join(file_name(number, shelf))).unwrap_or_default();
        if mapped.len() < len {
            return Err(DecodeError::Truncated { part: "head chunk file" });
        }
        self.head.data.write().store.adopt(number, shelf, mapped.slice(..len));
        Ok(())
    }

    fn take_ranges(&mut self, mut input: &[u8]) -> Result<(), DecodeError> {
        let cut = self.head.admission.lock().cut.clone();
        let mut data = self.head.data.write();
        for _ in 0..take_count(&mut input, 5)? {
            let start = take_varint(&mut input)?;
            let logged_from =
                LogPosition { segment: take_uvarint(&mut input)?, offset: take_uvarint(&mut input)? };
            let (min_time, max_time) = (take_varint(&mut input)?, take_varint(&mut input)?);
            let appended = self.head.clock.monotonic();
            if !is_cut(&cut, start) {
                data.ranges
                    .insert(start, RangeInfo { logged_from, samples: 0, appended, min_time, max_time });
            }
        }
        Ok(())
    }

    fn take_series(&mut self, mut input: &[u8]) -> Result<(), DecodeError> {
        let cut = self.head.admission.lock().cut.clone();
        let mut directory = self.head.directory.write();
        let mut data = self.head.data.write();
        let mut pairs = Vec::new();
        while !input.is_empty() {
            pairs.clear();
            for _ in 0..take_count(&mut input, 2)? {
                let mut id =
                    || self.symbols.get(take_uvarint32(&mut input)? as usize).copied().ok_or(MALFORMED);
                pairs.push((id()?, id()?));
            }
            check_labels(&directory, &pairs)?;
            let series = directory.find_or_create_with_ids(&pairs);
            self.series.push(series);
            data.hot.grow(series as usize + 1);
            let t = take_varint(&mut input)?;
            let value = take_u64(&mut input)?;
            data.take_chunks(&mut input, series, &cut)?;
            data.hot[series as usize].newest = Newest { t, value };
        }
        Ok(())
    }

    fn take_metadata(&mut self, mut input: &[u8]) -> Result<(), DecodeError> {
        let mut extras = self.head.extras.write();
        let logged_from =
            LogPosition { segment: take_uvarint(&mut input)?, offset: take_uvarint(&mut input)? };
        extras.logged_from = Some(logged_from);
        while !input.is_empty() {
            let name = take_text(&mut input)?.to_owned();
            let metric_type = metric_type::of(take_u8(&mut input)?);
            let help = take_text(&mut input)?.to_owned();
            let unit = take_text(&mut input)?.to_owned();
            extras.set_metadata(&name, Metadata { metric_type, help, unit });
        }
        Ok(())
    }

    fn take_exemplars(&mut self, mut input: &[u8]) -> Result<(), DecodeError> {
        let mut extras = self.head.extras.write();
        while !input.is_empty() {
            let series = *self.series.get(take_uvarint32(&mut input)? as usize).ok_or(MALFORMED)?;
            let timestamp = take_varint(&mut input)?;
            let value = f64::from_bits(take_u64(&mut input)?);
            let mut labels = LabelsBuilder::default();
            for _ in 0..take_count(&mut input, 2)? {
                let name = take_text(&mut input)?;
                labels.set(name, take_text(&mut input)?);
            }
            let exemplar = Exemplar { labels: labels.build(), value, timestamp };
            extras.exemplars.push(series, exemplar, self.head.config.max_exemplars_per_tenant);
        }
        Ok(())
    }
}

impl HeadRestorer<'_> {
    fn take_deletes(&mut self, mut input: &[u8]) -> Result<(), DecodeError> {
        let last = u128::from_be_bytes(take_array(&mut input)?);
        let mut data = self.head.data.write();
        data.deletes.last = DeleteId(last);
        while !input.is_empty() {
            let delete = take_delete(&mut input)?;
            let position =
                LogPosition { segment: take_uvarint(&mut input)?, offset: take_uvarint(&mut input)? };
            let mut hidden = take_hidden(&mut input)?;
            for (series, _) in &mut hidden {
                *series = *self.series.get(*series as usize).ok_or(MALFORMED)?;
            }
            data.deletes.restore(delete, hidden, position);
        }
        Ok(())
    }

    fn take_shown(&mut self, mut input: &[u8]) -> Result<(), DecodeError> {
        let mut data = self.head.data.write();
        while !input.is_empty() {
            let id = DeleteId(u128::from_be_bytes(take_array(&mut input)?));
            let series = *self.series.get(take_uvarint32(&mut input)? as usize).ok_or(MALFORMED)?;
            data.deletes.restore_shown(id, series, take_varint(&mut input)?);
        }
        Ok(())
    }
}

/// Labels are what they were when they were accepted: sorted, unique, not empty.
fn check_labels(directory: &Directory, pairs: &[(u32, u32)]) -> Result<(), DecodeError> {
    let name = |pair: &(u32, u32)| directory.symbols.get(pair.0);
    let sorted = pairs.windows(2).all(|w| name(&w[0]) < name(&w[1]));
    let filled = pairs.iter().all(|pair| !directory.symbols.get(pair.1).is_empty());
    if sorted && filled && !pairs.is_empty() { Ok(()) } else { Err(MALFORMED) }
}

/// Reads what [`HeadData::put_sealed`] wrote.
pub(super) fn take_sealed<'a>(input: &mut &'a [u8]) -> Result<SealedChunk<'a>, DecodeError> {
    let min_time = take_varint(input)?;
    let span = take_uvarint32(input)?;
    let encoding = ChunkEncoding::from_byte(take_u8(input)?).ok_or(MALFORMED)?;
    let stored = match take_u8(input)? {
        IN_FILE => Stored::File(Place {
            segment: take_uvarint32(input)?,
            offset: take_uvarint32(input)?,
            len: take_uvarint32(input)?,
        }),
        INLINE => Stored::Inline(take_length_prefixed(input)?),
        _ => return Err(MALFORMED),
    };
    Ok(SealedChunk { min_time, span, encoding, stored })
}

impl HeadData {
    /// The chunk as one of this head; its list is the caller's.
    pub(super) fn restore_sealed(
        &mut self,
        chunk: &SealedChunk<'_>,
        shelf: Shelf,
    ) -> Result<Sealed, DecodeError> {
        let &SealedChunk { min_time, span, encoding, ref stored } = chunk;
        if i64::from(span) >= self.rules.range_ms || min_time.unsigned_abs() > 1 << 61 {
            return Err(MALFORMED);
        }
        let place = match stored {
            Stored::File(place) => *place,
            Stored::Inline(chunk) => self.store.append(shelf, encoding, chunk),
        };
        Ok(Sealed { min_time, span, place, before: NONE, encoding: encoding as u8 })
    }

    fn take_chunks(&mut self, input: &mut &[u8], series: u32, cut: &[TimeRange]) -> Result<(), DecodeError> {
        for _ in 0..take_count(input, 5)? {
            let chunk = take_sealed(input)?;
            if is_cut(cut, chunk.min_time) {
                continue;
            }
            let sealed =
                self.restore_sealed(&chunk, Shelf::in_order(self.rules.range_start(chunk.min_time)))?;
            let before = self.hot[series as usize].tail;
            self.hot[series as usize].tail = self.sealed.push(Sealed { before, ..sealed });
        }
        let encoding = take_u8(input)?;
        if encoding == 0 {
            return Ok(());
        }
        let encoding = ChunkEncoding::from_byte(encoding).ok_or(MALFORMED)?;
        let start = take_varint(input)?;
        let chunk = take_length_prefixed(input)?;
        if is_cut(cut, start) { Ok(()) } else { self.restore_open(series, encoding, start, chunk) }
    }
}
