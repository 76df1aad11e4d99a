//! What deletes that stand hide of a block in the bucket.

use pyrrha_index::RoaringBitmap;
use pyrrha_model::contract::{Delete, DeleteId, QueryContext, SeriesEntry};
use pyrrha_model::{StoreError, TimeRange};

use super::block::{BucketBlock, Opened};
use crate::block_files::deletes_through;

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
        standing: &[Delete],
    ) -> Result<Vec<Hidden>, StoreError> {
        let through = opened.deletes.through.max(deletes_through(&self.entry));
        let mut hidden = Vec::new();
        for delete in standing {
            if delete.id <= through {
                if opened.deletes.hidden.contains_key(&delete.id) {
                    hidden.push(Hidden::Listed(delete.id));
                }
            } else if self.range().overlaps(&delete.range) {
                let mut series = RoaringBitmap::new();
                for matchers in &self.external.left_of_sets(&delete.matcher_sets) {
                    series |= self.matching(ctx, opened, matchers).await?;
                }
                if !series.is_empty() {
                    hidden.push(Hidden::Matching(series, delete.range));
                }
            }
        }
        Ok(hidden)
    }
}

/// Adds the intervals that are hidden of a series.
pub(super) fn hide(hidden: &[Hidden], opened: &Opened, series: u32, entry: &mut SeriesEntry) {
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
