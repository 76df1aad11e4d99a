//! What deletes that stand hide of a block in the bucket.

use pyrrha_index::RoaringBitmap;
use pyrrha_model::contract::{DeleteId, QueryContext, SeriesEntry};
use pyrrha_model::{StoreError, TimeRange};

use super::block::{BucketBlock, Opened};
use crate::block_files::{deletes_through, is_adopted};
use crate::deletes::Standing;
use crate::downsample::Origin;

/// How far samples of others may be ahead of a delete's clock, ms.
const AHEAD_MS: i64 = 600_000;

/// What one delete hides.
#[derive(Debug)]
pub(super) enum Hidden {
    /// The interval of each of these series.
    Matching(RoaringBitmap, TimeRange),
    /// What the block lists for the delete.
    Listed(DeleteId),
}

impl BucketBlock {
    /// What `standing`, the deletes that stand, hide of the block. Those that it was made in knowledge
    /// of hide what it lists; all of it was acknowledged before the others.
    pub(super) async fn hidden(
        &self,
        ctx: &QueryContext,
        opened: &Opened,
        standing: &[Standing],
    ) -> Result<Vec<Hidden>, StoreError> {
        let through = opened.deletes.through.max(deletes_through(&self.entry));
        // Windows were made of what those before it had been applied to.
        let origin = Origin::of(&self.entry);
        let mut hidden = Vec::new();
        for Standing { number, delete } in standing {
            if origin.as_ref().map_or(delete.id <= through, |origin| *number <= origin.through) {
                if opened.deletes.hidden.contains_key(&delete.id) {
                    hidden.push(Hidden::Listed(delete.id));
                }
                continue;
            }
            let mut range = delete.range;
            if is_adopted(&self.entry) {
                // Those who write there go on: what is newer than the delete came after it.
                range.end = range.end.min(delete.at.saturating_add(AHEAD_MS));
            }
            if self.range().overlaps(&range) {
                let mut series = RoaringBitmap::new();
                for matchers in &self.external.left_of_sets(&delete.matcher_sets) {
                    series |= self.matching(ctx, opened, matchers).await?;
                }
                if !series.is_empty() {
                    hidden.push(Hidden::Matching(series, range));
                }
            }
        }
        Ok(hidden)
    }
}

/// Adds the intervals that are hidden of a series, by tombstones too.
pub(super) fn hide(hidden: &[Hidden], opened: &Opened, series: u32, entry: &mut SeriesEntry) {
    entry.deleted.extend_from_slice(opened.tombstones.of(u64::from(series)));
    for what in hidden {
        match what {
            Hidden::Matching(matching, range) if matching.contains(series) => entry.deleted.push(*range),
            Hidden::Matching(..) => {}
            Hidden::Listed(delete) => {
                let listed = opened.deletes.hidden.get(delete);
                entry.deleted.extend_from_slice(listed.map_or(&[], |l| l.of(u64::from(series))));
            }
        }
    }
}
