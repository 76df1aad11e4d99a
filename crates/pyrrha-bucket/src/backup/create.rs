//! Making a backup: blocks that no earlier one has, then the backup's own file.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use pyrrha_model::{ErrorKind, StoreError, TenantId};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::BlockEntry;
use serde::Serialize;

use super::Backups;
use super::record::BackupRecord;
use crate::block_files::{BlockFile, dir, files, with_files, with_root};
use crate::tools::copy::{BlockCopy, Copied, named_files};
use crate::tools::{BucketTools, Progress};

/// What became of a backup, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackedUp {
    /// The tenant.
    pub tenant: String,
    /// The id of the backup; none if nothing was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    /// The manifest number that it is of.
    pub manifest: u64,
    /// Blocks that it has.
    pub blocks: u64,
    /// Of those, blocks that an earlier backup had brought.
    pub known_blocks: u64,
    /// Blocks that an earlier backup had brought and that were damaged there: they were copied anew.
    pub mended_blocks: u64,
    /// Their bytes.
    pub known_bytes: u64,
    /// Bytes that were copied.
    pub copied_bytes: u64,
    /// Bytes that an earlier attempt had brought.
    pub present_bytes: u64,
}

/// How a backup is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackupOptions {
    /// Nothing is written.
    pub dry_run: bool,
    /// What earlier backups have brought is read, and copied anew where checksums differ; otherwise lengths alone
    /// are compared.
    pub verifies: bool,
}

impl Backups {
    /// Makes a backup of a tenant of the bucket of `from`, as of its newest manifest.
    pub fn create(
        &self,
        from: &BucketTools,
        tenant: &TenantId,
        BackupOptions { dry_run, verifies }: BackupOptions,
        progress: Progress<'_>,
    ) -> Result<BackedUp, StoreError> {
        self.must_be_no_live_bucket(tenant)?;
        let state = from.state(tenant)?;
        let created_at = from.clock.now_ms();
        let known = self.known(tenant)?;
        let mut blocks: Vec<BlockEntry> = state.blocks.values().map(|b| (**b).clone()).collect();
        blocks.sort_by_key(|b| (b.min_time, b.ulid));
        let mut done = BackedUp {
            tenant: tenant.to_string(),
            manifest: state.number,
            blocks: blocks.len() as u64,
            ..BackedUp::default()
        };
        let is_new = |entry: &&BlockEntry| verifies || known_files(&known, entry).is_none();
        let total = blocks.iter().filter(is_new).map(|b| b.bytes).fold(0, u64::saturating_add);
        let copy =
            BlockCopy { from, to: &self.tools, tenant, word: "backup", dry_run, reads_back: false, total };
        let mut copied = Copied::default();
        for entry in &mut blocks {
            let named = match known_files(&known, entry) {
                Some(named) if verifies && !dry_run => {
                    // By the checksums that were noted as it was brought.
                    *entry = with_files(entry, &named);
                    let before = copied.copied_bytes;
                    let named = copy
                        .block(&dir(tenant, entry), entry, &mut copied, &mut *progress)
                        .map_err(|e| went_away(e, entry))?;
                    let count = match copied.copied_bytes > before {
                        true => &mut done.mended_blocks,
                        false => &mut done.known_blocks,
                    };
                    *count += 1;
                    named
                }
                Some(named) => {
                    done.known_blocks += 1;
                    done.known_bytes = done.known_bytes.saturating_add(entry.bytes);
                    named
                }
                None => copy
                    .block(&dir(tenant, entry), entry, &mut copied, &mut *progress)
                    .map_err(|e| went_away(e, entry))?,
            };
            // In the backup it lies with the tenant's others.
            *entry = with_root(with_files(entry, &named), None);
        }
        Copied { copied_bytes: done.copied_bytes, present_bytes: done.present_bytes } = copied;
        if dry_run {
            return Ok(done);
        }
        let id = BlockId::new(&*self.tools.clock);
        let source = from.tenants.bucket().name().to_owned();
        let record = BackupRecord::new((id, tenant.to_string(), created_at), source, &state, blocks);
        let (bucket, key) = (self.tools.tenants.bucket().clone(), Self::key(tenant, id));
        let bytes = Bytes::from(record.encode());
        if !self.tools.runtime.wait(async move { bucket.create_or_mine(&key, bytes).await })? {
            let text = format!("backup of that id is there already: tenant={tenant} backup={id}");
            return Err(StoreError::new(ErrorKind::Internal, text));
        }
        done.backup = Some(id.to_string());
        Ok(done)
    }

    /// A backup beside live blocks would be removed with them.
    fn must_be_no_live_bucket(&self, tenant: &TenantId) -> Result<(), StoreError> {
        let (bucket, dir) = (self.tools.tenants.bucket().clone(), format!("{tenant}/manifest"));
        let there = self.tools.runtime.wait(async move { bucket.list(&dir).await })?;
        if there.is_empty() {
            return Ok(());
        }
        let text = format!(
            "backups are not kept in a bucket that lives: it has manifests, take another bucket or prefix: \
             tenant={tenant} bucket={}",
            self.tools.tenants.bucket().name()
        );
        Err(StoreError::new(ErrorKind::Invalid, text))
    }

    /// The files of blocks that earlier backups have, and that are all there in full length.
    fn known(&self, tenant: &TenantId) -> Result<HashMap<BlockId, Vec<BlockFile>>, StoreError> {
        let records = self.records(tenant)?;
        let (bucket, dir) = (self.tools.tenants.bucket().clone(), tenant.to_string());
        let listed = self.tools.runtime.wait(async move { bucket.list(&dir).await })?;
        let there: BTreeMap<String, u64> = listed.into_iter().map(|o| (o.key, o.bytes)).collect();
        let mut known = HashMap::new();
        for entry in records.iter().flatten().flat_map(|record| &record.blocks) {
            let Ok(named) = named_files(entry) else { continue };
            let is_there =
                |f: &BlockFile| there.get(&format!("{tenant}/{}/{}", entry.ulid, f.name)) == Some(&f.bytes);
            if named.iter().all(is_there) {
                known.insert(entry.ulid, named);
            }
        }
        Ok(known)
    }
}

/// The files of a block, with checksums, if an earlier backup has the same.
fn known_files(known: &HashMap<BlockId, Vec<BlockFile>>, entry: &BlockEntry) -> Option<Vec<BlockFile>> {
    let named = known.get(&entry.ulid)?;
    let same = |file: &BlockFile| {
        let other = named.iter().find(|other| other.name == file.name);
        other.is_some_and(|o| o.bytes == file.bytes && (file.crc32c.is_none() || file.crc32c == o.crc32c))
    };
    let wanted = files(entry);
    (wanted.len() == named.len() && wanted.iter().all(same)).then(|| named.clone())
}

/// What was live when the backup began may have been replaced and removed since.
fn went_away(error: StoreError, entry: &BlockEntry) -> StoreError {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    let text = format!(
        "a block went away while it was copied, make the backup again, what was copied stays: block={}: {error}",
        entry.ulid
    );
    StoreError::new(ErrorKind::NotFound, text)
}
