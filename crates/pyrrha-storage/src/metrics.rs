//! What the database counts: plain atomics that the server publishes.

use std::sync::atomic::{AtomicU64, Ordering};

use pyrrha_model::contract::Refused;

/// A monotone counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes away `n`, which was added before.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Reasons for which samples are refused, in the order of [`Metrics::refused`].
pub const REFUSAL_REASONS: [&str; 10] = [
    "out_of_order",
    "deleted_interval",
    "too_old",
    "too_far_in_future",
    "duplicate",
    "invalid_histogram",
    "out_of_order_exemplar",
    "duplicate_exemplar",
    "invalid_labels",
    "limit",
];

/// Counters of the database, over all tenants.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Float samples stored.
    pub samples: Counter,
    /// Histogram samples stored.
    pub histograms: Counter,
    /// Samples of either kind stored out of order.
    pub late: Counter,
    /// Samples dropped because another value was stored for their time, although they had been
    /// admitted.
    pub conflicts: Counter,
    /// Exemplars stored.
    pub exemplars: Counter,
    /// Deletes made.
    pub deletes: Counter,
    /// Exemplars that left memory before a block had them, because there were too many.
    pub exemplars_dropped: Counter,
    /// Metadata that was not taken, because there are too many metric families.
    pub metadata_dropped: Counter,
    /// Samples that repeated the stored one and were taken without storing them again.
    pub repeated: Counter,
    /// Start timestamps dropped because the option to store them is off.
    pub starts_dropped: Counter,
    /// Series created.
    pub series_created: Counter,
    /// Series that left the head.
    pub series_removed: Counter,
    /// Chunks sealed.
    pub chunks_sealed: Counter,
    /// Head chunks whose checksum did not match.
    pub chunks_damaged: Counter,
    /// Logged samples that replay found in the head or in a block already.
    pub replay_skipped: Counter,
    /// Logged samples that replay could not put in their place: the log is damaged, or held a
    /// batch whose failure had been reported.
    pub replay_lost: Counter,
    /// Logged samples that replay brought back.
    pub replayed: Counter,
    /// Bytes of batches that wait for their head to be recovered.
    pub side_head_bytes: Gauge,
    /// Samples that were acknowledged before their head was recovered.
    pub side_head_samples: Counter,
    /// Of those, the ones that turned out to be newer than their series.
    pub side_in_order: Counter,
    /// Of those, the ones that turned out to be older than their series.
    pub side_out_of_order: Counter,
    /// Of those, the ones dropped because another value of that time had been acknowledged before.
    pub side_conflicts: Counter,
    /// Those of them that were out of order.
    pub replayed_late: Counter,
    /// Batches whose log write failed.
    pub batches_abandoned: Counter,
    /// Blocks cut from heads.
    pub blocks_cut: Counter,
    /// Those of them that were made of late samples alone.
    pub late_blocks_cut: Counter,
    /// Ranges whose late samples have become a block, or part of one.
    pub late_ranges_cut: Counter,
    /// Compactions committed.
    pub compactions: Counter,
    /// Compactions that failed.
    pub compactions_failed: Counter,
    /// Samples that compactions dropped because another value of their series and time stays.
    pub compaction_conflicts: Counter,
    /// Bytes of the blocks that were compacted.
    pub compacted_bytes: Counter,
    /// Blocks read as a whole to see whether they are sound.
    pub blocks_verified: Counter,
    /// Files of the tables of an index that were written.
    pub index_tables_written: Counter,
    /// Those that turned out not to fit their index.
    pub index_tables_misfit: Counter,
    /// Blocks set aside because they proved damaged, twice.
    pub blocks_quarantined: Counter,
    /// Blocks removed because they are past retention, or there is more than may be kept.
    pub blocks_removed: Counter,
    /// Blocks removed because the job that wrote them never committed them.
    pub orphans_removed: Counter,
    /// Blocks that could not be opened.
    pub blocks_damaged: Counter,
    /// Cuts that failed and are tried again.
    pub cuts_failed: Counter,
    /// Checkpoints written.
    pub checkpoints: Counter,
    /// Checkpoints that failed and are tried again.
    pub checkpoints_failed: Counter,
    refused: [Counter; REFUSAL_REASONS.len()],
}

impl Metrics {
    /// Counts a refusal.
    pub fn count_refused(&self, refused: &Refused) {
        if let Some(i) = REFUSAL_REASONS.iter().position(|r| *r == refused.reason()) {
            self.refused[i].add(1);
        }
    }

    /// Refusals by reason.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        REFUSAL_REASONS.into_iter().zip(self.refused.iter().map(Counter::get))
    }
}
