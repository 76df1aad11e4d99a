//! Damaged blocks: set aside with their reason, so that nothing else waits for them (principle 5).
//!
//! A block that does not open is left out of answers, which say so. One that opens and proves
//! damaged when a compaction reads it stays readable where it is sound, is not compacted any more,
//! and is named by every answer that it may have a part in. Thanos' `no-compact-mark.json` beside
//! the block's files remembers it, and marks of other tools count too.

use std::io;
use std::path::Path;

use pyrrha_env::Disk;
use pyrrha_model::StoreError;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::tenant::Tenant;
use crate::block::{Block, BlockId};
use crate::durable;

const MARK_FILE: &str = "no-compact-mark.json";
const MARK_VERSION: u32 = 1;
/// The reason that Pyrrha gives.
const CORRUPT: &str = "corrupt";

/// Why a block is not compacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quarantined {
    /// What is damaged; `None` if the mark is another tool's and speaks of something else.
    pub(crate) damage: Option<String>,
}

/// Thanos' mark, of which fields that are not known here are left alone as the file is.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    id: BlockId,
    version: u32,
    #[serde(default)]
    details: String,
    /// Seconds since the epoch.
    #[serde(default)]
    no_compact_time: i64,
    #[serde(default)]
    reason: String,
}

/// The mark of the block in `dir`, if it has one. One that cannot be read counts as one.
pub(crate) fn read_mark(disk: &dyn Disk, dir: &Path) -> Option<Quarantined> {
    let path = dir.join(MARK_FILE);
    if !disk.exists(&path) {
        return None;
    }
    let mark = disk.read(&path).ok().and_then(|json| serde_json::from_slice::<Mark>(&json).ok());
    let damage = mark.filter(|m| m.version == MARK_VERSION && m.reason == CORRUPT).map(|m| m.details);
    Some(Quarantined { damage })
}

fn write_mark(disk: &dyn Disk, dir: &Path, mark: &Mark) -> io::Result<()> {
    // Only a map with keys that are not strings, or a failing writer, can fail.
    let json = serde_json::to_vec(mark).expect("a struct with string keys serialises into memory");
    durable::replace(disk, &dir.join(MARK_FILE), &json)
}

impl Shared {
    /// Sets a block aside.
    pub(super) fn quarantine(&self, tenant: &Tenant, block: &Block, damage: &StoreError) {
        let (id, ulid) = (&tenant.head.tenant, block.meta().ulid);
        tracing::error!(tenant = %id, block = %ulid, error = %damage, "block is damaged; it is quarantined: not compacted, and named by answers of its time range");
        self.metrics.blocks_quarantined.add(1);
        let mark = Mark {
            id: ulid,
            version: MARK_VERSION,
            details: damage.to_string(),
            no_compact_time: self.clock.now_ms() / 1000,
            reason: CORRUPT.to_owned(),
        };
        if let Err(error) = write_mark(&*self.disk, block.dir(), &mark) {
            tracing::warn!(tenant = %id, block = %ulid, %error, "quarantine could not be written down, it ends with this process");
        }
        let _cuts = tenant.cuts.lock();
        let mut view = tenant.view.write();
        let mut quarantined = (*view.quarantined).clone();
        quarantined.insert(ulid, Quarantined { damage: Some(damage.to_string()) });
        view.quarantined = quarantined.into();
    }
}
