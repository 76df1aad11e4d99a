//! The out-of-order part of a head as sections of a checkpoint, and back. Format: docs/format/head.md.

use pyrrha_encoding::varint::{
    put_uvarint, put_varint, take_count, take_length_prefixed, take_u8, take_u64, take_uvarint,
    take_uvarint32, take_varint,
};
use pyrrha_encoding::{DecodeError, decode_stored};
use pyrrha_model::contract::{SeriesEntry, Value};
use pyrrha_model::{ChunkEncoding, TimeRange, Timestamp};

use super::Head;
use super::admission::Newest;
use super::checkpoint::{HeadRestorer, MALFORMED, SLICE, SyncedFiles, put_bytes, take_sealed};
use super::chunk_store::Shelf;
use super::data::{HeadData, RangeInfo};
use super::late::LateSeries;
use super::select::chunk_ref;
use crate::wal::checkpoint::CheckpointWriter;
use crate::wal::{LogPosition, WalError};

/// A late range begins: its start, what the log has of it, its files.
pub(super) const LATE_RANGE: u32 = 8;
/// Series of the late range before, as numbered in this checkpoint.
pub(super) const LATE_SERIES: u32 = 10;
/// Time of the newest sample.
pub(super) const NEWEST: u32 = 11;

impl Head {
    /// Writes the late ranges that are in no block.
    pub(super) fn write_late(
        &self,
        out: &mut CheckpointWriter,
        synced: &SyncedFiles,
        numbers: &[u32],
    ) -> Result<(), WalError> {
        let (newest, ids) = {
            let data = self.data.read();
            let ids: Vec<u64> = data.late.iter().filter(|late| !late.in_block).map(|late| late.id).collect();
            (data.newest_time, ids)
        };
        let mut buffer = Vec::new();
        if let Some(newest) = newest {
            put_varint(&mut buffer, newest);
            out.section(NEWEST, &buffer)?;
        }
        for id in ids {
            buffer.clear();
            let Some(mut series) = self.put_late_range(&mut buffer, id, synced) else { continue };
            out.section(LATE_RANGE, &buffer)?;
            series.sort_unstable();
            for slice in series.chunks(SLICE) {
                buffer.clear();
                self.put_late_series(&mut buffer, id, slice, synced, numbers);
                out.section(LATE_SERIES, &buffer)?;
            }
        }
        Ok(())
    }

    /// Gives the series of the range.
    fn put_late_range(&self, out: &mut Vec<u8>, id: u64, synced: &SyncedFiles) -> Option<Vec<u32>> {
        let data = self.data.read();
        let late = data.late.get(id)?;
        put_varint(out, late.start);
        put_uvarint(out, late.info.logged_from.segment);
        put_uvarint(out, late.info.logged_from.offset);
        put_varint(out, late.info.min_time);
        put_varint(out, late.info.max_time);
        put_uvarint(out, late.info.samples);
        let files = || synced.iter().filter(|(_, (shelf, _))| shelf.late == id);
        put_uvarint(out, files().count() as u64);
        for (&number, &(_, len)) in files() {
            put_uvarint(out, number.into());
            put_uvarint(out, len.into());
        }
        Some(late.series.keys().copied().collect())
    }

    fn put_late_series(
        &self,
        out: &mut Vec<u8>,
        id: u64,
        series: &[u32],
        synced: &SyncedFiles,
        numbers: &[u32],
    ) {
        let data = self.data.read();
        let Some(late) = data.late.get(id) else { return };
        for series in series {
            // One that has no number began after the checkpoint did: the log has it.
            let number = numbers.get(*series as usize).copied().filter(|n| *n != u32::MAX);
            if let (Some(number), Some(late)) = (number, late.series.get(series)) {
                put_uvarint(out, number.into());
                data.put_late(out, late, synced);
            }
        }
    }
}

