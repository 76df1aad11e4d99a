//! Where the blocks of a job lie, if that is not where their tenant's do.

use std::collections::BTreeMap;

use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::{BlockEntry, ManifestState};

use super::JobSpec;
use crate::block_files::root;

/// The root under which that lies what is made of blocks: theirs, so that who reads them there goes on; if
/// they have several, the tenant's own.
pub(super) fn output_root<'e>(inputs: impl IntoIterator<Item = &'e BlockEntry>) -> Option<&'e str> {
    let mut roots = inputs.into_iter().map(root);
    let first = roots.next().flatten();
    first.filter(|first| roots.all(|other| other == Some(*first)))
}

/// The roots of what a job replaces and makes, of those that lie elsewhere.
pub(super) fn roots_of(
    state: &ManifestState,
    spec: &JobSpec,
    outputs: &[BlockId],
) -> BTreeMap<BlockId, String> {
    let replaced = spec.replaces.iter().filter_map(|id| Some((*id, root(state.blocks.get(id)?)?.to_owned())));
    let inputs = spec.inputs.iter().filter_map(|id| state.blocks.get(id).map(|entry| &**entry));
    let made = output_root(inputs);
    replaced.chain(outputs.iter().filter_map(|id| Some((*id, made?.to_owned())))).collect()
}

#[cfg(test)]
mod tests {
    use pyrrha_storage::block::BlockMeta;

    use super::*;
    use crate::block_files::{dir_under, with_root};

    #[test]
    fn what_is_made_lies_where_all_inputs_do() {
        let entry =
            |root| with_root(BlockEntry::of(&BlockMeta::of_head(BlockId::from_parts(1, 1), 0, 1), 1), root);
        let (flat, home, other) = (entry(Some("")), entry(None), entry(Some("a/b")));
        assert_eq!(output_root([&flat, &flat]), Some(""));
        assert_eq!(output_root([&other]), Some("a/b"));
        for mixed in [[&flat, &home], [&home, &flat], [&flat, &other], [&home, &home]] {
            assert_eq!(output_root(mixed), None);
        }
        // A manifest cannot point out of the bucket.
        let tenant = pyrrha_model::TenantId::anonymous();
        for bad in ["..", "a/../b", "/etc", "a//b", "a/", "./a"] {
            assert_eq!(root(&entry(Some(bad))), None, "{bad}");
            assert!(dir_under(&tenant, Some(bad), BlockId::from_parts(1, 1)).starts_with("anonymous/"));
        }
    }
}
