//! Compaction on disk: several blocks become one, in bounded memory.
//!
//! ```text
//! blocks ─► plan: which, by range ─► merge: series by series ─► BlockWriter ─► one block, one level up
//! ```
//!
//! Owns what is merged and how. Does not own when, nor making the result the tenant's: that is one
//! commit of the manifest, after which the inputs may be removed. A crash before it leaves the
//! inputs, a crash after it the output.

pub(crate) mod chunks;
mod merge;
mod plan;
mod replicas;
pub(crate) mod sidecars;
mod sources;

use std::path::Path;
use std::sync::Arc;

use pyrrha_encoding::decode_stored;
use pyrrha_env::Disk;
use pyrrha_model::contract::{QueryContext, Queryable, SelectHints, SeriesBatch};
use pyrrha_model::{ErrorKind, StoreError, TimeRange};

use crate::block::{Block, BlockId, BlockMeta, Layout};
pub(crate) use merge::SeriesMerge;

pub(crate) use chunks::resolve;
pub use plan::{CompactionRanges, plan};
pub use replicas::merge_replicas;
use sidecars::Sidecars;
use sources::write_merged;
pub use sources::{Merged, Source, merge_sources, split_sources};

/// Merges `inputs` into the block `output` under `home`, the directory of a tenant's blocks, in this
/// layout. Chunks that overlap nothing are copied as they are, or converted bit for bit; where blocks
/// overlap each sample is kept once, and of different values for one time
/// the one that [`pyrrha_encoding::precedence`] puts first. Deleted intervals are gone from the output.
/// Exemplars are merged by series, each once; of metadata the newest block's stays.
///
/// Gives what was written, or `None`, and no block, if nothing is left. The context's budget
/// bounds memory (one series of each input, and the symbols), its flag stops the work.
pub fn compact(
    disk: &Arc<dyn Disk>,
    home: &Path,
    output: BlockId,
    layout: Layout,
    inputs: &[Block],
    ctx: &QueryContext,
) -> Result<Option<Merged>, StoreError> {
    let sources = sources_of(inputs.iter(), ctx)?;
    let dir = layout.home(home).join(output.to_string());
    write_merged(disk, &dir, layout, sources, |parents| BlockMeta::of_compaction(output, parents), ctx)
}

/// Writes a block anew as `dir` in the standard layout, for others to read: same id, same chunks as
/// before it became dense, without what is deleted. Gives its meta, or `None` if nothing is left.
pub fn to_standard(
    disk: &Arc<dyn Disk>,
    block: &Block,
    dir: &Path,
    ctx: &QueryContext,
) -> Result<Option<BlockMeta>, StoreError> {
    let sources = sources_of([block].into_iter(), ctx)?;
    let merged = write_merged(disk, dir, Layout::Standard, sources, |_| block.meta().clone(), ctx)?;
    Ok(merged.map(|merged| merged.meta))
}

fn sources_of<'a>(
    blocks: impl Iterator<Item = &'a Block>,
    ctx: &QueryContext,
) -> Result<Vec<Source<'a>>, StoreError> {
    blocks
        .map(|block| {
            if block.lacks_files() {
                let text = format!(
                    "exemplars or metadata cannot be read now, and would be lost: block={}",
                    block.meta().ulid
                );
                return Err(StoreError::new(ErrorKind::Unavailable, text));
            }
            let Sidecars { meta, exemplars, metadata } = Sidecars::of(block);
            Ok(Source {
                meta: meta.clone(),
                replica: String::new(),
                series: block.select(ctx, &[], TimeRange::ALL, &SelectHints::default())?,
                deletes_through: block.deletes_through(),
                exemplars,
                metadata,
            })
        })
        .collect()
}

/// Reads and decodes all of a block, as merging it would: the error says what is damaged.
pub(crate) fn examine(block: &Block, ctx: &QueryContext) -> Result<(), StoreError> {
    let mut set = block.select(ctx, &[], TimeRange::ALL, &SelectHints::default())?;
    let mut batch = SeriesBatch::default();
    while set.next_batch(16, &mut batch)? {
        for entry in &batch.series {
            decode_stored(entry, TimeRange::ALL).map_err(|source| {
                let series = batch.resolve(&ctx.symbols, entry);
                let message = format!("chunk does not decode: block={} series={series}", block.meta().ulid);
                StoreError::caused(pyrrha_model::ErrorKind::Corrupt, message, source)
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
