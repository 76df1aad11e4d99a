//! Records of one segment: fragments in pages, put together and decompressed.
//!
//! ```text
//! page, 32 KiB:  { type u8 | len u16 | crc32c u32 | data }*  zeros
//! type:          bits 0-2  0 padding, 1 full, 2 first, 3 middle, 4 last;  bit 3 snappy;  bit 4 zstd
//! ```

use std::io::Read;

use pyrrha_encoding::crc;
use pyrrha_encoding::varint::{take_bytes, take_u8, take_u16, take_u32};

/// Bytes of a page.
const PAGE: usize = 32 << 10;
/// Bytes before the data of a fragment.
const HEADER: usize = 7;
/// A record is never larger than this, decompressed or not: a segment has 128 MiB.
const RECORD_MAX: usize = 256 << 20;

const KIND_MASK: u8 = 0b0000_0111;
const SNAPPY: u8 = 0b0000_1000;
const ZSTD: u8 = 0b0001_0000;

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// A part of a segment that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFault {
    /// Byte offset in the segment of the fragment, or of the record's first one.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}

/// Reads the records of a segment one after another. After damage it goes on at the next page.
#[derive(Debug)]
pub struct SegmentRecords<'a> {
    bytes: &'a [u8],
    at: usize,
    joined: Vec<u8>,
    decompressed: Vec<u8>,
}

/// A fragment as it stands in its page.
struct Fragment<'a> {
    kind: u8,
    compression: u8,
    data: &'a [u8],
}

impl<'a> SegmentRecords<'a> {
    /// Reads a segment's content.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, joined: Vec::new(), decompressed: Vec::new() }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at.min(self.bytes.len())
    }

    /// The next record, decompressed, or what is damaged in its place; `None` at the end.
    pub fn next_record(&mut self) -> Option<Result<&[u8], LogFault>> {
        let mut begun: Option<usize> = None;
        self.joined.clear();
        loop {
            let offset = self.at;
            let fragment = match self.next_fragment() {
                Ok(Some(fragment)) => fragment,
                Ok(None) => {
                    let start = begun?;
                    return Some(Err(fault(start, "record ends with the segment")));
                }
                Err(what) => return Some(Err(self.skip_page(offset, what))),
            };
            match (fragment.kind, begun) {
                (FULL, None) => return Some(self.open(offset, &fragment)),
                (FIRST, None) => begun = Some(offset),
                (MIDDLE | LAST, Some(_)) => {}
                // The rest of a record whose beginning was damaged, or a record without an end.
                (MIDDLE | LAST, None) => continue,
                (_, Some(start)) => {
                    self.at = offset;
                    return Some(Err(fault(start, "record has no end")));
                }
                (_, None) => return Some(Err(self.skip_page(offset, "unknown fragment type".to_owned()))),
            }
            if self.joined.len() + fragment.data.len() > RECORD_MAX {
                return Some(Err(self.skip_page(offset, "record is too large".to_owned())));
            }
            self.joined.extend_from_slice(fragment.data);
            if let (LAST, Some(start)) = (fragment.kind, begun) {
                let joined = std::mem::take(&mut self.joined);
                let whole = Fragment { kind: LAST, compression: fragment.compression, data: &joined };
                let opened = self.decompress(&whole);
                self.joined = joined;
                return Some(match opened {
                    Ok(true) => Ok(&self.decompressed),
                    Ok(false) => Ok(&self.joined),
                    Err(what) => Err(fault(start, what)),
                });
            }
        }
    }

    /// The next fragment; `None` at the end of the segment.
    fn next_fragment(&mut self) -> Result<Option<Fragment<'a>>, String> {
        loop {
            let page_end = (self.at / PAGE + 1) * PAGE;
            let Some(page) = self.bytes.get(self.at..page_end.min(self.bytes.len())) else { return Ok(None) };
            let Some(&kind) = page.first() else { return Ok(None) };
            if page.len() < HEADER || kind & KIND_MASK == 0 {
                // Padding is zeros up to the end of the page.
                if page.iter().any(|&b| b != 0) {
                    let torn = page_end > self.bytes.len() && page.len() < HEADER;
                    return Err(if torn { "fragment is cut short" } else { "padding is not zero" }.to_owned());
                }
                self.at = page_end;
                continue;
            }
            let mut input = page;
            let cut = |_| "fragment is cut short".to_owned();
            let kind = take_u8(&mut input).map_err(cut)?;
            let len = usize::from(take_u16(&mut input).map_err(cut)?);
            let sum = take_u32(&mut input).map_err(cut)?;
            let data = take_bytes(&mut input, len).map_err(cut)?;
            crc::verify("record", data, sum).map_err(|e| e.to_string())?;
            self.at += HEADER + len;
            return Ok(Some(Fragment { kind: kind & KIND_MASK, compression: kind & !KIND_MASK, data }));
        }
    }

    fn open(&mut self, offset: usize, fragment: &Fragment<'a>) -> Result<&[u8], LogFault> {
        match self.decompress(fragment) {
            Ok(true) => Ok(&self.decompressed),
            Ok(false) => {
                // The fragment lies in the segment, which outlives this borrow.
                Ok(fragment.data)
            }
            Err(what) => Err(fault(offset, what)),
        }
    }

    /// Decompresses into the buffer; false if the data is as it is.
    fn decompress(&mut self, fragment: &Fragment<'_>) -> Result<bool, String> {
        self.decompressed.clear();
        match fragment.compression {
            0 => return Ok(false),
            SNAPPY => {
                let len = snap::raw::decompress_len(fragment.data).map_err(|e| e.to_string())?;
                // Three bytes of snappy make 64 at most.
                if len > RECORD_MAX.min(fragment.data.len().saturating_mul(22) + 64) {
                    return Err("snappy record is too large".to_owned());
                }
                self.decompressed.resize(len, 0);
                let done = snap::raw::Decoder::new().decompress(fragment.data, &mut self.decompressed);
                done.map_err(|e| e.to_string())?;
            }
            ZSTD => {
                let decoder = zstd::stream::read::Decoder::with_buffer(fragment.data);
                let mut limited = decoder.map_err(|e| e.to_string())?.take(RECORD_MAX as u64 + 1);
                limited.read_to_end(&mut self.decompressed).map_err(|e| e.to_string())?;
                if self.decompressed.len() > RECORD_MAX {
                    return Err("zstd record is too large".to_owned());
                }
            }
            other => return Err(format!("unknown compression {other:#04x}")),
        }
        Ok(true)
    }

    /// Goes on at the next page.
    fn skip_page(&mut self, offset: usize, what: String) -> LogFault {
        self.at = (offset / PAGE + 1) * PAGE;
        fault(offset, what)
    }
}

fn fault(offset: usize, what: impl Into<String>) -> LogFault {
    LogFault { offset: offset as u64, what: what.into() }
}
