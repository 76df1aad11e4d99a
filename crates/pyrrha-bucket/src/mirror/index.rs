//! What Mimir's bucket index says of a tenant's blocks. Pure.

use std::collections::HashMap;

use pyrrha_model::Timestamp;
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::BlockEntry;

use crate::block_files::{external_labels, files, root};
use crate::mimir_index::{IndexedBlock, IndexedMark, MimirIndex};
use crate::shard::SHARD_LABEL;

/// Names of chunk segments: six digits, counted from 1.
const SIX_DIGITS: &str = "1b6d";

/// Whether Mimir reads a block as we do: one of samples, in the tenant's directory, whose series have all their
/// labels in it. Names in double underscores are Mimir's own.
pub(super) fn is_for_mimir(entry: &BlockEntry) -> bool {
    let has_all = || external_labels(entry).keys().all(|name| name.starts_with("__"));
    entry.resolution == 0 && !entry.dense && root(entry).is_none() && has_all()
}

/// A live block, uploaded at a time, s, as the index names it.
pub(super) fn indexed(entry: &BlockEntry, uploaded_at: i64, before: Option<&IndexedBlock>) -> IndexedBlock {
    let files = files(entry);
    let segments = files.iter().filter_map(|file| file.name.strip_prefix("chunks/"));
    let (mut count, mut usual) = (0, true);
    for name in segments {
        count += 1;
        usual &= name.len() == 6 && name.bytes().all(|b| b.is_ascii_digit());
    }
    // How many there are is only of use with their names.
    let (segments_format, segments_num) = if usual && count > 0 { (SIX_DIGITS, count) } else { ("", 0) };
    IndexedBlock {
        block_id: entry.ulid,
        min_time: entry.min_time,
        max_time: entry.max_time,
        segments_format: segments_format.to_owned(),
        segments_num,
        uploaded_at,
        compactor_shard_id: external_labels(entry).remove(SHARD_LABEL).unwrap_or_default(),
        compaction_level: u64::from(entry.level),
        other: before.map(|before| before.other.clone()).unwrap_or_default(),
    }
}

/// The marks of an index by block.
pub(super) fn marks(index: &MimirIndex) -> HashMap<BlockId, i64> {
    index.block_deletion_marks.iter().map(|mark| (mark.block_id, mark.deletion_time)).collect()
}

/// An index of these blocks, each with the time, s, at which it was marked for deletion if it was.
pub(super) fn index(mut blocks: Vec<(IndexedBlock, Option<i64>)>, updated_at: i64) -> MimirIndex {
    blocks.sort_by_key(|(block, _)| block.block_id);
    let mark = |(block, at): &(IndexedBlock, Option<i64>)| {
        at.map(|deletion_time| IndexedMark { block_id: block.block_id, deletion_time })
    };
    let marks = blocks.iter().filter_map(mark).collect();
    MimirIndex::new(blocks.into_iter().map(|(block, _)| block).collect(), marks, updated_at)
}

/// Seconds of a time in ms.
pub(super) fn seconds(ms: Timestamp) -> i64 {
    ms.div_euclid(1000)
}
