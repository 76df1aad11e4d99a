//! Reading an index file in place.

use std::sync::OnceLock;

use bytes::Bytes;
use pyrrha_encoding::varint::{take_u32, take_uvarint32};
use pyrrha_encoding::{DecodeError, crc};

use super::places::Misfit;
use super::tables::Tables;
use super::{HEADER_LEN, MAGIC, SERIES_ALIGN, SeriesRow, TOC_LEN, Toc, decode_series, series_section};
use crate::error::corrupt;
use crate::{IndexError, Postings};

/// An open index file of version 1, 2 or 3. Every part is verified before it is handed out; no
/// bytes whatever make it panic. Memory: the file's (mapped) bytes, and about a byte per eight symbols and
/// label pairs; where tables are kept beside it, a bit per 32.
#[derive(Debug)]
pub struct IndexReader {
    file: Bytes,
    version: u8,
    toc: Toc,
    series: std::ops::Range<usize>,
    postings_end: usize,
    tables: Tables,
    /// Whether `tables` are from a file beside the index.
    kept: bool,
    /// What is used instead once they proved not to fit the index.
    walked: OnceLock<Result<Tables, IndexError>>,
}

/// Where an open index has its tables from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TablesOrigin {
    /// All of them were read and verified when it was opened.
    Index,
    /// From a file beside it.
    Kept,
    /// From a file beside it that turned out not to fit the index, which was read and verified then.
    Misfit,
}

/// Why the tables gave no answer.
pub(super) enum Failure {
    Misfit,
    Index(IndexError),
}

impl From<Misfit> for Failure {
    fn from(Misfit: Misfit) -> Self {
        Self::Misfit
    }
}

impl From<IndexError> for Failure {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

impl IndexReader {
    /// Opens a file: reads and verifies header, TOC, symbols and postings offset table.
    pub fn open(file: Bytes) -> Result<Self, IndexError> {
        Self::open_with(file, None)
    }

    /// The same with the file of tables that [`encode_tables`](Self::encode_tables) once gave. If it belongs to this
    /// index, none of its symbols and label pairs are looked at now, and each when it is used. If it does not, or
    /// is damaged, now or when it is used, it costs time and nothing else.
    pub fn open_with(file: Bytes, kept: Option<&Bytes>) -> Result<Self, IndexError> {
        let mut header = &file[..];
        let magic = take_u32(&mut header).map_err(|_| corrupt("file is shorter than its header", 0))?;
        let version = header.first().copied().unwrap_or(0);
        if magic != MAGIC || !(1..=3).contains(&version) {
            return Err(IndexError::UnknownFormat { magic, version });
        }
        let toc = Toc::read(&file)?;
        if toc.symbols == 0 || toc.postings_table == 0 {
            return Err(corrupt("TOC lacks symbols or postings", file.len() - TOC_LEN));
        }
        let found = kept.filter(|_| version > 1).and_then(|kept| Tables::kept(&file, &toc, kept));
        let kept = found.is_some();
        let tables = match found {
            Some(tables) => tables,
            None => Tables::walk(&file, &toc, version == 1)?,
        };
        let (series, postings_end) = (series_section(&toc), file.len() - TOC_LEN);
        Ok(Self { version, series, postings_end, tables, kept, walked: OnceLock::new(), toc, file })
    }

    /// Version of the file format: 1, 2 or 3.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Where its tables are from.
    pub fn tables_origin(&self) -> TablesOrigin {
        match (self.kept, self.walked.get()) {
            (false, _) => TablesOrigin::Index,
            (true, None) => TablesOrigin::Kept,
            (true, Some(_)) => TablesOrigin::Misfit,
        }
    }

    /// A file to keep beside the index, with which it opens without reading its tables; `None` for version 1,
    /// which has none. The tables are read and verified for it.
    pub fn encode_tables(&self) -> Result<Option<Vec<u8>>, IndexError> {
        if self.version == 1 {
            return Ok(None);
        }
        self.ask(|tables| Ok(tables.encode(&self.file)?)).map(Some)
    }

    /// Symbols and label pairs.
    pub fn entry_count(&self) -> Result<u64, IndexError> {
        let pairs = self.ask(|t| Ok(t.offsets.names()?.iter().map(|n| u64::from(n.count)).sum::<u64>()))?;
        Ok(u64::from(self.symbol_count()) + pairs)
    }

    /// Reads and verifies the tables as a whole, wherever they are from.
    pub fn verify_tables(&self) -> Result<(), IndexError> {
        if self.kept { Tables::walk(&self.file, &self.toc, self.version == 1).map(drop) } else { Ok(()) }
    }

