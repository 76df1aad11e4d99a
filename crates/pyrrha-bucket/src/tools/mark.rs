//! Marking blocks by hand, and taking marks back.

use std::collections::BTreeSet;
use std::sync::Arc;

use pyrrha_model::{StoreError, TenantId};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::BlockEntry;
use serde::Serialize;

use super::{BlockSelector, BucketTools};
use crate::block_files::{set_aside, without_set_aside};
use crate::marks::{Mark, MarkFiles, MarkKind, change_entries, is_marked, with_mark};

/// What is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmark {
    /// A mark.
    Mark(MarkKind),
    /// That a job which failed on a block set it aside.
    SetAside,
}

/// What became of the marks of a tenant's blocks, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Marked {
    /// The tenant.
    pub tenant: String,
    /// Blocks that were marked, or are not any more.
    pub blocks: Vec<String>,
    /// Chosen blocks that were so before.
    pub unchanged: u64,
    /// Whether it was done.
    pub committed: bool,
}

impl Marked {
    fn of(tenant: &TenantId, changed: &BTreeSet<BlockId>, chosen: usize, committed: bool) -> Self {
        Self {
            tenant: tenant.to_string(),
            blocks: changed.iter().map(ToString::to_string).collect(),
            unchanged: chosen.saturating_sub(changed.len()) as u64,
            committed,
        }
    }
}

impl BucketTools {
    /// Marks the chosen live blocks, in one commit; then the files that other tools read are written.
    /// Blocks that are marked stay as they are, but for their files. With `dry_run` nothing is done.
    pub fn mark(
        &self,
        tenant: &TenantId,
        selector: &BlockSelector,
        kind: MarkKind,
        details: &str,
        dry_run: bool,
    ) -> Result<Marked, StoreError> {
        let chosen = self.chosen(tenant, selector)?;
        let ids: Vec<BlockId> = chosen.iter().map(|entry| entry.ulid).collect();
        let open = chosen.iter().filter(|entry| !is_marked(entry, kind)).map(|entry| entry.ulid);
        let open: BTreeSet<BlockId> = open.collect();
        if dry_run || ids.is_empty() {
            return Ok(Marked::of(tenant, &open, ids.len(), false));
        }
        let mark = Mark::by_hand(self.clock.now_ms(), details);
        let manifest = self.tenants.manifest(tenant)?;
        let changed = change_entries(&manifest, &ids, |entry| {
            (!is_marked(entry, kind)).then(|| with_mark(entry, kind, Some(&mark)))
        })?;
        // An earlier attempt may have ended before it wrote them.
        let live = manifest.current();
        let marked = ids.iter().filter_map(|id| live.blocks.get(id)).filter(|entry| is_marked(entry, kind));
        let marked: Vec<BlockEntry> = marked.map(|entry| (**entry).clone()).collect();
        let files = MarkFiles::new(self.tenants.bucket().clone(), tenant);
        self.runtime.wait(async move { files.write(&marked).await })?;
        let changed: BTreeSet<BlockId> = changed.iter().map(|entry| entry.ulid).collect();
        Ok(Marked::of(tenant, &changed, ids.len(), !changed.is_empty()))
    }

    /// Takes back a mark of the chosen live blocks: the files, whoever wrote them, then what the manifest
    /// says, in one commit. With `dry_run` nothing is done.
    pub fn unmark(
        &self,
        tenant: &TenantId,
        selector: &BlockSelector,
        what: Unmark,
        dry_run: bool,
    ) -> Result<Marked, StoreError> {
        let chosen = self.chosen(tenant, selector)?;
        let ids: Vec<BlockId> = chosen.iter().map(|entry| entry.ulid).collect();
        let without = |entry: &BlockEntry| match what {
            Unmark::Mark(kind) => is_marked(entry, kind).then(|| with_mark(entry, kind, None)),
            Unmark::SetAside => set_aside(entry).map(|_| without_set_aside(entry)),
        };
        let mut changed: BTreeSet<BlockId> =
            chosen.iter().filter(|entry| without(entry).is_some()).map(|entry| entry.ulid).collect();
        let files = MarkFiles::new(self.tenants.bucket().clone(), tenant);
        if let Unmark::Mark(kind) = what {
            let (looked, entries) = (files.clone(), chosen.clone());
            let found = self.runtime.wait(async move { looked.found(&entries).await })?;
            changed.extend(found.into_iter().filter(|(_, k, _)| *k == kind).map(|(block, _, _)| block));
        }
        if dry_run || changed.is_empty() {
            return Ok(Marked::of(tenant, &changed, ids.len(), false));
        }
        if let Unmark::Mark(kind) = what {
            // First, or a job that finds them takes them in again.
            let blocks: Vec<_> = chosen.into_iter().filter(|b| changed.contains(&b.ulid)).collect();
            self.runtime.wait(async move { files.remove(&blocks, kind).await })?;
        }
        change_entries(&*self.tenants.manifest(tenant)?, &ids, without)?;
        Ok(Marked::of(tenant, &changed, ids.len(), true))
    }

