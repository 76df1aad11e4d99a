//! Copying blocks to another bucket: data, then `meta.json`, then the manifest there.
//!
//! What is there already is not copied again, so a copy that was interrupted goes on where it was. A
//! block is committed one by one; what it replaces there leaves with the same commit.

use std::sync::Arc;

use pyrrha_model::{ErrorKind, StoreError, TenantId};
use pyrrha_storage::manifest::{BlockEntry, Change, DeleteEntry};
use serde::Serialize;

use super::adopt::LeftOut;
use super::copy::{BlockCopy, Copied, CopyOptions};
use super::named::went_away;
use super::{BlockSelector, BucketTools, Progress};
use crate::block_files::{dir, with_files, with_root};
use crate::deletes::{commit, needs};
use crate::downsample::forget_numbers;
use crate::jobs::{JobDirectory, note_replaced};
use crate::marks::MarkFiles;
use crate::sources::{held_by, is_held};

/// What was copied of a tenant, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replicated {
    /// The tenant.
    pub tenant: String,
    /// Blocks that became live there.
    pub blocks: Vec<String>,
    /// Bytes that were copied.
    pub copied_bytes: u64,
    /// Bytes that an earlier attempt had brought.
    pub present_bytes: u64,
    /// Chosen blocks whose data was live there before.
    pub known_blocks: u64,
    /// Live blocks there whose data the copied ones have, and that left.
    pub replaced: Vec<String>,
    /// Chosen blocks that cannot become live there, and why.
    pub left_out: Vec<LeftOut>,
    /// Whether something was committed.
    pub committed: bool,
}

