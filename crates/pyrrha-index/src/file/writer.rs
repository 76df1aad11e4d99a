//! Writing an index file front to back.

use std::collections::BTreeMap;

use pyrrha_encoding::crc;
use pyrrha_encoding::varint::{put_uvarint, put_varint, take_uvarint, uvarint_len};
use pyrrha_env::DiskFile;

use super::output::Output;
use super::scan::SeriesScan;
use super::{ChunkMeta, MAGIC, SERIES_ALIGN, Toc, decode_labels};
use crate::{IndexError, SortedSymbols};

/// Version that this writer emits, as Prometheus' own.
const VERSION: u8 = 2;
/// Postings collected in one pass over the series, eight bytes each. A label name with more than
/// that gets a pass of its own.
const PASS_POSTINGS: u64 = 4 << 20;

/// Writes an index file: give it all symbols, then the series in label order, then finish it.
///
/// It holds the symbols, a few bytes per label pair, and at most 8 × max(4 Mi, series) bytes of
/// postings at a time: postings are collected by reading the written series again, some label
/// names per pass.
#[derive(Debug)]
pub struct IndexWriter {
    out: Output,
    symbols: SortedSymbols,
    toc: Toc,
    /// Series by label name.
    names: BTreeMap<u32, u64>,
    previous: Vec<(u32, u32)>,
    last_chunk: u64,
    series: u64,
    entry: Vec<u8>,
    pairs: PairLog,
}

/// What a finished index holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexStats {
    /// Number of series.
    pub series: u64,
    /// Number of label pairs.
    pub label_pairs: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
}

/// The label pairs whose postings were written, with the lengths of their lists: enough to write
/// the offset table, at about three bytes per pair.
#[derive(Debug, Default)]
struct PairLog {
    /// Name and number of its values.
    names: Vec<(u32, u64)>,
    /// (distance to the previous value, series) per pair.
    pairs: Vec<u8>,
    count: u64,
    /// Bytes of the offset table, without the offsets.
    text_bytes: u64,
}

impl IndexWriter {
    /// Starts an index in an empty file. `symbols` holds every label name and value to come.
    pub fn new(file: Box<dyn DiskFile>, symbols: SortedSymbols) -> Result<Self, IndexError> {
        let mut writer = Self {
            out: Output::new(file),
            symbols,
            toc: Toc::default(),
            names: BTreeMap::new(),
            previous: Vec::new(),
            last_chunk: 0,
            series: 0,
            entry: Vec::new(),
            pairs: PairLog::default(),
        };
        writer.out.put(&MAGIC.to_be_bytes())?;
        writer.out.put(&[VERSION])?;
        writer.write_symbols()?;
        writer.out.align(SERIES_ALIGN)?;
        writer.toc.series = writer.out.position();
        Ok(writer)
    }

    /// The symbols it was made with: label references are their ordinals.
    pub fn symbols(&self) -> &SortedSymbols {
        &self.symbols
    }

    /// Adds a series: labels as (name, value) ordinals, greater than those of the series before;
    /// chunks by time, none overlapping, their references not smaller than those before.
    pub fn add_series(&mut self, labels: &[(u32, u32)], chunks: &[ChunkMeta]) -> Result<u32, IndexError> {
        self.check_order(labels, chunks)?;
        self.out.align(SERIES_ALIGN)?;
        let reference = u32::try_from(self.out.position() / SERIES_ALIGN as u64)
            .map_err(|_| IndexError::TooLarge("series section beyond 64 GiB"))?;
        self.entry.clear();
        encode_series(&mut self.entry, labels, chunks);
        let mut prefix = Vec::with_capacity(5);
        put_uvarint(&mut prefix, self.entry.len() as u64);
        self.out.put(&prefix)?;
        self.out.put(&self.entry)?;
        self.out.put(&crc::checksum(&self.entry).to_be_bytes())?;
        for &(name, _) in labels {
            *self.names.entry(name).or_default() += 1;
        }
        self.previous.clear();
        self.previous.extend_from_slice(labels);
        self.series += 1;
        Ok(reference)
    }

    /// Writes postings, offset table and TOC, and syncs the file.
    pub fn finish(mut self) -> Result<IndexStats, IndexError> {
        let series_end = self.out.position();
        // Readers take the sections of label indices, which are not written any more, for empty.
        self.toc.label_indices = series_end;
        self.out.flush()?;
        self.out.align(4)?;
        self.toc.postings = self.out.position();
        self.write_all_postings(series_end)?;
        self.write_label_postings(series_end)?;
        self.out.align(4)?;
        self.toc.label_indices_table = self.out.position();
        self.toc.postings_table = self.out.position();
        self.write_offset_table()?;
        let toc = self.toc.encode();
        self.out.put(&toc)?;
        self.out.flush()?.sync_data()?;
        Ok(IndexStats { series: self.series, label_pairs: self.pairs.count, bytes: self.out.position() })
    }

