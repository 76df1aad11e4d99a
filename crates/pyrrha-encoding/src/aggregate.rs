//! Thanos' downsampled chunks (encoding 0xFF): up to five chunks in one.
//!
//! Five slots: `uvarint len(data)`, and unless that is 0, `encoding u8 | data`.

use pyrrha_model::ChunkEncoding;
use pyrrha_model::contract::{ChunkRef, Timestamps};

use crate::DecodeError;
use crate::varint::{put_uvarint, take_bytes, take_u8, take_uvarint32};

/// What a slot of an [`AggregateChunk`] tells of each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Aggregate {
    /// Number of samples.
    Count,
    /// Their sum.
    Sum,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// The counter corrected for resets. The chunk begins with the first raw value and ends with
    /// a sample of the time before that has the last raw value.
    Counter,
}

impl Aggregate {
    /// All, in the order of the slots.
    pub const ALL: [Self; 5] = [Self::Count, Self::Sum, Self::Min, Self::Max, Self::Counter];
}

/// The chunks inside an aggregate chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AggregateChunk<'a> {
    slots: [Option<(ChunkEncoding, &'a [u8])>; 5],
}

impl<'a> AggregateChunk<'a> {
    /// Reads the data of an aggregate chunk.
    pub fn parse(mut bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut chunk = Self::default();
        for slot in &mut chunk.slots {
            let len = take_uvarint32(&mut bytes)? as usize;
            if len == 0 {
                continue;
            }
            let byte = take_u8(&mut bytes)?;
            let encoding = ChunkEncoding::from_byte(byte)
                .filter(|&e| {
                    !matches!(e, ChunkEncoding::Aggregate | ChunkEncoding::Dense | ChunkEncoding::Windows)
                })
                .ok_or(DecodeError::Encoding { encoding: byte })?;
            *slot = Some((encoding, take_bytes(&mut bytes, len)?));
        }
        Ok(chunk)
    }

    /// The chunk of one aggregate, if there is one.
    pub fn get(&self, aggregate: Aggregate) -> Option<(ChunkEncoding, &'a [u8])> {
        self.slots[aggregate as usize]
    }

    /// Sets the chunk of one aggregate. No data: none.
    pub fn set(&mut self, aggregate: Aggregate, encoding: ChunkEncoding, data: &'a [u8]) {
        self.slots[aggregate as usize] = (!data.is_empty()).then_some((encoding, data));
    }

    /// The data of the aggregate chunk. Each inner chunk must be shorter than 4 GiB.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for slot in &self.slots {
            match slot {
                None => out.push(0),
                Some((encoding, data)) => {
                    put_uvarint(&mut out, data.len() as u64);
                    out.push(*encoding as u8);
                    out.extend_from_slice(data);
                }
            }
        }
        out
    }

    /// The chunk of one aggregate inside an aggregate chunk, if there is one. It shares the bytes.
    pub fn split(chunk: &ChunkRef, aggregate: Aggregate) -> Result<Option<ChunkRef>, DecodeError> {
        if chunk.encoding != ChunkEncoding::Aggregate {
            return Err(DecodeError::Encoding { encoding: chunk.encoding as u8 });
        }
        let inner = AggregateChunk::parse(&chunk.bytes)?.get(aggregate);
        Ok(inner.map(|(encoding, data)| ChunkRef {
            min_time: chunk.min_time,
            max_time: chunk.max_time,
            encoding,
            timestamps: Timestamps::Own,
            bytes: chunk.bytes.slice_ref(data),
        }))
    }
}

#[cfg(test)]
mod tests;
