//! Segments of the log that a start could not read, and what was in blocks by then.
//!
//! A start takes it that what came in order for the range of a block is in the block. That is not so for a
//! range that was cut while the disk hid a part of the log. So before such a run cuts anything it writes
//! down which segments it missed, and which ranges had been cut by then. A later start that reads such a
//! segment takes its samples of other ranges for late ones: they are put beside the blocks.
//! ([ADR 0014](../../../../docs/adr/0014-unread-segments-are-remembered.md))

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use pyrrha_encoding::crc;
use pyrrha_env::Disk;
use pyrrha_model::{ErrorKind, StoreError, TenantId, TimeRange};
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::durable;
use crate::error::StorageError;
use crate::wal::{DamageReport, segment_number, segment_path};

const FILE: &str = "unread.json";
const VERSION: u32 = 1;

/// By segment: by tenant, the ranges (first and last ms) that were in blocks when it was missed first.
type Segments = BTreeMap<u64, BTreeMap<String, Vec<(i64, i64)>>>;

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    segments: Segments,
}

/// What is known of segments that were missed.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    segments: Arc<Segments>,
    /// It is not durable as it is.
    changed: bool,
    /// There are more than this start can name.
    too_many: bool,
}

/// What replay asks for.
#[derive(Debug, Default)]
pub(super) struct Missed(Arc<Segments>);

impl Missed {
    /// Whether a segment was missed by an earlier start.
    pub(super) fn has(&self, segment: u64) -> bool {
        self.0.contains_key(&segment)
    }

    /// The ranges of a tenant whose blocks have what the segment has for them.
    pub(super) fn covered(&self, segment: u64, tenant: &TenantId) -> Vec<TimeRange> {
        let ranges = self.0.get(&segment).and_then(|tenants| tenants.get(tenant.as_str()));
        ranges.into_iter().flatten().map(|&(start, end)| TimeRange::new(start, end)).collect()
    }
}

fn encode(segments: &Segments) -> Vec<u8> {
    let record = Record { version: VERSION, segments: segments.clone() };
    // Only a map with keys that are neither strings nor numbers, or a failing writer, can fail.
    let mut bytes = serde_json::to_vec(&record).expect("numbers and strings serialise into memory");
    crc::seal_text(&mut bytes);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Segments, String> {
    let json = crc::open_text("list", bytes).map_err(|e| e.to_string())?;
    let record: Record = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    if record.version != VERSION {
        return Err(format!("unknown version={}", record.version));
    }
    Ok(record.segments)
}

/// Segments, or why they do not read.
pub(crate) type Listed = Result<Vec<u64>, String>;

/// The segments of which the list in the directory of a log speaks; `None` if there is no list. The error
/// of one that is damaged says why.
pub(crate) fn listed(disk: &dyn Disk, wal: &Path) -> io::Result<Option<(PathBuf, Listed)>> {
    let path = wal.join(FILE);
    if !disk.exists(&path) {
        return Ok(None);
    }
    let segments = decode(&disk.read(&path)?).map(|segments| segments.into_keys().collect());
    Ok(Some((path, segments)))
}

/// Fails if the disk refused to give a part of the log of a data directory: it may have deletes, and samples
/// that are deleted. Says which file, and what can be done.
pub(crate) fn check_read(damage: &DamageReport, data_dir: &Path) -> Result<(), StoreError> {
    let Some(&first) = damage.unreadable.first() else { return Ok(()) };
    let path = segment_path(&data_dir.join("wal"), first);
    let text = format!(
        "log cannot be read whole, deletes that stand are not known: file={} files={}; restart when the disk \
         gives it, or move the file away and restart: samples that only it has are lost then",
        path.display(),
        damage.unreadable_count
    );
    Err(StoreError::new(ErrorKind::Unavailable, text))
}

impl Shared {
    fn unread_file(&self) -> PathBuf {
        self.config.dir.join("wal").join(FILE)
    }

    /// Reads what earlier starts missed.
    pub(super) fn load_unread(&self) -> Result<(), StorageError> {
        let path = self.unread_file();
        if !self.disk.exists(&path) {
            return Ok(());
        }
        let bytes = self.disk.read(&path).map_err(StorageError::io("read list of unread segments", &path))?;
        match decode(&bytes) {
            Ok(segments) => self.unread.state.lock().segments = Arc::new(segments),
            // It costs what those segments have of ranges cut since, and nothing else.
            Err(error) => {
                tracing::error!(path = %path.display(), error, "list of unread segments is damaged, samples of segments that were unreadable once may be missing");
            }
        }
        Ok(())
    }

    /// What replay has to know.
    pub(super) fn missed(&self) -> Missed {
        Missed(self.unread.state.lock().segments.clone())
    }

    /// Remembers the segments that this start has missed. Nothing has been cut that they may have samples of.
    pub(super) fn note_unread(&self, damage: &DamageReport) {
        if damage.unreadable.is_empty() {
            return;
        }
        let mut covered: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
        for tenant in self.tenants.all() {
            let ranges = tenant.head.cut_ranges().iter().map(|r| (r.start, r.end)).collect();
            covered.insert(tenant.head.tenant.to_string(), ranges);
        }
        {
            let mut state = self.unread.state.lock();
            state.too_many = !damage.names_all_unreadable();
            let mut segments = (*state.segments).clone();
            for &segment in &damage.unreadable {
                // What an earlier start says holds on: what was cut since, was cut without the segment.
                segments.entry(segment).or_insert_with(|| covered.clone());
            }
            state.changed |= segments != *state.segments;
            state.segments = Arc::new(segments);
        }
        if let Err(error) = self.keep_unread() {
            tracing::warn!(%error, "unread segments could not be written down, nothing is cut until they are");
        }
    }

    /// Makes the list durable if it is not; nothing may be cut before.
    pub(super) fn keep_unread(&self) -> Result<(), StorageError> {
        let mut state = self.unread.state.lock();
        if state.too_many {
            let text = "too many segments of the log cannot be read, nothing is cut before a start that can";
            return Err(StoreError::new(ErrorKind::Unavailable, text).into());
        }
        if !state.changed {
            return Ok(());
        }
        let path = self.unread_file();
        let write = || -> io::Result<()> {
            let mut segments = (*state.segments).clone();
            // Those that were truncated since are of no interest.
            let names = self.disk.list(&self.config.dir.join("wal"))?;
            let there: BTreeSet<u64> = names.iter().filter_map(|e| segment_number(&e.name)).collect();
            segments.retain(|number, _| there.contains(number));
            durable::replace(&*self.disk, &path, &encode(&segments))
        };
        write().map_err(StorageError::io("write list of unread segments", &path))?;
        state.changed = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