    fn check_order(&mut self, labels: &[(u32, u32)], chunks: &[ChunkMeta]) -> Result<(), IndexError> {
        let known = self.symbols.len() as u32;
        if labels.windows(2).any(|w| w[0].0 >= w[1].0) || labels.iter().any(|&(n, v)| n.max(v) >= known) {
            return Err(IndexError::OutOfOrder(format!("labels of series number={}", self.series)));
        }
        if self.series > 0 && labels <= self.previous.as_slice() {
            return Err(IndexError::OutOfOrder(format!("series number={} is not greater", self.series)));
        }
        let mut before: Option<&ChunkMeta> = None;
        for chunk in chunks {
            let sound = chunk.min_time <= chunk.max_time && chunk.reference >= self.last_chunk;
            if !sound || before.is_some_and(|b| b.max_time >= chunk.min_time) {
                return Err(IndexError::OutOfOrder(format!(
                    "chunk of series number={} min_time={} max_time={}",
                    self.series, chunk.min_time, chunk.max_time
                )));
            }
            self.last_chunk = chunk.reference;
            before = Some(chunk);
        }
        Ok(())
    }

    fn write_symbols(&mut self) -> Result<(), IndexError> {
        let bytes: u64 = self.symbols.iter().map(|s| (uvarint_len(s.len() as u64) + s.len()) as u64).sum();
        let len = u32::try_from(bytes + 4).map_err(|_| IndexError::TooLarge("symbols beyond 4 GiB"))?;
        self.toc.symbols = self.out.position();
        self.out.begin_section(len)?;
        self.out.put(&(self.symbols.len() as u32).to_be_bytes())?;
        let mut entry = Vec::new();
        for symbol in self.symbols.iter() {
            entry.clear();
            put_uvarint(&mut entry, symbol.len() as u64);
            entry.extend_from_slice(symbol.as_bytes());
            self.out.put(&entry)?;
        }
        Ok(self.out.end_section()?)
    }

    /// The list of all series, under the empty name and value.
    fn write_all_postings(&mut self, series_end: u64) -> Result<(), IndexError> {
        let mut scan = SeriesScan::new(self.toc.series, series_end);
        self.begin_list(self.series)?;
        while let Some((series, _)) = scan.next(self.out.file())? {
            self.out.put(&series.to_be_bytes())?;
        }
        Ok(self.out.end_section()?)
    }

    fn write_label_postings(&mut self, series_end: u64) -> Result<(), IndexError> {
        let names: Vec<(u32, u64)> = self.names.iter().map(|(&name, &count)| (name, count)).collect();
        let mut rest = names.as_slice();
        while !rest.is_empty() {
            let mut postings = 0;
            let fits = rest.iter().take_while(|&&(_, count)| {
                postings += count;
                postings <= PASS_POSTINGS
            });
            let (pass, later) = rest.split_at(fits.count().max(1));
            self.write_pass(pass, series_end)?;
            rest = later;
        }
        Ok(())
    }

    /// Collects and writes the postings of some label names.
    fn write_pass(&mut self, names: &[(u32, u64)], series_end: u64) -> Result<(), IndexError> {
        // (value, series) of each posting as one number, per name.
        let mut lists: Vec<Vec<u64>> =
            names.iter().map(|&(_, count)| Vec::with_capacity(count as usize)).collect();
        let mut labels = Vec::new();
        let mut scan = SeriesScan::new(self.toc.series, series_end);
        while let Some((series, mut content)) = scan.next(self.out.file())? {
            decode_labels(&mut content, &mut labels)
                .map_err(|_| std::io::Error::other("series section changed while it was written"))?;
            for &(name, value) in &labels {
                if let Ok(i) = names.binary_search_by_key(&name, |&(n, _)| n) {
                    lists[i].push(u64::from(value) << 32 | u64::from(series));
                }
            }
        }
        for (&(name, _), mut list) in names.iter().zip(lists) {
            list.sort_unstable();
            self.write_lists(name, &list)?;
        }
        Ok(())
    }

