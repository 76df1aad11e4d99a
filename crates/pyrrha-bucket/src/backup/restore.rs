//! Restoring a backup into a bucket where the tenant has nothing: blocks first, then all of them at once.

use pyrrha_model::{ErrorKind, StoreError, TenantId, Timestamp};
use pyrrha_storage::manifest::{BlockEntry, Change, DeleteEntry, ManifestState};
use serde::Serialize;

use super::record::BackupRecord;
use super::{BackupChoice, Backups};
use crate::block_files::{dir, with_files};
use crate::downsample::renumber;
use crate::marks::MarkFiles;
use crate::tools::copy::{BlockCopy, Copied};
use crate::tools::{BucketTools, Progress};

/// What was restored of a tenant, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// The tenant of the backup.
    pub tenant: String,
    /// The tenant that it was restored to.
    pub restored_to: String,
    /// The backup.
    pub backup: String,
    /// Blocks that it has.
    pub blocks: u64,
    /// Bytes that were copied.
    pub copied_bytes: u64,
    /// Bytes that an earlier attempt had brought.
    pub present_bytes: u64,
    /// Whether the blocks were live before: there was nothing to do.
    pub was_restored: bool,
    /// Whether something was committed.
    pub committed: bool,
    /// Blocks that are not sound in the backup and were left out, if that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<DamagedBlock>,
}

/// A block that is not sound in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DamagedBlock {
    /// The block.
    pub block: String,
    /// ms; 0 for raw samples.
    pub resolution: i64,
    /// First millisecond of its range.
    pub min_time: Timestamp,
    /// First millisecond after its range.
    pub max_time: Timestamp,
    /// What is wrong.
    pub what: String,
}

/// How a backup is restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Nothing is written.
    pub dry_run: bool,
    /// What is sound is restored, though some is not.
    pub leaves_out_damaged: bool,
}

impl Backups {
    /// Restores a backup of a tenant to `to_tenant` of the bucket of `to`, which must have no blocks: each
    /// file is verified by its checksum, then all blocks and the deletes that stood are committed. An
    /// attempt that was interrupted goes on. Blocks that are not sound are all named by the error, or left out
    /// if the options say so.
    pub fn restore(
        &self,
        tenant: &TenantId,
        choice: BackupChoice,
        (to, to_tenant): (&BucketTools, &TenantId),
        RestoreOptions { dry_run, leaves_out_damaged }: RestoreOptions,
        progress: Progress<'_>,
    ) -> Result<Restored, StoreError> {
        let record = self.chosen(tenant, choice)?;
        let named = to.named_by_jobs(to_tenant)?;
        let manifest = to.tenants.manifest(to_tenant)?;
        let state = manifest.refresh()?;
        let mut done = Restored {
            tenant: tenant.to_string(),
            restored_to: to_tenant.to_string(),
            backup: record.id.to_string(),
            blocks: record.blocks.len() as u64,
            ..Restored::default()
        };
        if is_restored(&state, &record) {
            done.was_restored = true;
            return Ok(done);
        }
        must_be_empty(&state, &record, to_tenant)?;
        // What went for good comes back: that is what is asked for.
        if let Some(block) = record.blocks.iter().find(|b| named.has(&state, b.ulid)) {
            let text = format!(
                "a job there has replaced a block of the backup, or may make it, and its files go: run `bucket \
                 cleanup` first, when the delay is over or without one: tenant={to_tenant} block={}",
                block.ulid
            );
            return Err(StoreError::new(ErrorKind::Unavailable, text));
        }
        let total = record.blocks.iter().map(|b| b.bytes).fold(0, u64::saturating_add);
        let copy = BlockCopy {
            from: &self.tools,
            to,
            tenant: to_tenant,
            word: "restore",
            dry_run,
            reads_back: false,
            total,
        };
        let (mut copied, mut entries) = (Copied::default(), Vec::with_capacity(record.blocks.len()));
        for entry in &record.blocks {
            match copy.block(&dir(tenant, entry), entry, &mut copied, &mut *progress) {
                Ok(named) => entries.push(with_files(entry, &named)),
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    done.left_out.push(DamagedBlock::of(entry, &error));
                }
                Err(error) => return Err(error),
            }
        }
        if !leaves_out_damaged && let Some(error) = damage(&done.left_out, tenant) {
            return Err(error);
        }
        Copied { copied_bytes: done.copied_bytes, present_bytes: done.present_bytes } = copied;
        if dry_run {
            return Ok(done);
        }
        // Hours may have passed, in which whoever removes what a job had named could have come late.
        copy.must_be_there(&entries)?;
        // Deletes first, while nothing is live: blocks are then said to know them by their new number.
        let change =
            Change { deletes: record.deletes.clone(), gone: record.gone.clone(), ..Change::default() };
        let number = match record.deletes.is_empty() {
            true => 0,
            false => manifest.commit_change(&change)?.deletes.iter().map(|d| d.number).max().unwrap_or(0),
        };
        let newest = record.deletes.iter().map(|d| d.number).max().unwrap_or(0);
        entries.iter_mut().for_each(|entry| renumber(entry, newest, number));
        let added = Change { added: entries.clone(), gone: record.gone, ..Change::default() };
        manifest.commit_change(&added)?;
        let files = MarkFiles::new(to.tenants.bucket().clone(), to_tenant);
        to.runtime.wait(async move { files.write(&entries).await })?;
        done.committed = true;
        Ok(done)
    }
}

impl DamagedBlock {
    fn of(entry: &BlockEntry, error: &StoreError) -> Self {
        Self {
            block: entry.ulid.to_string(),
            resolution: entry.resolution,
            min_time: entry.min_time,
            max_time: entry.max_time,
            what: error.to_string(),
        }
    }
}

/// What to say of blocks that are not sound, if there are any.
fn damage(damaged: &[DamagedBlock], tenant: &TenantId) -> Option<StoreError> {
    let first = damaged.first()?;
    let blocks: Vec<&str> = damaged.iter().map(|one| one.block.as_str()).collect();
    let text = format!(
        "blocks of the backup are damaged, nothing is restored unless they are left out: tenant={tenant} \
         blocks={}: {}",
        blocks.join(","),
        first.what
    );
    Some(StoreError::new(ErrorKind::Corrupt, text))
}

/// Whether exactly the blocks of a backup are live, made of the same data.
fn is_restored(state: &ManifestState, record: &BackupRecord) -> bool {
    let same = |entry: &BlockEntry| {
        let live = state.blocks.get(&entry.ulid);
        live.is_some_and(|l| (l.sources == entry.sources) && l.bytes == entry.bytes)
    };
    !record.blocks.is_empty() && state.blocks.len() == record.blocks.len() && record.blocks.iter().all(same)
}

fn must_be_empty(state: &ManifestState, record: &BackupRecord, tenant: &TenantId) -> Result<(), StoreError> {
    // Deletes of the backup itself are of an attempt that was interrupted.
    let theirs = |delete: &DeleteEntry| !record.deletes.iter().any(|other| other.id == delete.id);
    if state.blocks.is_empty() && !state.deletes.iter().any(theirs) {
        return Ok(());
    }
    let text = format!(
        "a backup is restored only where the tenant has nothing; take another bucket, prefix or tenant: \
         tenant={tenant} blocks={} deletes={}",
        state.blocks.len(),
        state.deletes.len()
    );
    Err(StoreError::new(ErrorKind::Invalid, text))
}
