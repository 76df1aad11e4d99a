//! A numbered file: JSON, a line feed, and the checksum of both as eight hexadecimal digits.

use pyrrha_encoding::crc;
use pyrrha_model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::ManifestError;
use super::state::{BlockEntry, DeleteEntry};
use crate::block::BlockId;

const VERSION: u32 = 1;

/// What a numbered file says: all blocks, or what has changed since its base.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) version: u32,
    pub(super) number: u64,
    /// The number whose blocks `added` and `removed` apply to; its own in a base.
    pub(super) base: u64,
    /// Who committed it: tells a lost reply from a lost race.
    pub(super) writer: BlockId,
    /// Wall clock of the writer, ms.
    pub(super) written_at: Timestamp,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) added: Vec<BlockEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) removed: Vec<BlockId>,
    /// All deletions in force, not only new ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) deletes: Vec<DeleteEntry>,
    /// All blocks that may not be committed any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) revoked: Vec<BlockId>,
    /// Level-1 blocks whose data went for good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) gone: Vec<BlockId>,
    /// Fields of later versions, kept while this one commits.
    #[serde(flatten)]
    pub(super) other: Map<String, Value>,
}

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        // Only a map with keys that are not strings, or a failing writer, can fail.
        let mut bytes = serde_json::to_vec(self).expect("a struct with string keys serialises into memory");
        crc::seal_text(&mut bytes);
        bytes
    }

    pub(super) fn decode(number: u64, bytes: &[u8]) -> Result<Self, ManifestError> {
        let corrupt = |what: String| ManifestError::Corrupt { number, what };
        let json = crc::open_text("manifest", bytes).map_err(|e| corrupt(e.to_string()))?;
        let record: Self = serde_json::from_slice(json).map_err(|e| corrupt(e.to_string()))?;
        if record.version != VERSION {
            return Err(corrupt(format!("unknown version={}", record.version)));
        }
        if record.number != number || record.base > number || record.base == 0 {
            return Err(corrupt(format!("says number={} base={}", record.number, record.base)));
        }
        Ok(record)
    }

    pub(super) fn new(number: u64, base: u64, writer: BlockId, written_at: Timestamp) -> Self {
        Self {
            version: VERSION,
            number,
            base,
            writer,
            written_at,
            added: Vec::new(),
            removed: Vec::new(),
            deletes: Vec::new(),
            revoked: Vec::new(),
            gone: Vec::new(),
            other: Map::new(),
        }
    }
}