    fn write_lists(&mut self, name: u32, postings: &[u64]) -> Result<(), IndexError> {
        let name_len = text_len(self.symbols.get(name));
        let (mut previous, mut values) = (0, 0);
        for list in postings.chunk_by(|a, b| a >> 32 == b >> 32) {
            let value = (list[0] >> 32) as u32;
            self.begin_list(list.len() as u64)?;
            for &posting in list {
                self.out.put(&(posting as u32).to_be_bytes())?;
            }
            self.out.end_section()?;
            put_uvarint(&mut self.pairs.pairs, u64::from(value - previous));
            put_uvarint(&mut self.pairs.pairs, list.len() as u64);
            self.pairs.text_bytes += 1 + name_len + text_len(self.symbols.get(value));
            (previous, values) = (value, values + 1);
        }
        self.pairs.names.push((name, values));
        self.pairs.count += values;
        Ok(())
    }

    fn begin_list(&mut self, entries: u64) -> Result<(), IndexError> {
        let len = entries.checked_mul(4).and_then(|l| u32::try_from(l + 4).ok());
        let len = len.ok_or(IndexError::TooLarge("postings list beyond 4 GiB"))?;
        self.out.align(4)?;
        self.out.begin_section(len)?;
        Ok(self.out.put(&(entries as u32).to_be_bytes())?)
    }

    fn write_offset_table(&mut self) -> Result<(), IndexError> {
        let pairs = std::mem::take(&mut self.pairs);
        // The entry of all postings has two empty strings.
        let mut len = 4 + 3 + uvarint_len(self.toc.postings) as u64 + pairs.text_bytes;
        self.each_pair(&pairs, |_, _, _, offset| {
            len += uvarint_len(offset) as u64;
            Ok(())
        })?;
        let len =
            u32::try_from(len).map_err(|_| IndexError::TooLarge("postings offset table beyond 4 GiB"))?;
        self.out.begin_section(len)?;
        self.out.put(&(pairs.count as u32 + 1).to_be_bytes())?;
        let mut entry = vec![2, 0, 0];
        put_uvarint(&mut entry, self.toc.postings);
        self.out.put(&entry)?;
        self.each_pair(&pairs, |writer, name, value, offset| {
            entry.truncate(1);
            for text in [writer.symbols.get(name), writer.symbols.get(value)] {
                put_uvarint(&mut entry, text.len() as u64);
                entry.extend_from_slice(text.as_bytes());
            }
            put_uvarint(&mut entry, offset);
            Ok(writer.out.put(&entry)?)
        })?;
        self.pairs.count = pairs.count;
        Ok(self.out.end_section()?)
    }

    /// Calls `visit` with name, value and offset of each list, in file order.
    fn each_pair(
        &mut self,
        pairs: &PairLog,
        mut visit: impl FnMut(&mut Self, u32, u32, u64) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        let broken = |_| IndexError::OutOfOrder("label pairs in memory".to_owned());
        let list_end = |offset: u64, entries: u64| (offset + 4 + 4 + 4 * entries + 4).next_multiple_of(4);
        let mut offset = list_end(self.toc.postings, self.series);
        let mut input = pairs.pairs.as_slice();
        for &(name, values) in &pairs.names {
            let mut value = 0;
            for _ in 0..values {
                value += take_uvarint(&mut input).map_err(broken)? as u32;
                let entries = take_uvarint(&mut input).map_err(broken)?;
                visit(self, name, value, offset)?;
                offset = list_end(offset, entries);
            }
        }
        Ok(())
    }
}

fn text_len(text: &str) -> u64 {
    (uvarint_len(text.len() as u64) + text.len()) as u64
}

fn encode_series(out: &mut Vec<u8>, labels: &[(u32, u32)], chunks: &[ChunkMeta]) {
    put_uvarint(out, labels.len() as u64);
    for &(name, value) in labels {
        put_uvarint(out, u64::from(name));
        put_uvarint(out, u64::from(value));
    }
    put_uvarint(out, chunks.len() as u64);
    let mut before: Option<&ChunkMeta> = None;
    for chunk in chunks {
        match before {
            None => put_varint(out, chunk.min_time),
            Some(b) => put_uvarint(out, chunk.min_time.wrapping_sub(b.max_time) as u64),
        }
        put_uvarint(out, chunk.max_time.wrapping_sub(chunk.min_time) as u64);
        match before {
            None => put_uvarint(out, chunk.reference),
            Some(b) => put_varint(out, chunk.reference.wrapping_sub(b.reference) as i64),
        }
        before = Some(chunk);
    }
}