impl BucketTools {
    /// Copies the chosen live blocks of a tenant, the oldest first, and verifies each object by its
    /// checksum. Deletes that stand are not copied: blocks of which one may hide something are refused. What jobs there name
    /// is left out, and what went for good there, unless the options say otherwise.
    pub fn replicate(
        &self,
        target: &Self,
        tenant: &TenantId,
        selector: &BlockSelector,
        CopyOptions { dry_run, brings_back }: CopyOptions,
        progress: Progress<'_>,
    ) -> Result<Replicated, StoreError> {
        let state = self.state(tenant)?;
        let mut chosen: Vec<Arc<BlockEntry>> =
            state.blocks.values().filter(|b| selector.selects(b)).cloned().collect();
        let hides = |delete: &&DeleteEntry| {
            delete.id.parse().is_ok_and(|id| chosen.iter().any(|block| needs(block, id, delete)))
        };
        let standing = state.deletes.iter().filter(hides).count();
        if standing > 0 {
            let text = format!(
                "deletes stand, and the copy would have what they hide: tenant={tenant} deletes={standing}; purge \
                 them first, and let a worker write the blocks anew"
            );
            return Err(StoreError::new(ErrorKind::Invalid, text));
        }
        chosen.sort_by_key(|b| (b.min_time, b.ulid));
        let named = target.named_by_jobs(tenant)?;
        let manifest = target.tenants.manifest(tenant)?;
        let there = manifest.refresh()?;
        let mut done = Replicated { tenant: tenant.to_string(), ..Replicated::default() };
        let is_known = |b: &Arc<BlockEntry>| is_held(&there, b);
        done.known_blocks = chosen.iter().filter(|b| is_known(b)).count() as u64;
        chosen.retain(|b| !is_known(b));
        chosen.retain(|b| {
            let dir = dir(tenant, b);
            let went = || went_away(tenant, &there, b, &dir).filter(|_| !brings_back);
            let barred = went().or_else(|| named.bars(tenant, &there, b, &dir));
            done.left_out.extend(barred.clone());
            barred.is_none()
        });
        let total = chosen.iter().map(|b| b.bytes).fold(0, u64::saturating_add);
        let copy = BlockCopy {
            from: self,
            to: target,
            tenant,
            word: "replicate",
            dry_run,
            reads_back: false,
            total,
        };
        let mut copied = Copied::default();
        for entry in chosen {
            // Hours may have passed: another may have brought it, which a job has merged since.
            let live = if done.committed { manifest.refresh()? } else { manifest.current() };
            if is_held(&live, &entry) {
                done.known_blocks += 1;
                continue;
            }
            let named = copy.block(&dir(tenant, &entry), &entry, &mut copied, &mut *progress)?;
            Copied { copied_bytes: done.copied_bytes, present_bytes: done.present_bytes } = copied;
            // There it lies where ours do.
            let mut entry = with_root(with_files(&entry, &named), None);
            forget_numbers(&mut entry);
            let before = manifest.current();
            let replaced = held_by(&before, &entry);
            if !dry_run {
                let change =
                    Change { added: vec![entry.clone()], removed: replaced.clone(), ..Change::default() };
                commit(&manifest, &change)?;
                done.committed = true;
                let (bucket, runtime) = (target.tenants.bucket().clone(), target.runtime.clone());
                let directory = JobDirectory::new(bucket, runtime, tenant);
                note_replaced(&directory, tenant, &before, &replaced, &entry);
                let (files, marked) =
                    (MarkFiles::new(target.tenants.bucket().clone(), tenant), [entry.clone()]);
                target.runtime.wait(async move { files.write(&marked).await })?;
            }
            done.replaced.extend(replaced.iter().map(ToString::to_string));
            done.blocks.push(entry.ulid.to_string());
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use pyrrha_storage::block::BlockId;

    use super::*;
    use crate::tools::tests::{block_dirs, clean_up, let_go, put, ship_merged, tools};
    use crate::worlds::{World, block, id};

    fn copy_all(from: &World, to: &World, dry_run: bool) -> Result<Replicated, StoreError> {
        let all = BlockSelector::default();
        let options = CopyOptions { dry_run, ..CopyOptions::default() };
        tools(from).replicate(&tools(to), &World::tenant(), &all, options, &mut |_, _, _| {})
    }

    fn live(world: &World) -> Vec<BlockId> {
        let state = tools(world).state(&World::tenant()).expect("no fault");
        state.blocks.keys().copied().collect()
    }

    fn two() -> World {
        let world = World::new();
        world.ship(&[block(&world.disk, 0, 40), block(&world.disk, 1, 40)]).expect("no fault");
        world
    }

    #[test]
    fn a_copy_is_whole_and_a_second_one_copies_nothing() {
        let (from, to) = (two(), World::new());
        let looked = copy_all(&from, &to, true).expect("no fault");
        assert!(!looked.committed && looked.blocks.len() == 2 && live(&to).is_empty());
        let done = copy_all(&from, &to, false).expect("no fault");
        assert_eq!((done.copied_bytes, done.present_bytes), (looked.copied_bytes, 0));
        assert_eq!(live(&to), live(&from));
        let again = copy_all(&from, &to, false).expect("no fault");
        assert_eq!((again.known_blocks, again.copied_bytes, again.committed), (2, 0, false));
        let options = crate::tools::VerifyOptions {
            depth: crate::tools::Depth::Deep,
            scratch_dir: "/scratch".into(),
            ..Default::default()
        };
        let report = tools(&to).verify(&World::tenant(), &options, &mut |_, _, _| {}).expect("no fault");
        assert!(report.issues.is_empty() && report.blocks == 2, "{:?}", report.issues);
    }

    #[test]
    fn an_interrupted_copy_goes_on_and_what_is_damaged_is_not_copied() {
        let (from, to) = (two(), World::new());
        let chunks = format!("anonymous/{}/chunks/000001", id(2));
        let (bucket, key) = (from.bucket.clone(), chunks.clone());
        let sound = from.runtime.wait(async move { bucket.get(&key, u64::MAX).await });
        let sound = sound.expect("no fault").expect("it is there").to_vec();
        let mut damaged = sound.clone();
        damaged[30] ^= 1;
        put(&from, &chunks, damaged.clone());
        let error = copy_all(&from, &to, false).expect_err("a byte is wrong");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(live(&to), [id(1)], "the block before it is there");
        // Somebody put the damaged one there: name and length agree, the checksum does not.
        put(&to, &chunks, damaged);
        put(&from, &chunks, sound);
        let done = copy_all(&from, &to, false).expect("no fault");
        assert_eq!((done.known_blocks, done.blocks.len()), (1, 1));
        assert_eq!(live(&to), live(&from));
    }

    #[test]
    fn what_went_for_good_or_is_about_to_go_is_left_out() {
        let (from, to) = (two(), two());
        let_go(&to);
        let why = |done: &Replicated| {
            assert!(done.blocks.is_empty() && !done.committed);
            done.left_out.iter().map(|left| left.why.clone()).collect::<Vec<_>>()
        };
        assert_eq!(why(&copy_all(&from, &to, true).expect("no fault")), ["gone", "gone"]);
        clean_up(&to, std::time::Duration::ZERO);
        assert_eq!(why(&copy_all(&from, &to, false).expect("no fault")), ["gone", "gone"]);
        // So much went since that it is forgotten, unless somebody says that it may come back.
        let manifest = to.tenants.manifest(&World::tenant()).expect("opens");
        let gone = (1_000..6_000).map(id).collect();
        manifest.commit_change(&Change { gone, ..Change::default() }).expect("no fault");
        assert_eq!(why(&copy_all(&from, &to, false).expect("no fault")), ["forgotten", "forgotten"]);
        let all = BlockSelector::default();
        let options = CopyOptions { brings_back: true, ..CopyOptions::default() };
        let quiet = &mut |_: &str, _: u64, _: u64| {};
        let done = tools(&from).replicate(&tools(&to), &World::tenant(), &all, options, quiet);
        assert_eq!((done.expect("no fault").blocks.len(), live(&to)), (2, live(&from)));
        // Neither what a job has replaced by something that does not have all of it, nor what it gave up.
        let to = World::new();
        let manifest = to.tenants.manifest(&World::tenant()).expect("opens");
        let revoked = vec![id(1), id(2)];
        manifest.commit_change(&Change { revoked, ..Change::default() }).expect("no fault");
        assert_eq!(why(&copy_all(&from, &to, false).expect("no fault")), ["job", "job"]);
        assert!(live(&to).is_empty());
    }

    #[test]
    fn what_a_copy_has_replaced_goes_after_the_delay() {
        let (from, to) = (two(), two());
        ship_merged(&from);
        let done = copy_all(&from, &to, false).expect("no fault");
        assert_eq!((done.blocks.len(), done.replaced.len()), (1, 2));
        clean_up(&to, std::time::Duration::from_secs(3600));
        assert_eq!(block_dirs(&to), [id(1), id(2), id(9)]);
        clean_up(&to, std::time::Duration::ZERO);
        assert_eq!(block_dirs(&to), [id(9)]);
        assert_eq!(live(&to), [id(9)]);
    }

    #[test]
    fn a_copy_lists_and_does_not_ask_for_each_object() {
        let (from, to) = (two(), World::new());
        tools(&to).state(&World::tenant()).expect("no fault");
        let of = |operation| to.bucket.counters().attempts(operation);
        let lists = of(crate::Operation::List);
        copy_all(&from, &to, false).expect("no fault");
        // Jobs, and each block's directory before and after.
        assert!(of(crate::Operation::List) - lists <= 2 * 2 + 3, "{}", of(crate::Operation::List));
        // Of manifests whether they are there.
        let (heads, blocks) = (of(crate::Operation::Head), 2);
        assert!(heads <= 6 + 2 * blocks, "{heads}");
    }
}