    fn chosen(
        &self,
        tenant: &TenantId,
        selector: &BlockSelector,
    ) -> Result<Vec<Arc<BlockEntry>>, StoreError> {
        let state = self.state(tenant)?;
        Ok(state.blocks.values().filter(|entry| selector.selects(entry)).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marks::{Mark, marks};
    use crate::tools::tests::{put, tools};
    use crate::worlds::{World, block, id};

    fn three() -> World {
        let world = World::new();
        let blocks: Vec<_> = (0..3).map(|n| block(&world.disk, n, 40)).collect();
        world.ship(&blocks).expect("no fault");
        world
    }

    fn one(n: u64) -> BlockSelector {
        BlockSelector { ids: [id(n)].into(), ..BlockSelector::default() }
    }

    fn keys(world: &World) -> Vec<String> {
        let bucket = world.bucket.clone();
        let all = world.runtime.wait(async move { bucket.list("").await }).expect("no fault");
        all.into_iter().map(|o| o.key).filter(|key| key.ends_with("-mark.json")).collect()
    }

    fn marked(world: &World, n: u64) -> Vec<MarkKind> {
        let state = tools(world).state(&World::tenant()).expect("no fault");
        marks(&state.blocks[&id(n)]).into_keys().collect()
    }

    #[test]
    fn marks_are_in_the_manifest_and_beside_the_block_until_they_are_taken_back() {
        let (world, tenant) = (three(), World::tenant());
        let tools = tools(&world);
        let looked = tools.mark(&tenant, &one(2), MarkKind::NoCompact, "", true).expect("no fault");
        assert_eq!((looked.blocks.len(), looked.committed), (1, false));
        assert!(keys(&world).is_empty() && marked(&world, 2).is_empty());
        let done = tools.mark(&tenant, &one(2), MarkKind::NoCompact, "why not", false).expect("no fault");
        assert_eq!((done.blocks, done.unchanged, done.committed), (vec![id(2).to_string()], 0, true));
        assert_eq!(keys(&world), [format!("anonymous/{}/no-compact-mark.json", id(2))]);
        assert_eq!(marked(&world, 2), [MarkKind::NoCompact]);
        // Once more: the file comes back, were it lost.
        let number = tools.state(&tenant).expect("no fault").number;
        let (bucket, key) = (world.bucket.clone(), keys(&world).remove(0));
        world.runtime.wait(async move { bucket.delete(&key).await }).expect("no fault");
        let again = tools.mark(&tenant, &one(2), MarkKind::NoCompact, "", false).expect("no fault");
        assert_eq!((again.unchanged, again.committed, keys(&world).len()), (1, false, 1));
        assert_eq!(tools.state(&tenant).expect("no fault").number, number);
        let gone = tools.unmark(&tenant, &one(2), Unmark::Mark(MarkKind::NoCompact), false);
        assert_eq!(gone.expect("no fault").blocks, [id(2).to_string()]);
        assert!(keys(&world).is_empty() && marked(&world, 2).is_empty());
    }

    #[test]
    fn mimir_finds_marks_where_it_looks_for_them() {
        let (world, tenant) = (three(), World::tenant());
        put(&world, "anonymous/bucket-index.json.gz", vec![1]);
        let tools = tools(&world);
        let all = BlockSelector::default();
        tools.mark(&tenant, &all, MarkKind::Deletion, "", false).expect("no fault");
        tools.mark(&tenant, &one(1), MarkKind::NoDownsample, "", false).expect("no fault");
        assert_eq!(keys(&world).len(), 3 + 3 + 1);
        assert!(keys(&world).contains(&format!("anonymous/markers/{}-deletion-mark.json", id(1))));
        tools.unmark(&tenant, &all, Unmark::Mark(MarkKind::Deletion), false).expect("no fault");
        assert_eq!(keys(&world), [format!("anonymous/{}/no-downsample-mark.json", id(1))]);
    }

    #[test]
    fn what_another_tool_marked_is_taken_back_too() {
        let (world, tenant) = (three(), World::tenant());
        let file = Mark::by_hand(5000, "").encode(id(3), MarkKind::NoCompact).to_vec();
        put(&world, &format!("anonymous/{}/no-compact-mark.json", id(3)), file);
        let tools = tools(&world);
        let what = Unmark::Mark(MarkKind::NoCompact);
        let looked = tools.unmark(&tenant, &BlockSelector::default(), what, true).expect("no fault");
        assert_eq!((looked.blocks.len(), looked.unchanged, keys(&world).len()), (1, 2, 1));
        tools.unmark(&tenant, &BlockSelector::default(), what, false).expect("no fault");
        assert!(keys(&world).is_empty());
        let state = tools.state(&tenant).expect("no fault");
        let manifest = world.tenants.manifest(&tenant).expect("opens");
        let aside = crate::block_files::with_set_aside(&state.blocks[&id(1)], "damaged");
        manifest.commit(&[aside], &[id(1)]).expect("no fault");
        let back = tools.unmark(&tenant, &BlockSelector::default(), Unmark::SetAside, false);
        assert_eq!(back.expect("no fault").blocks, [id(1).to_string()]);
        assert_eq!(tools.state(&tenant).expect("no fault").blocks, state.blocks);
    }
}
