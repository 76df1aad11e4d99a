//! The exemplars of a block with what rules make of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pyrrha_env::Disk;
use pyrrha_model::contract::Exemplars;
use pyrrha_model::{Labels, StoreError, TimeRange};
use pyrrha_storage::block::{Block, BlockId, BlockMeta, BlockWriter, ExemplarFile};

use super::{Fate, RewriteRules};

/// More exemplars than this are not rewritten but left out: they are held in memory.
const EXEMPLARS_MAX: u64 = 1 << 20;

/// The exemplars that stay, in the file of a block without series under `home`, `None` if none does; and how
/// many go.
pub(crate) fn exemplars(
    disk: &Arc<dyn Disk>,
    home: &Path,
    file: &ExemplarFile,
    rules: &RewriteRules,
) -> Result<(Option<Block>, u64), StoreError> {
    let (mut kept, deleted) = kept(file, rules);
    if kept.is_empty() {
        return Ok((None, deleted));
    }
    kept.values_mut().for_each(|e| e.exemplars.sort_by_key(|e| e.timestamp));
    let id = BlockId::from_parts(0, 0);
    let dir = home.join(id.to_string());
    let mut writer = BlockWriter::create(disk.clone(), &dir)?;
    writer.write_exemplars(kept.into_values().map(Ok::<_, StoreError>))?;
    writer.finish(BlockMeta::of_head(id, 0, 1))?;
    Ok((Some(Block::open(&**disk, &dir)?), deleted))
}

/// How many exemplars would go.
pub(crate) fn deleted_exemplars(file: &ExemplarFile, rules: &RewriteRules) -> u64 {
    kept(file, rules).1
}

/// The exemplars that stay, by the labels that they get, and how many do not.
fn kept(file: &ExemplarFile, rules: &RewriteRules) -> (BTreeMap<Labels, Exemplars>, u64) {
    let (mut kept, mut deleted) = (BTreeMap::<Labels, Exemplars>::new(), 0);
    if file.count() > EXEMPLARS_MAX {
        tracing::warn!(count = file.count(), limit = EXEMPLARS_MAX, "too many exemplars, they are not kept");
        return (kept, file.count());
    }
    for found in file.series(&[], TimeRange::ALL) {
        // What comes after damage is lost in any merge.
        let Ok(mut found) = found else { break };
        let before = found.exemplars.len() as u64;
        match rules.fate(&found.series) {
            Fate::Goes => found.exemplars.clear(),
            Fate::Stays => {}
            Fate::Cut(cut) => found
                .exemplars
                .retain(|e| !cut.iter().any(|i| i.start <= e.timestamp && e.timestamp <= i.end)),
        }
        let labels = rules.relabelled(&found.series);
        deleted += before - if labels.is_some() { found.exemplars.len() as u64 } else { 0 };
        let Some(labels) = labels else { continue };
        if !found.exemplars.is_empty() {
            let entry = kept.entry(labels.clone());
            let entry = entry.or_insert_with(|| Exemplars { series: labels, exemplars: Vec::new() });
            entry.exemplars.extend(found.exemplars);
        }
    }
    (kept, deleted)
}
