//! Snapshots: a copy of the database as of one moment that is a data directory itself.
//!
//! ```text
//! <data>/snapshots/<name>/VERSION  bucket/<tenant>/<ULID>/  bucket/<tenant>/manifest/
//! ```
//!
//! Blocks never change, so their files are only linked. What is in no block yet is written as
//! blocks of the snapshot.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyrrha_model::contract::QueryContext;
use pyrrha_model::{ErrorKind, StoreError, Timestamp};

use super::cut::write_series;
use super::tenant::{Missing, Tenant, TenantView};
use super::{Db, open};
use crate::block::{Block, BlockId, BlockMeta, BlockWriter, DELETES_FILE, Layout, TOMBSTONES_FILE};
use crate::compact::to_standard;
use crate::durable;
use crate::error::StorageError;
use crate::manifest::{BlockEntry, Change, DiskManifestStore, Manifest, ManifestState};

const DIR: &str = "snapshots";

impl Db {
    /// Makes a snapshot of all tenants and gives its directory; `skip_head` leaves out what is in no
    /// block yet. Each tenant is as of one moment. A name is made of letters, digits and `-`.
    pub fn snapshot(&self, name: &str, skip_head: bool) -> Result<PathBuf, StorageError> {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            let text = format!("bad snapshot name={name:?}");
            return Err(StoreError::new(ErrorKind::Invalid, text).into());
        }
        if !skip_head && !self.is_recovered() {
            let text = "the log is being replayed, a snapshot of what is in it has to wait";
            return Err(StoreError::new(ErrorKind::Unavailable, text).into());
        }
        let dir = self.shared.config.dir.join(DIR);
        let (path, draft) = (dir.join(name), dir.join(format!("{name}.tmp")));
        let disk = &*self.shared.disk;
        let result = self.write_snapshot(&draft, skip_head).and_then(|()| {
            disk.rename(&draft, &path)
                .and_then(|()| disk.sync_dir(&dir))
                .map_err(StorageError::io("name snapshot", &path))
        });
        if let Err(error) = result {
            let _ = disk.remove_dir_all(&draft);
            return Err(error);
        }
        tracing::info!(path = %path.display(), "snapshot made");
        Ok(path)
    }

    fn write_snapshot(&self, draft: &Path, skip_head: bool) -> Result<(), StorageError> {
        let disk = &*self.shared.disk;
        disk.remove_dir_all(draft)
            .and_then(|()| durable::create_dir(disk, draft))
            .map_err(StorageError::io("create directory", draft))?;
        for tenant in self.shared.tenants.all() {
            let home = draft.join("bucket").join(tenant.head.tenant.as_str());
            durable::create_dir(disk, &home).map_err(StorageError::io("create directory", &home))?;
            let (view, live, mut change) = self.link_blocks(&tenant, &home)?;
            self.write_standard(&view, &live, &home, &mut change)?;
            if !skip_head {
                self.write_head(&tenant, &view, &home, &mut change)?;
            }
            let manifests = home.join("manifest");
            let store = DiskManifestStore::open(self.shared.disk.clone(), &manifests)
                .map_err(StorageError::io("create manifest", &manifests))?;
            Manifest::open(Arc::new(store), self.shared.clock.clone())?.commit_change(&change)?;
        }
        open::write_version(disk, draft)
    }

    /// Links the live blocks. What removes blocks waits meanwhile.
    fn link_blocks(
        &self,
        tenant: &Tenant,
        home: &Path,
    ) -> Result<(TenantView, Arc<ManifestState>, Change), StorageError> {
        let _cuts = tenant.cuts.lock();
        let view = tenant.view.read().clone();
        let live = tenant.manifest.current();
        let mut change = Change { deletes: live.deletes.clone(), ..Change::default() };
        for block in view.blocks.iter().filter(|b| b.layout() == Layout::Standard) {
            let ulid = block.meta().ulid;
            let Some(entry) = live.blocks.get(&ulid) else { continue };
            let target = home.join(ulid.to_string());
            self.link(block.dir(), &target)?;
            self.keep_deleted(block, &target)?;
            change.added.push((**entry).clone());
        }
        for missing in view.missing.iter() {
            let Some(entry) = live.blocks.get(&missing.block) else { continue };
            self.link_missing(tenant, missing, entry, home)?;
            change.added.push((**entry).clone());
        }
        Ok((view, live, change))
    }

    /// Links a block that cannot be read now: the copy may be able to, and otherwise says that it lacks it. It
    /// does so, too, where a delete may hide some of the block, as what that is cannot be said to the copy.
    fn link_missing(
        &self,
        tenant: &Tenant,
        missing: &Missing,
        entry: &BlockEntry,
        home: &Path,
    ) -> Result<(), StorageError> {
        if tenant.head.standing_deletes().0.iter().any(|delete| delete.range.overlaps(&missing.range)) {
            tracing::warn!(
                tenant = %tenant.head.tenant, block = %missing.block, why = %missing.why,
                "a snapshot lacks a block: what is deleted of it cannot be said"
            );
            return Ok(());
        }
        let dir = entry.dir(&self.bucket_dir(&tenant.head.tenant));
        if !self.shared.disk.exists(&dir) {
            return Ok(());
        }
        let target = entry.dir(home);
        self.link(&dir, &target)?;
        // Of a dense one the name is in a directory of its own.
        let parent = target.parent().unwrap_or(home);
        self.shared.disk.sync_dir(parent).map_err(StorageError::io("sync directory", parent))
    }

    /// Writes dense blocks as others can read them.
    fn write_standard(
        &self,
        view: &TenantView,
        live: &ManifestState,
        home: &Path,
        change: &mut Change,
    ) -> Result<(), StorageError> {
        let ctx = QueryContext::unlimited();
        for block in view.blocks.iter().filter(|b| b.layout() == Layout::Dense) {
            let Some(entry) = live.blocks.get(&block.meta().ulid) else { continue };
            let (dir, imported) = (home.join(entry.ulid.to_string()), entry.imported);
            // One that is compacted meanwhile is still open.
            if to_standard(&self.shared.disk, block, &dir, &ctx)?.is_some() {
                let written = Block::open(&*self.shared.disk, &dir)?;
                change.added.push(BlockEntry { imported, ..BlockEntry::of_block(&written) });
            }
        }
        Ok(())
    }

    /// Links the files of a directory and of those in it.
    fn link(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        let disk = &*self.shared.disk;
        let io = |error| StorageError::io("link block", from)(error);
        disk.create_dir_all(to).map_err(io)?;
        for entry in disk.list(from).map_err(io)? {
            let (source, target) = (from.join(&entry.name), to.join(&entry.name));
            if entry.is_dir {
                self.link(&source, &target)?;
            } else {
                disk.hard_link(&source, &target).map_err(io)?;
            }
        }
        disk.sync_dir(to).map_err(io)
    }

    /// What is deleted stays so in the snapshot, which has no log that would say it.
    fn keep_deleted(&self, block: &Block, dir: &Path) -> Result<(), StorageError> {
        let disk = &*self.shared.disk;
        let write = || {
            for file in [DELETES_FILE, TOMBSTONES_FILE] {
                if disk.exists(&dir.join(file)) {
                    disk.remove_file(&dir.join(file))?;
                }
            }
            let deleted = block.all_deleted();
            if !deleted.is_empty() {
                durable::write_new(disk, &dir.join(TOMBSTONES_FILE), &deleted.encode())?;
            }
            disk.sync_dir(dir)
        };
        write().map_err(StorageError::io("write tombstones", dir))
    }

    /// Writes what the view has of the head as blocks.
    fn write_head(
        &self,
        tenant: &Tenant,
        view: &TenantView,
        home: &Path,
        change: &mut Change,
    ) -> Result<(), StorageError> {
        let mut exemplars_until = Timestamp::MIN;
        for (cut, times) in tenant.head.shown(&view.head) {
            let id = BlockId::new(&*self.shared.clock);
            let dir = home.join(id.to_string());
            let mut writer = BlockWriter::create(self.shared.disk.clone(), &dir)?;
            let mut series = 0u64;
            tenant.head.visit_cut(&cut, |labels, mut found| {
                found.entry.deleted.extend(found.undoable.drain(..).map(|(_, interval)| interval));
                series += u64::from(write_series(&mut writer, labels, found)?);
                Ok::<_, StorageError>(())
            })?;
            if series > 0 {
                let extras = tenant.head.extras_within(exemplars_until, cut.range.end);
                exemplars_until = cut.range.end;
                writer.write_exemplars(extras.exemplars.into_iter().map(Ok::<_, StorageError>))?;
                writer.write_metadata(extras.metadata.iter().map(|(name, m)| (name.as_str(), m)))?;
                writer.finish(BlockMeta::of_head(id, times.start, times.end.saturating_add(1)))?;
                let block = Block::open(&*self.shared.disk, &dir)?;
                change.added.push(BlockEntry::of_block(&block));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pyrrha_env::{Disk, OsDisk, SystemClock};
    use pyrrha_model::contract::{Deletes, Ingest, LabelQuery};
    use pyrrha_model::{Exemplar, Matcher, Metadata, TenantId, TimeRange};

    use super::*;
    use crate::config::StorageConfig;
    use crate::db::tests::{append, labels, read, recovered};

    fn open(dir: &Path) -> Db {
        let config = StorageConfig {
            quiet_before_cut: std::time::Duration::ZERO,
            disk_reserve_bytes: 0,
            ..StorageConfig::new(dir)
        };
        recovered(Db::open(config, Arc::new(OsDisk), Arc::new(SystemClock::new())).expect("opens"))
    }

    #[test]
    fn a_snapshot_is_a_data_directory_with_blocks_and_head_as_they_were() {
        const HOUR: i64 = 3_600_000;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (a, b) = (TenantId::anonymous(), TenantId::new("b").expect("a tenant"));
        let db = open(dir.path());
        for hour in 0..10 {
            append(&db, &a, &[(0, hour * HOUR, hour as f64), (1, hour * HOUR, 1.0)]);
        }
        append(&db, &b, &[(0, 5, 1.0)]);
        db.maintain().expect("maintains");
        let before = (read(&db, &a), read(&db, &b));
        let full = db.snapshot("20260101T000000Z-00ff", false).expect("a snapshot");
        let blocks = db.snapshot("blocks", true).expect("a snapshot");
        assert_eq!(full, dir.path().join("snapshots/20260101T000000Z-00ff"));
        append(&db, &a, &[(0, 20 * HOUR, 1.0)]);
        db.maintain().expect("maintains");
        drop(db);
        let copy = open(&full);
        assert_eq!((read(&copy, &a), read(&copy, &b)), before);
        append(&copy, &a, &[(0, 9 * HOUR + 1, 1.0)]);
        assert_eq!(read(&copy, &a)[&labels(0)].len(), 11, "it goes on where it was");
        drop(copy);
        let copy = open(&blocks);
        assert_eq!(read(&copy, &a)[&labels(0)].len(), 8);
        copy.delete(&a, &[vec![Matcher::equal("i", "0")]], TimeRange::new(0, HOUR)).expect("deletes");
        append(&copy, &a, &[(0, 20 * HOUR, 1.0), (1, 20 * HOUR, 1.0)]);
        copy.delete(&a, &[vec![Matcher::equal("i", "1")]], TimeRange::new(3 * HOUR, i64::MAX))
            .expect("deletes");
        let less = copy.snapshot("less", false).expect("a snapshot");
        let shown = read(&copy, &a);
        assert_eq!((shown[&labels(0)].len(), shown[&labels(1)].len()), (7, 3));
        assert_eq!(read(&open(&less), &a), shown, "what is deleted stays so");
        assert!(read(&copy, &b).is_empty());
    }

    #[test]
    fn a_snapshot_has_the_heads_exemplars_and_metadata_once() {
        const HOUR: i64 = 3_600_000;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let tenant = TenantId::anonymous();
        let config = StorageConfig { disk_reserve_bytes: 0, ..StorageConfig::new(dir.path()) };
        let db = recovered(Db::open(config, Arc::new(OsDisk), Arc::new(SystemClock::new())).expect("opens"));
        let mut appender = db.appender(&tenant).expect("an appender");
        let series = appender.resolve(None, &labels(1)).expect("a series");
        for hour in [1, 3, 5] {
            appender.append(series, 0, hour * HOUR, 1.0).expect("admitted");
            let exemplar = Exemplar { labels: labels(9), value: hour as f64, timestamp: hour * HOUR };
            appender.append_exemplar(series, exemplar).expect("admitted");
        }
        let metadata = Metadata { help: "what it is".into(), ..Metadata::default() };
        appender.append_metadata("m", metadata.clone());
        appender.commit().expect("commits");
        let seen = |db: &Db| {
            let query = LabelQuery::all(TimeRange::ALL);
            let ctx = QueryContext { tenant: tenant.clone(), ..QueryContext::unlimited() };
            let exemplars = db.queryable().exemplars(&ctx, &query).expect("reads");
            (exemplars, db.queryable().metadata(&ctx, None).expect("reads"))
        };
        let before = seen(&db);
        assert_eq!((before.0[0].exemplars.len(), &before.1["m"][..]), (3, &[metadata][..]));
        let copy = open(&db.snapshot("s", false).expect("a snapshot"));
        assert_eq!(seen(&copy), before);
        let files = copy.open_blocks(&tenant);
        let in_files = files.iter().filter_map(|b| b.exemplar_file().ok().flatten()).map(|f| {
            f.series(&[], TimeRange::ALL).map(|s| s.map_or(0, |s| s.exemplars.len())).sum::<usize>()
        });
        assert_eq!(in_files.collect::<Vec<_>>(), [1, 1, 1], "each with the range that it belongs to");
    }

    #[test]
    fn a_snapshot_has_blocks_that_could_not_be_read_when_it_was_made() {
        const HOUR: i64 = 3_600_000;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let tenant = TenantId::anonymous();
        let db = open(dir.path());
        for hour in 0..10 {
            append(&db, &tenant, &[(0, hour * HOUR, hour as f64)]);
        }
        db.maintain().expect("maintains");
        let (before, block) = (read(&db, &tenant), db.open_blocks(&tenant).remove(1));
        let index = block.dir().join("index");
        drop((db, block));
        let (disk, sound) = (OsDisk, OsDisk.read(&index).expect("reads").to_vec());
        disk.open(&index).and_then(|f| f.write_at(0, b"none")).expect("writes");
        let db = open(dir.path());
        assert_eq!(db.block_stats().damaged, 1);
        let path = db.snapshot("s", false).expect("a snapshot");
        let copy = open(&path);
        assert_eq!(copy.block_stats().damaged, 1, "the copy says what it lacks");
        drop(copy);
        disk.open(&index).and_then(|f| f.write_at(0, &sound[..4])).expect("writes");
        assert_eq!(read(&open(&path), &tenant), before, "it is the same file");
        db.delete(&tenant, &[vec![Matcher::equal("i", "0")]], TimeRange::ALL).expect("deletes");
        let copy = db.snapshot("t", false).expect("a snapshot");
        let copy = open(&copy);
        assert_eq!(copy.block_stats().damaged, 1);
        let ctx = QueryContext { partial_response: true, ..QueryContext::unlimited() };
        copy.queryable().select(&ctx, &[], TimeRange::ALL, &Default::default()).expect("what there is");
        assert_eq!(ctx.notices.gaps().len(), 1, "it says what it lacks");
    }

    #[test]
    fn a_snapshot_of_half_a_log_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = StorageConfig { disk_reserve_bytes: 0, ..StorageConfig::new(dir.path()) };
        let open = || {
            Db::open_held(config.clone(), Arc::new(OsDisk), Arc::new(SystemClock::new()), true)
                .expect("opens")
        };
        let db = open();
        db.release_recovery();
        assert!(db.wait_recovered());
        append(&db, &TenantId::anonymous(), &[(0, 5, 1.0)]);
        drop(db);
        let db = open();
        assert_eq!(db.snapshot("early", false).map_err(|e| e.kind()), Err(ErrorKind::Unavailable));
        db.snapshot("blocks", true).expect("blocks need no log");
        db.release_recovery();
        assert!(db.wait_recovered());
        db.snapshot("late", false).expect("a snapshot");
    }

    #[test]
    fn a_name_does_not_leave_the_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let db = open(dir.path());
        for name in ["", "../x", "a/b", "a.b", "ä"] {
            assert_eq!(db.snapshot(name, true).map_err(|e| e.kind()), Err(ErrorKind::Invalid), "{name}");
        }
        assert!(!dir.path().join("x").exists());
    }
}
