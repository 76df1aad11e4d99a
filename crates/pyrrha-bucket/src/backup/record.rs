//! The file of a backup: JSON, a line feed, and the checksum of both as eight hexadecimal digits, as
//! manifests are.

use pyrrha_encoding::crc;
use pyrrha_model::Timestamp;
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::{BlockEntry, DeleteEntry};
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;
/// Largest file that is read: some hundreds of thousands of blocks.
pub(super) const MAX: u64 = 512 << 20;

/// What was live in a tenant's bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BackupRecord {
    version: u32,
    pub(super) id: BlockId,
    pub(super) tenant: String,
    /// When it was begun, by the wall clock of its maker, ms.
    pub(super) created_at: Timestamp,
    /// The bucket it is of.
    pub(super) source: String,
    /// The manifest number there.
    pub(super) manifest: u64,
    /// Live blocks, with the checksums of all files.
    pub(super) blocks: Vec<BlockEntry>,
    /// Deletes that stood.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) deletes: Vec<DeleteEntry>,
    /// Level-1 blocks whose data went for good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) gone: Vec<BlockId>,
}

/// A backup of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupInfo {
    /// Its id.
    pub id: String,
    /// The tenant.
    pub tenant: String,
    /// When it was begun, by the wall clock of its maker, ms.
    pub created_at: Timestamp,
    /// The bucket it is of.
    pub source: String,
    /// The manifest number there.
    pub manifest: u64,
    /// Blocks.
    pub blocks: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// First millisecond of the oldest, 0 if there is none.
    pub min_time: Timestamp,
    /// First millisecond after the newest.
    pub max_time: Timestamp,
}

impl BackupRecord {
    pub(super) fn new(
        (id, tenant, created_at): (BlockId, String, Timestamp),
        source: String,
        state: &pyrrha_storage::manifest::ManifestState,
        blocks: Vec<BlockEntry>,
    ) -> Self {
        Self {
            version: VERSION,
            id,
            tenant,
            created_at,
            source,
            manifest: state.number,
            blocks,
            deletes: state.deletes.clone(),
            gone: state.gone.iter().copied().collect(),
        }
    }

    pub(super) fn info(&self) -> BackupInfo {
        BackupInfo {
            id: self.id.to_string(),
            tenant: self.tenant.clone(),
            created_at: self.created_at,
            source: self.source.clone(),
            manifest: self.manifest,
            blocks: self.blocks.len() as u64,
            bytes: self.blocks.iter().map(|b| b.bytes).fold(0, u64::saturating_add),
            min_time: self.blocks.iter().map(|b| b.min_time).min().unwrap_or(0),
            max_time: self.blocks.iter().map(|b| b.max_time).max().unwrap_or(0),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        // Only a map with keys that are not strings, or a failing writer, can fail.
        let mut bytes = serde_json::to_vec(self).expect("a struct with string keys serialises into memory");
        crc::seal_text(&mut bytes);
        bytes
    }

    /// The error says why it does not read.
    pub(super) fn decode(id: BlockId, bytes: &[u8]) -> Result<Self, String> {
        let json = crc::open_text("backup", bytes).map_err(|e| e.to_string())?;
        let record: Self = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        match record.version == VERSION && record.id == id {
            true => Ok(record),
            false => Err(format!("says version={} id={}", record.version, record.id)),
        }
    }
}
