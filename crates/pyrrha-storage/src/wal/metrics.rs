//! What the log counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Damage;

/// Upper bounds of the fdatasync duration histogram, in seconds.
pub const SYNC_BOUNDS: [f64; 10] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];

/// A number that is read and written by several threads.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
}

/// Counters of one log since it was opened. Damage is counted while replay finds it.
#[derive(Debug, Default)]
pub struct WalMetrics {
    /// Records written, one per batch.
    pub records: Count,
    /// Samples in them.
    pub samples: Count,
    /// Bytes written, definitions included.
    pub bytes: Count,
    /// Bytes of symbols and series definitions before packing.
    pub definition_bytes: Count,
    /// Group commits that succeeded.
    pub groups: Count,
    /// Group commits that failed; their batches were not acknowledged.
    pub failed_groups: Count,
    /// Segments that were given up because a write or sync failed.
    pub failed_segments: Count,
    /// Batches that were turned away because their tenant's queue was full.
    pub rejected: Count,
    /// Bytes in memory that wait for the disk.
    pub queued_bytes: Count,
    /// Segment files there are.
    pub segments: Count,
    /// fdatasync calls by duration, see [`SYNC_BOUNDS`]; the last one has no bound.
    pub sync_buckets: [Count; SYNC_BOUNDS.len() + 1],
    /// Time spent in fdatasync, ns.
    pub sync_ns: Count,
    /// Records that replay gave back.
    pub replayed_records: Count,
    /// Samples that replay gave back.
    pub replayed_samples: Count,
    /// Damaged places that replay found.
    pub damaged_places: Count,
    /// Bytes that replay could not read.
    pub damaged_bytes: Count,
    /// Records that replay could not read, as far as known.
    pub damaged_records: Count,
    /// Samples that replay could not give back, as far as known.
    pub damaged_samples: Count,
    /// Bytes of unfinished writes that were cut off.
    pub torn_bytes: Count,
}

impl WalMetrics {
    pub(super) fn damaged(&self, damage: &Damage) {
        self.damaged_places.add(1);
        self.damaged_bytes.add(damage.bytes);
        self.damaged_records.add(damage.records.unwrap_or(0));
        self.damaged_samples.add(damage.samples.unwrap_or(0));
    }

    pub(super) fn synced(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = SYNC_BOUNDS.iter().position(|&bound| seconds <= bound).unwrap_or(SYNC_BOUNDS.len());
        self.sync_buckets[bucket].add(1);
        self.sync_ns.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
}
