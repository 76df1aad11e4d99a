//! Whether what backups name is there and as it was.

use std::collections::{BTreeMap, BTreeSet};

use pyrrha_model::{StoreError, TenantId};
use pyrrha_storage::block::BlockId;
use serde::Serialize;

use super::{BackupChoice, Backups};
use crate::block_files::BlockFile;
use crate::fetch::checksum;
use crate::tools::Progress;
use crate::tools::copy::named_files;

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupIssue {
    /// The backup that does not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    /// The block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<String>,
    /// The file within the block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// In words.
    pub what: String,
}

/// What was found of a tenant's backups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupReport {
    /// The tenant.
    pub tenant: String,
    /// Backups that read.
    pub backups: Vec<String>,
    /// Blocks that they name, each counted once.
    pub blocks: u64,
    /// Files of those.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of which the checksum was computed.
    pub read_bytes: u64,
    /// What is wrong.
    pub issues: Vec<BackupIssue>,
}

impl Backups {
    /// Looks at all backups of a tenant, or at one. Each file is read for its checksum, unless only lengths
    /// are to be compared. An error only if the bucket cannot be read; what is wrong is in the report.
    pub fn verify(
        &self,
        tenant: &TenantId,
        choice: Option<BackupChoice>,
        lengths_only: bool,
        progress: Progress<'_>,
    ) -> Result<BackupReport, StoreError> {
        let mut report = BackupReport { tenant: tenant.to_string(), ..BackupReport::default() };
        let records = match choice {
            None => self.records(tenant)?,
            Some(choice) => vec![Ok(self.chosen(tenant, choice)?)],
        };
        // Of one name, backups may remember other checksums: then one of them is wrong.
        let mut wanted: BTreeSet<(BlockId, String, u64, Option<u32>)> = BTreeSet::new();
        for record in records {
            match record {
                Err((id, why)) => report.issues.push(BackupIssue {
                    backup: Some(id.to_string()),
                    block: None,
                    file: None,
                    what: format!("backup does not read: {why}"),
                }),
                Ok(record) => {
                    report.backups.push(record.id.to_string());
                    for entry in &record.blocks {
                        match named_files(entry) {
                            Ok(named) => wanted.extend(named.into_iter().map(|f| of(entry.ulid, f))),
                            Err(error) => report.issues.push(BackupIssue {
                                backup: Some(record.id.to_string()),
                                block: Some(entry.ulid.to_string()),
                                file: None,
                                what: error.to_string(),
                            }),
                        }
                    }
                }
            }
        }
        let (bucket, dir) = (self.tools.tenants.bucket().clone(), tenant.to_string());
        let listed = self.tools.runtime.wait(async move { bucket.list(&dir).await })?;
        let there: BTreeMap<String, u64> = listed.into_iter().map(|o| (o.key, o.bytes)).collect();
        report.blocks = wanted.iter().map(|(block, ..)| block).collect::<BTreeSet<_>>().len() as u64;
        report.objects = wanted.len() as u64;
        report.bytes = wanted.iter().map(|(_, _, bytes, _)| bytes).fold(0, |a, b| a.saturating_add(*b));
        for (block, name, bytes, expected) in wanted {
            progress("verify", report.read_bytes, report.bytes);
            let key = format!("{tenant}/{block}/{name}");
            let what = match there.get(&key) {
                None => Some("object is not there".to_owned()),
                Some(found) if *found != bytes => Some(format!("expected bytes={bytes} found={found}")),
                Some(_) if lengths_only => None,
                Some(_) => self.sum_differs(key, bytes, expected, &mut report)?,
            };
            report.issues.extend(what.map(|what| BackupIssue {
                backup: None,
                block: Some(block.to_string()),
                file: Some(name),
                what,
            }));
        }
        Ok(report)
    }

    fn sum_differs(
        &self,
        key: String,
        bytes: u64,
        expected: Option<u32>,
        report: &mut BackupReport,
    ) -> Result<Option<String>, StoreError> {
        let bucket = self.tools.tenants.bucket().clone();
        let sum = self.tools.runtime.wait(async move { checksum(&bucket, &key, bytes).await })?;
        report.read_bytes = report.read_bytes.saturating_add(bytes);
        Ok(match expected {
            Some(expected) if expected == sum => None,
            Some(expected) => Some(format!("expected crc32c={expected:08x} found={sum:08x}")),
            None => Some("backup has no checksum of it".to_owned()),
        })
    }
}

fn of(block: BlockId, file: BlockFile) -> (BlockId, String, u64, Option<u32>) {
    (block, file.name, file.bytes, file.crc32c)
}
