//! A batch as the log would write it, kept in memory: some five bytes per sample.

use pyrrha_encoding::DecodeError;
use pyrrha_model::TenantId;

use super::definitions::NewDefinitions;
use super::record::{self, RecordEncoder};
use super::{LogBatch, LogPosition};

/// A packed batch and where in the log it is.
#[derive(Debug)]
pub struct PackedBatch {
    position: LogPosition,
    samples: usize,
    payload: Box<[u8]>,
}

impl PackedBatch {
    /// Packs a batch whose record lies at or behind `position`.
    pub fn new(batch: &LogBatch, position: LogPosition) -> Self {
        let mut payload = Vec::with_capacity(64 + batch.samples() * 6);
        RecordEncoder::default().encode(&mut payload, batch, &NewDefinitions::default());
        Self { position, samples: batch.samples(), payload: payload.into() }
    }

    /// The batch; `buffer` is scratch space.
    pub fn unpack(&self, tenant: TenantId, buffer: &mut Vec<u8>) -> Result<LogBatch, DecodeError> {
        record::decode_batch(&record::sections(&self.payload)?, tenant, buffer)
    }

    /// The log has it at or behind this place.
    pub fn position(&self) -> LogPosition {
        self.position
    }

    /// Samples in it.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.payload.len() + size_of::<Self>()
    }
}
