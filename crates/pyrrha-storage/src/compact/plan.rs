//! Which blocks are to be compacted next. Pure.
//!
//! Order: blocks that overlap; then the smallest range that can be completed; then a block that is
//! mostly deleted. Source of the rules: Prometheus' leveled compaction (ranges are aligned to
//! multiples of their length, the newest block is left alone).

use pyrrha_model::Timestamp;

use crate::block::BlockMeta;

/// Deletions per series after which a block is rewritten.
const TOMBSTONE_RATIO: f64 = 0.05;

/// The ranges that blocks grow through, ms, ascending; each is a multiple of the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionRanges(Vec<i64>);

impl CompactionRanges {
    /// From the range of a freshly cut block, threefold steps up to `largest` (ms): a tenth of the
    /// retention or 31 days, whichever is less.
    pub fn up_to(cut: i64, largest: i64) -> Self {
        let mut ranges = vec![cut.max(1)];
        while let Some(next) = ranges.last().and_then(|r| r.checked_mul(3)).filter(|r| *r <= largest) {
            ranges.push(next);
        }
        Self(ranges)
    }

    /// The ranges themselves.
    pub fn as_slice(&self) -> &[i64] {
        &self.0
    }
}

/// The positions, within `blocks`, of those to merge into one; empty if there is nothing to do. A
/// single position is a block to rewrite without what was deleted from it.
pub fn plan(blocks: &[BlockMeta], ranges: &CompactionRanges) -> Vec<usize> {
    let mut order: Vec<usize> = (0..blocks.len()).filter(|&i| !blocks[i].compaction.failed).collect();
    order.sort_by_key(|&i| (blocks[i].min_time, blocks[i].ulid));
    let overlapping = overlapping(blocks, &order);
    if !overlapping.is_empty() {
        return overlapping;
    }
    // The newest block may still get a neighbour in its range.
    let Some((&newest, settled)) = order.split_last() else { return Vec::new() };
    let bound = blocks[newest].min_time;
    let by_range = ranges.0.iter().skip(1).find_map(|&range| in_one_window(blocks, settled, range, bound));
    by_range.or_else(|| mostly_deleted(blocks, settled)).unwrap_or_default()
}

/// The first run of blocks of which each begins before an earlier one ends.
fn overlapping(blocks: &[BlockMeta], order: &[usize]) -> Vec<usize> {
    let (mut run, mut end) = (Vec::new(), Timestamp::MIN);
    for &i in order {
        if blocks[i].min_time >= end {
            if run.len() > 1 {
                break;
            }
            run.clear();
        }
        run.push(i);
        end = end.max(blocks[i].max_time);
    }
    if run.len() > 1 { run } else { Vec::new() }
}

/// The first aligned window of this length that holds two blocks or more and gets no more: it is
/// full, or data after it exists. Blocks that straddle its edge wait for a larger range.
fn in_one_window(
    blocks: &[BlockMeta],
    settled: &[usize],
    range: i64,
    bound: Timestamp,
) -> Option<Vec<usize>> {
    let window_end = |i: usize| (blocks[i].min_time.div_euclid(range) + 1).saturating_mul(range);
    let fitting: Vec<usize> =
        settled.iter().copied().filter(|&i| blocks[i].max_time <= window_end(i)).collect();
    let groups = fitting.chunk_by(|&a, &b| window_end(a) == window_end(b));
    groups.filter(|group| group.len() > 1).find_map(|group| {
        let (first, last) = (group[0], group[group.len() - 1]);
        let full = blocks[last].max_time - blocks[first].min_time == range;
        (full || window_end(first) <= bound).then(|| group.to_vec())
    })
}

/// A block from which much was deleted.
fn mostly_deleted(blocks: &[BlockMeta], settled: &[usize]) -> Option<Vec<usize>> {
    settled.iter().rev().find_map(|&i| {
        let stats = &blocks[i].stats;
        let ratio = stats.num_tombstones as f64 / (stats.num_series + 1) as f64;
        (ratio > TOMBSTONE_RATIO).then(|| vec![i])
    })
}
