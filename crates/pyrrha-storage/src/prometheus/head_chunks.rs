//! `chunks_head/`: full chunks of Prometheus' head.
//!
//! ```text
//! 0130BC91 | version 1 | 0 0 0 | { series u64 | min u64 | max u64 | encoding u8 | uvarint len | data | crc32c }*
//! ```
//!
//! The uppermost bit of the encoding says that the samples came out of order.

use bytes::Bytes;
use pyrrha_encoding::varint::{take_bytes, take_u8, take_u32, take_u64, take_uvarint32};
use pyrrha_encoding::{DecodeError, crc};
use pyrrha_model::contract::{ChunkRef, Timestamps};
use pyrrha_model::{ChunkEncoding, Timestamp};

use super::LogFault;

const HEADER: [u8; 5] = [0x01, 0x30, 0xBC, 0x91, 1];
const HEADER_LEN: usize = 8;
const OUT_OF_ORDER: u8 = 0x80;

/// A chunk with the series that it belongs to.
#[derive(Debug, Clone)]
pub struct HeadChunk {
    /// Series reference.
    pub series: u64,
    /// Whether its samples came out of order.
    pub late: bool,
    /// The chunk.
    pub chunk: ChunkRef,
}

/// Reads the chunks of one file one after another, up to the first damage: where the next one
/// begins only a sound one tells.
#[derive(Debug)]
pub struct HeadChunks {
    file: Bytes,
    at: usize,
}

impl HeadChunks {
    /// Reads a file's content.
    pub fn new(file: Bytes) -> Self {
        Self { file, at: 0 }
    }

    /// The next chunk, or what is damaged, once; `None` at the end.
    pub fn next_chunk(&mut self) -> Option<Result<HeadChunk, LogFault>> {
        let fault = |at: usize, what: String| LogFault { offset: at as u64, what };
        if self.at == 0 {
            if !self.file.starts_with(&HEADER) {
                self.at = self.file.len().max(1);
                // A file that was just begun may be empty.
                let empty = self.file.iter().all(|&b| b == 0);
                return (!empty).then(|| Err(fault(0, "head chunk file header".to_owned())));
            }
            self.at = HEADER_LEN;
        }
        let input = self.file.get(self.at..).unwrap_or_default();
        // What is reserved and not written yet is zeros; no series has the reference 0.
        if input.iter().take(8).all(|&b| b == 0) {
            return None;
        }
        match take_chunk(&self.file, input) {
            Ok((chunk, len)) => {
                self.at += len;
                Some(Ok(chunk))
            }
            Err(error) => {
                let at = std::mem::replace(&mut self.at, self.file.len());
                Some(Err(fault(at, error.to_string())))
            }
        }
    }
}

/// A chunk and the bytes that it takes.
fn take_chunk(file: &Bytes, input: &[u8]) -> Result<(HeadChunk, usize), DecodeError> {
    let mut rest = input;
    let series = take_u64(&mut rest)?;
    let (min_time, max_time) = (take_u64(&mut rest)? as Timestamp, take_u64(&mut rest)? as Timestamp);
    let byte = take_u8(&mut rest)?;
    let len = take_uvarint32(&mut rest)? as usize;
    let data = take_bytes(&mut rest, len)?;
    let summed = input.get(..input.len() - rest.len()).unwrap_or_default();
    crc::verify("head chunk", summed, take_u32(&mut rest)?)?;
    let encoding = ChunkEncoding::from_byte(byte & !OUT_OF_ORDER)
        .filter(|e| !matches!(e, ChunkEncoding::Dense | ChunkEncoding::Windows | ChunkEncoding::Aggregate))
        .ok_or(DecodeError::Encoding { encoding: byte })?;
    let chunk =
        ChunkRef { min_time, max_time, encoding, timestamps: Timestamps::Own, bytes: file.slice_ref(data) };
    Ok((HeadChunk { series, late: byte & OUT_OF_ORDER != 0, chunk }, input.len() - rest.len()))
}
