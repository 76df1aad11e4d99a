//! What the database counts, as metrics.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use pyrrha_storage::wal::SYNC_BOUNDS;
use pyrrha_storage::{Db, RecoveryPhase};

use crate::telemetry::{counter, gauge};

/// Reads the database's counters when metrics are asked for.
#[derive(Debug)]
pub(super) struct DbCollector {
    db: Arc<Db>,
}

impl DbCollector {
    pub(super) fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    fn head(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let head = self.db.head_stats();
        gauge(out, "pyrrha_head_series", "Series in heads", head.series as f64)?;
        gauge(out, "pyrrha_head_chunks", "Sealed chunks in heads", head.chunks as f64)?;
        let late = head.late_chunks as f64;
        gauge(out, "pyrrha_head_out_of_order_chunks", "Chunks of out-of-order samples in heads", late)?;
        gauge(out, "pyrrha_head_memory_bytes", "Memory of heads", head.memory_bytes as f64)?;
        gauge(out, "pyrrha_head_file_bytes", "Mapped files of heads", head.file_bytes as f64)?;
        gauge(out, "pyrrha_tenants", "Tenants with data", self.db.tenants().len() as f64)?;
        // The names by which dashboards made for Prometheus find the same numbers.
        gauge(out, "prometheus_tsdb_head_series", "As pyrrha_head_series", head.series as f64)?;
        if let Some((min, max)) = head.times {
            gauge(out, "pyrrha_head_min_time_seconds", "Earliest sample in heads", min as f64 / 1000.0)?;
            gauge(out, "pyrrha_head_max_time_seconds", "Latest sample in heads", max as f64 / 1000.0)?;
        }
        let m = self.db.metrics();
        for (name, help, value) in [
            ("pyrrha_head_samples_appended", "Float samples stored", &m.samples),
            ("pyrrha_head_histograms_appended", "Histogram samples stored", &m.histograms),
            ("pyrrha_head_out_of_order_samples_appended", "Samples stored out of order", &m.late),
            ("pyrrha_head_samples_conflicting", "Samples lost to another of their time", &m.conflicts),
            ("pyrrha_head_exemplars_appended", "Exemplars stored", &m.exemplars),
            (
                "pyrrha_head_exemplars_dropped",
                "Exemplars that were too many before a block had them",
                &m.exemplars_dropped,
            ),
            ("pyrrha_head_metadata_dropped", "Metadata of too many metric families", &m.metadata_dropped),
            ("pyrrha_head_samples_repeated", "Samples that repeated the stored one", &m.repeated),
            ("pyrrha_head_start_timestamps_dropped", "Start timestamps not stored", &m.starts_dropped),
            ("pyrrha_head_series_created", "Series created", &m.series_created),
            ("pyrrha_head_series_removed", "Series that left heads", &m.series_removed),
            ("pyrrha_head_chunks_sealed", "Chunks sealed", &m.chunks_sealed),
            ("pyrrha_head_chunks_damaged", "Head chunks with a wrong checksum", &m.chunks_damaged),
            ("pyrrha_head_batches_abandoned", "Batches whose log write failed", &m.batches_abandoned),
            ("pyrrha_blocks_cut", "Blocks cut from heads", &m.blocks_cut),
            ("pyrrha_blocks_cut_out_of_order", "Those made of out-of-order samples", &m.late_blocks_cut),
            ("pyrrha_block_cuts_failed", "Cuts that failed and are tried again", &m.cuts_failed),
            ("pyrrha_blocks_removed", "Blocks removed by retention", &m.blocks_removed),
            ("pyrrha_blocks_orphaned", "Blocks of unfinished jobs removed", &m.orphans_removed),
            ("pyrrha_blocks_unreadable", "Blocks that did not open", &m.blocks_damaged),
            (
                "pyrrha_blocks_verified",
                "Blocks read as a whole to see whether they are sound",
                &m.blocks_verified,
            ),
            (
                "pyrrha_index_tables_written",
                "Files of the tables of an index that were written",
                &m.index_tables_written,
            ),
            (
                "pyrrha_index_tables_misfit",
                "Files of the tables of an index that turned out not to fit it",
                &m.index_tables_misfit,
            ),
            (
                "pyrrha_compaction_samples_conflicting",
                "Samples that compactions dropped for another of their time",
                &m.compaction_conflicts,
            ),
            ("pyrrha_blocks_quarantined", "Blocks that proved damaged", &m.blocks_quarantined),
            ("pyrrha_compactions", "Compactions committed", &m.compactions),
            ("pyrrha_compactions_failed", "Compactions that failed", &m.compactions_failed),
            ("pyrrha_compaction_input_bytes", "Bytes of compacted blocks", &m.compacted_bytes),
            ("prometheus_tsdb_compactions", "As pyrrha_compactions", &m.compactions),
            ("prometheus_tsdb_compactions_failed", "As pyrrha_compactions_failed", &m.compactions_failed),
            ("pyrrha_checkpoints", "Checkpoints written", &m.checkpoints),
            ("pyrrha_checkpoints_failed", "Checkpoints that failed", &m.checkpoints_failed),
        ] {
            counter(out, name, help, value.get() as f64)?;
        }
        counter(
            out,
            "prometheus_tsdb_head_out_of_order_samples_appended",
            "As pyrrha_head_out_of_order_samples_appended",
            m.late.get() as f64,
        )?;
        counter(
            out,
            "prometheus_tsdb_head_samples_appended",
            "As pyrrha_head_samples_appended and pyrrha_head_histograms_appended",
            (m.samples.get() + m.histograms.get()) as f64,
        )
    }

