//! Mimir's and Cortex' `bucket-index.json.gz`: the blocks of a tenant in one object.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use pyrrha_model::{TenantId, Timestamp};
use pyrrha_storage::block::BlockId;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Name of the object in a tenant's directory.
pub(crate) const NAME: &str = "bucket-index.json.gz";
/// Largest object that is read.
pub(crate) const PACKED_MAX: u64 = 128 << 20;
/// Largest index, unpacked.
const INDEX_MAX: u64 = 1 << 30;
/// The version that is written: the first with shards.
const VERSION: u64 = 2;

/// The key of a tenant's index in a bucket.
pub(crate) fn key(tenant: &TenantId) -> String {
    format!("{tenant}/{NAME}")
}

/// What an index says. Fields of which nothing is known are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MimirIndex {
    version: u64,
    #[serde(default, deserialize_with = "or_none")]
    pub(crate) blocks: Vec<IndexedBlock>,
    #[serde(default, deserialize_with = "or_none")]
    pub(crate) block_deletion_marks: Vec<IndexedMark>,
    /// When it was written, s.
    pub(crate) updated_at: i64,
}

/// A block as the index names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct IndexedBlock {
    pub(crate) block_id: BlockId,
    pub(crate) min_time: Timestamp,
    /// The millisecond after the last.
    pub(crate) max_time: Timestamp,
    /// How chunk segments are named: `1b6d` is six digits, counted from 1.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) segments_format: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) segments_num: u64,
    /// When its `meta.json` was uploaded, s.
    #[serde(default)]
    pub(crate) uploaded_at: i64,
    /// `i_of_N`
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) compactor_shard_id: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) compaction_level: u64,
    #[serde(flatten)]
    pub(crate) other: Map<String, Value>,
}

/// A block that was marked for deletion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct IndexedMark {
    pub(crate) block_id: BlockId,
    /// s
    pub(crate) deletion_time: i64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// An empty list may be spelt `null`.
fn or_none<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl MimirIndex {
    /// An index of these blocks.
    pub(crate) fn new(blocks: Vec<IndexedBlock>, marks: Vec<IndexedMark>, updated_at: i64) -> Self {
        Self { version: VERSION, blocks, block_deletion_marks: marks, updated_at }
    }

    /// Reads an index; the error says what is wrong with it.
    pub(crate) fn unpack(packed: &[u8]) -> Result<Self, String> {
        let mut json = Vec::new();
        let read = GzDecoder::new(packed).take(INDEX_MAX + 1).read_to_end(&mut json);
        read.map_err(|e| format!("index does not unpack: {e}"))?;
        if json.len() as u64 > INDEX_MAX {
            return Err(format!("index is too large limit={INDEX_MAX}"));
        }
        let index: Self = serde_json::from_slice(&json).map_err(|e| format!("index does not read: {e}"))?;
        if !(1..=VERSION).contains(&index.version) {
            return Err(format!("index is of an unknown version: version={}", index.version));
        }
        Ok(index)
    }

    /// The object.
    pub(crate) fn pack(&self) -> std::io::Result<Bytes> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(&serde_json::to_vec(self)?)?;
        Ok(packed.finish()?.into())
    }
}
