//! Mimir's and Cortex' `bucket-index.json.gz`: the blocks of a tenant in one object.

use std::collections::HashMap;
use std::io::Read;

use flate2::read::GzDecoder;
use pyrrha_model::Timestamp;
use pyrrha_storage::block::{BlockId, BlockMeta};
use serde::Deserialize;

/// Name of the object in a tenant's directory.
pub(super) const NAME: &str = "bucket-index.json.gz";
/// Largest object that is read.
pub(super) const PACKED_MAX: u64 = 128 << 20;
/// Largest index, unpacked.
const INDEX_MAX: u64 = 1 << 30;

/// A block as the index names it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Indexed {
    pub(super) meta: BlockMeta,
    /// `i_of_N`
    pub(super) shard: Option<String>,
    /// When it was marked for deletion, ms.
    pub(super) deletion: Option<Timestamp>,
}

/// What an index says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MimirIndex {
    /// When it was written, ms.
    pub(super) updated_at: Timestamp,
    pub(super) blocks: Vec<Indexed>,
}

#[derive(Deserialize)]
struct Json {
    version: u64,
    #[serde(default)]
    blocks: Option<Vec<JsonBlock>>,
    #[serde(default)]
    block_deletion_marks: Option<Vec<JsonMark>>,
    updated_at: i64,
}

#[derive(Deserialize)]
struct JsonBlock {
    block_id: BlockId,
    min_time: Timestamp,
    max_time: Timestamp,
    #[serde(default)]
    compactor_shard_id: Option<String>,
    #[serde(default)]
    compaction_level: Option<u32>,
}

#[derive(Deserialize)]
struct JsonMark {
    block_id: BlockId,
    deletion_time: i64,
}

/// Reads an index; the error says what is wrong with it.
pub(super) fn parse(packed: &[u8]) -> Result<MimirIndex, String> {
    let mut json = Vec::new();
    let read = GzDecoder::new(packed).take(INDEX_MAX + 1).read_to_end(&mut json);
    read.map_err(|e| format!("index does not unpack: {e}"))?;
    if json.len() as u64 > INDEX_MAX {
        return Err(format!("index is too large limit={INDEX_MAX}"));
    }
    let json: Json = serde_json::from_slice(&json).map_err(|e| format!("index does not read: {e}"))?;
    if !(1..=2).contains(&json.version) {
        return Err(format!("index is of an unknown version: version={}", json.version));
    }
    let marks: HashMap<BlockId, i64> =
        json.block_deletion_marks.unwrap_or_default().iter().map(|m| (m.block_id, m.deletion_time)).collect();
    let block = |b: JsonBlock| {
        let mut meta = BlockMeta::of_head(b.block_id, b.min_time, b.max_time);
        meta.compaction.level = b.compaction_level.unwrap_or(1);
        // Not said: nobody else has its data as far as this tells.
        meta.compaction.sources.clear();
        let deletion = marks.get(&b.block_id).map(|at| at.saturating_mul(1000));
        Indexed { meta, shard: b.compactor_shard_id.filter(|s| !s.is_empty()), deletion }
    };
    Ok(MimirIndex {
        updated_at: json.updated_at.saturating_mul(1000),
        blocks: json
            .blocks
            .unwrap_or_default()
            .into_iter()
            .filter(|b| b.min_time <= b.max_time)
            .map(block)
            .collect(),
    })
}