    fn disk(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let blocks = self.db.block_stats();
        gauge(out, "pyrrha_blocks", "Live blocks", blocks.blocks as f64)?;
        gauge(out, "pyrrha_blocks_bytes", "Bytes of live blocks", blocks.bytes as f64)?;
        gauge(out, "pyrrha_blocks_damaged", "Live blocks that are damaged", blocks.damaged as f64)?;
        gauge(out, "prometheus_tsdb_blocks_loaded", "As pyrrha_blocks", blocks.blocks as f64)?;
        gauge(out, "prometheus_tsdb_storage_blocks_bytes", "As pyrrha_blocks_bytes", blocks.bytes as f64)?;
        gauge(
            out,
            "pyrrha_compaction_running",
            "Whether blocks are being compacted",
            self.db.is_compacting().into(),
        )?;
        gauge(
            out,
            "pyrrha_disk_full",
            "Whether writes are refused for a full disk",
            self.db.is_disk_full().into(),
        )?;
        let (released, refused) = self.db.reserve_counts();
        counter(out, "pyrrha_disk_reserve_released", "Times the disk's reserve was used", released as f64)?;
        counter(out, "pyrrha_disk_full_refused_writes", "Writes refused for a full disk", refused as f64)
    }

    fn recovery(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.db.recovery_status();
        let recovered = if status.phase == RecoveryPhase::Done { 1.0 } else { 0.0 };
        gauge(out, "pyrrha_recovered", "1 when answers are complete after the start", recovered)?;
        let seconds = status.duration.as_secs_f64();
        gauge(out, "pyrrha_recovery_duration_seconds", "Time of recovery, so far or in all", seconds)?;
        gauge(out, "pyrrha_recovery_log_bytes", "Bytes of the log to replay", status.total_bytes as f64)?;
        gauge(out, "pyrrha_recovery_read_bytes", "Bytes of the log replayed", status.read_bytes as f64)?;
        let m = self.db.metrics();
        let held = m.side_head_bytes.get() as f64;
        gauge(out, "pyrrha_side_head_bytes", "Memory of samples that wait for recovery", held)?;
        for (name, help, value) in [
            ("pyrrha_recovery_samples_stored", "Logged samples that replay brought back", &m.replayed),
            (
                "pyrrha_recovery_samples_skipped",
                "Logged samples that a checkpoint or a block had already",
                &m.replay_skipped,
            ),
            ("pyrrha_recovery_samples_lost", "Logged samples that found no place", &m.replay_lost),
            (
                "pyrrha_side_head_samples",
                "Samples acknowledged before their tenant was recovered",
                &m.side_head_samples,
            ),
            ("pyrrha_side_head_samples_in_order", "Of those, newer than their series", &m.side_in_order),
            (
                "pyrrha_side_head_samples_out_of_order",
                "Of those, older than their series",
                &m.side_out_of_order,
            ),
            (
                "pyrrha_side_head_samples_conflicting",
                "Of those, dropped for a value acknowledged before",
                &m.side_conflicts,
            ),
        ] {
            counter(out, name, help, value.get() as f64)?;
        }
        Ok(())
    }

    fn refused(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let name = "pyrrha_head_samples_refused";
        let mut family = out.encode_descriptor(name, "Samples refused", None, MetricType::Counter)?;
        for (reason, n) in self.db.metrics().refused() {
            ConstCounter::new(n).encode(family.encode_family(&[("reason", reason)])?)?;
        }
        Ok(())
    }

    fn wal(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let m = self.db.wal().metrics();
        for (name, help, value) in [
            ("pyrrha_wal_records", "Batches written to the log", &m.records),
            ("pyrrha_wal_samples", "Samples written to the log", &m.samples),
            ("pyrrha_wal_written_bytes", "Bytes written to the log", &m.bytes),
            ("pyrrha_wal_group_commits", "Group commits", &m.groups),
            ("pyrrha_wal_failed_group_commits", "Group commits that failed", &m.failed_groups),
            ("pyrrha_wal_failed_segments", "Segments given up after a failed write", &m.failed_segments),
            ("pyrrha_wal_rejected_batches", "Batches turned away by a full queue", &m.rejected),
            ("pyrrha_wal_replayed_records", "Records that replay gave back", &m.replayed_records),
            ("pyrrha_wal_replayed_samples", "Samples that replay gave back", &m.replayed_samples),
            ("pyrrha_wal_damaged_places", "Damaged places that replay found", &m.damaged_places),
            ("pyrrha_wal_damaged_samples", "Samples that replay could not give back", &m.damaged_samples),
            ("pyrrha_wal_torn_bytes", "Bytes of unfinished writes cut off", &m.torn_bytes),
        ] {
            counter(out, name, help, value.get() as f64)?;
        }
        gauge(out, "pyrrha_wal_segments", "Segment files", m.segments.get() as f64)?;
        let unread = self.db.log_damage().unreadable_count as f64;
        gauge(
            out,
            "pyrrha_wal_unreadable_segments",
            "Segments that the disk did not give at the start",
            unread,
        )?;
        gauge(out, "pyrrha_wal_queued_bytes", "Bytes that wait for the disk", m.queued_bytes.get() as f64)?;
        let counts: Vec<_> = m.sync_buckets.iter().map(|c| c.get()).collect();
        let bounds = SYNC_BOUNDS.into_iter().chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
        let mut histogram = out.encode_descriptor(
            "pyrrha_wal_fdatasync_duration_seconds",
            "Time of fdatasync",
            None,
            MetricType::Histogram,
        )?;
        let sum = m.sync_ns.get() as f64 / 1e9;
        histogram.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }
}

impl Collector for DbCollector {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.head(&mut out)?;
        self.disk(&mut out)?;
        self.recovery(&mut out)?;
        self.refused(&mut out)?;
        self.wal(&mut out)
    }
}