    /// Number of symbols. In versions 2 and 3 symbol references are below it.
    pub fn symbol_count(&self) -> u32 {
        self.tables.symbols.len()
    }

    /// The string of a symbol reference in a [`SeriesRow`].
    pub fn symbol(&self, reference: u32) -> Result<&str, IndexError> {
        self.ask(|tables| Ok(tables.symbols.get(reference)?))?
            .ok_or_else(|| corrupt("series refers to a symbol that does not exist", 0))
    }

    /// Reads the entry of a series that postings named. `row` is cleared first.
    pub fn series(&self, series: u32, row: &mut SeriesRow) -> Result<(), IndexError> {
        let offset = self.series_offset(series);
        let content = self.series_content(offset)?;
        decode_series(content, row).map_err(|_| corrupt("series entry", offset))
    }

    /// Label names with the number of their values, sorted.
    pub fn label_value_counts(&self) -> Result<impl Iterator<Item = (&str, u32)>, IndexError> {
        Ok(self.ask(|tables| Ok(tables.offsets.names()?))?.iter().map(|n| (&*n.name, n.count)))
    }

    /// Byte offset of a series entry in the file, for error messages.
    pub fn series_offset(&self, series: u32) -> usize {
        if self.version == 1 { series as usize } else { series as usize * SERIES_ALIGN }
    }

    /// Asks the tables; if they are kept and do not fit the index, those that are read from it.
    pub(super) fn ask<'s, T>(
        &'s self,
        mut question: impl FnMut(&'s Tables) -> Result<T, Failure>,
    ) -> Result<T, IndexError> {
        if self.walked.get().is_none() {
            match question(&self.tables) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Index(error)) => return Err(error),
                Err(Failure::Misfit) => {}
            }
        }
        let walk = || Tables::walk(&self.file, &self.toc, self.version == 1);
        match self.walked.get_or_init(walk) {
            Ok(tables) => match question(tables) {
                Ok(answer) => Ok(answer),
                Err(Failure::Index(error)) => Err(error),
                Err(Failure::Misfit) => Err(corrupt("tables", self.toc.symbols as usize)),
            },
            // It does not say more the second time.
            Err(IndexError::Corrupt { what, offset }) => Err(IndexError::Corrupt { what, offset: *offset }),
            Err(_) => Err(corrupt("tables", self.toc.symbols as usize)),
        }
    }

    fn series_content(&self, offset: usize) -> Result<&[u8], IndexError> {
        let damaged = |_: DecodeError| corrupt("series entry checksum", offset);
        let outside = || corrupt("postings name a series outside the series section", offset);
        if !self.series.contains(&offset) {
            return Err(outside());
        }
        let mut input = self.file.get(offset..self.series.end).ok_or_else(outside)?;
        let len = take_uvarint32(&mut input).map_err(damaged)? as usize;
        let (content, mut rest) = input.split_at_checked(len).ok_or_else(outside)?;
        crc::verify("series", content, take_u32(&mut rest).map_err(damaged)?).map_err(damaged)?;
        Ok(content)
    }

    /// The postings list at a byte offset, verified.
    pub(super) fn list_at(&self, offset: u64) -> Result<Postings<'static>, IndexError> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let damaged = |_| corrupt("postings list checksum", offset);
        let outside = || corrupt("postings list outside the file", offset);
        if offset < HEADER_LEN {
            return Err(outside());
        }
        let mut input = self.file.get(offset..self.postings_end).ok_or_else(outside)?;
        let body = crc::take_section("postings", &mut input).map_err(damaged)?;
        let mut entries = body;
        let count = take_u32(&mut entries).map_err(damaged)? as usize;
        if entries.len() != count.saturating_mul(4) {
            return Err(corrupt("postings list length", offset));
        }
        if !ascends(entries) {
            return Err(corrupt("postings list is not sorted", offset));
        }
        Ok(Postings::BigEndian(self.file.slice_ref(entries)))
    }
}

/// Whether a list ascends strictly, which the algebra relies on. Without an early exit, so that the
/// common case runs at the speed of the loads.
pub(super) fn ascends(entries: &[u8]) -> bool {
    let list = entries.as_chunks::<4>().0;
    let later = list.get(1..).unwrap_or_default();
    let falls = |(a, b): (&[u8; 4], &[u8; 4])| u32::from_be_bytes(*a) >= u32::from_be_bytes(*b);
    !list.iter().zip(later).fold(false, |bad, pair| bad | falls(pair))
}