impl HeadData {
    /// The newest sample, sealed chunks in the order in which they were sealed, the buffer as chunks.
    fn put_late(&self, out: &mut Vec<u8>, late: &LateSeries, synced: &SyncedFiles) {
        put_varint(out, late.newest.t);
        out.extend_from_slice(&late.newest.value.to_be_bytes());
        let mut list: Vec<_> = self.late_sealed(late).collect();
        list.reverse();
        put_uvarint(out, list.len() as u64);
        list.into_iter().for_each(|sealed| self.put_sealed(out, sealed, synced));
        let open = self.late_open(late);
        put_uvarint(out, open.len() as u64);
        for chunk in open {
            out.push(chunk.encoding as u8);
            put_varint(out, chunk.min_time);
            put_varint(out, chunk.max_time);
            put_bytes(out, &chunk.bytes);
        }
    }
}

impl HeadRestorer<'_> {
    pub(super) fn take_newest(&mut self, mut input: &[u8]) -> Result<(), DecodeError> {
        let newest = take_varint(&mut input)?;
        let mut data = self.head.data.write();
        data.newest_time = data.newest_time.max(Some(newest));
        Ok(())
    }

    pub(super) fn take_late_range(&mut self, mut input: &[u8]) -> Result<(), DecodeError> {
        let input = &mut input;
        let start = take_varint(input)?;
        let logged_from = LogPosition { segment: take_uvarint(input)?, offset: take_uvarint(input)? };
        let (min_time, max_time) = (take_varint(input)?, take_varint(input)?);
        let samples = take_uvarint(input)?;
        let appended = self.head.clock.monotonic();
        let info = RangeInfo { logged_from, samples, appended, min_time, max_time };
        let id = {
            let mut data = self.head.data.write();
            let range = TimeRange::new(start, start.saturating_add(data.rules.range_ms - 1));
            let inside =
                start.unsigned_abs() < 1 << 61 && range.contains(min_time) && range.contains(max_time);
            if !inside || data.rules.range_start(start) != start {
                return Err(MALFORMED);
            }
            data.late.add(start, info, appended).id
        };
        self.late = Some(id);
        for _ in 0..take_count(input, 2)? {
            let number = take_uvarint32(input)?;
            let len = take_uvarint32(input)? as usize;
            self.adopt(number, Shelf { start, late: id }, len)?;
        }
        Ok(())
    }

    pub(super) fn take_late_series(&mut self, mut input: &[u8]) -> Result<(), DecodeError> {
        let id = self.late.ok_or(MALFORMED)?;
        let mut data = self.head.data.write();
        while !input.is_empty() {
            let series = *self.series.get(take_uvarint32(&mut input)? as usize).ok_or(MALFORMED)?;
            data.take_late(&mut input, id, series)?;
        }
        Ok(())
    }
}

impl HeadData {
    fn take_late(&mut self, input: &mut &[u8], id: u64, series: u32) -> Result<(), DecodeError> {
        let start = self.late.get(id).ok_or(MALFORMED)?.start;
        let range = TimeRange::new(start, start.saturating_add(self.rules.range_ms - 1));
        let newest = Newest { t: take_varint(input)?, value: take_u64(input)? };
        for _ in 0..take_count(input, 5)? {
            let chunk = take_sealed(input)?;
            if !range.contains(chunk.min_time) {
                return Err(MALFORMED);
            }
            let sealed = self.restore_sealed(&chunk, Shelf { start, late: id })?;
            self.restore_late_chunk(id, series, sealed, newest);
        }
        let mut open: Vec<(Timestamp, Timestamp, Value)> = Vec::new();
        for _ in 0..take_count(input, 4)? {
            let encoding = ChunkEncoding::from_byte(take_u8(input)?).ok_or(MALFORMED)?;
            let times = TimeRange::new(take_varint(input)?, take_varint(input)?);
            let bytes = take_length_prefixed(input)?.to_vec().into();
            let entry = SeriesEntry {
                chunks: [chunk_ref(times, encoding, bytes)].into_iter().collect(),
                ..SeriesEntry::default()
            };
            open.extend(decode_stored(&entry, range)?);
        }
        if !open.is_sorted_by(|a, b| a.1 < b.1) {
            return Err(MALFORMED);
        }
        self.restore_late_open(id, series, open);
        Ok(())
    }
}
