//! What the bucket's door, shipper and gateway count, as metrics.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use pyrrha_bucket::attach::AttachedBucket;
use pyrrha_bucket::{CacheStats, Operation};

use super::bucket::LongTerm;
use crate::telemetry::{counter, gauge};

/// Reads the counters of a bucket when metrics are asked for.
pub(super) struct BucketCollector {
    long_term: Arc<LongTerm>,
}

impl fmt::Debug for BucketCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BucketCollector")
    }
}

impl BucketCollector {
    pub(super) fn new(long_term: Arc<LongTerm>) -> Self {
        Self { long_term }
    }

    fn requests(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counters = self.long_term.bucket.counters();
        let mut family =
            out.encode_descriptor("pyrrha_bucket_requests", "Requests sent", None, MetricType::Counter)?;
        for operation in Operation::ALL {
            let labels = [("operation", operation.name())];
            ConstCounter::new(counters.attempts(operation)).encode(family.encode_family(&labels)?)?;
        }
        let help = "Requests that failed or were not answered in time";
        let mut family =
            out.encode_descriptor("pyrrha_bucket_request_failures", help, None, MetricType::Counter)?;
        for operation in Operation::ALL {
            let labels = [("operation", operation.name())];
            ConstCounter::new(counters.failures(operation)).encode(family.encode_family(&labels)?)?;
        }
        counter(out, "pyrrha_bucket_received_bytes", "Bytes read", counters.received_bytes() as f64)?;
        counter(out, "pyrrha_bucket_sent_bytes", "Bytes written", counters.sent_bytes() as f64)
    }
}

impl BucketCollector {
    fn jobs(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let m = self.long_term.compactor.metrics();
        let get = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let help = "Jobs on the bucket's blocks that ended, by how";
        let mut family = out.encode_descriptor("pyrrha_compactor_jobs", help, None, MetricType::Counter)?;
        let outcomes = [
            ("done", &m.jobs_done),
            ("late", &m.jobs_late),
            ("failed", &m.jobs_failed),
            ("taken_over", &m.jobs_taken_over),
        ];
        for (outcome, value) in outcomes {
            ConstCounter::new(get(value)).encode(family.encode_family(&[("outcome", outcome)])?)?;
        }
        let help = "Jobs on the bucket's blocks that nobody has taken";
        gauge(out, "pyrrha_compactor_planned_jobs", help, get(&m.planned_jobs) as f64)?;
        let help = "Bytes that jobs on the bucket's blocks have yet to read";
        gauge(out, "pyrrha_compactor_backlog_bytes", help, get(&m.backlog_bytes) as f64)?;
        let help = "Time until the backlog is done, 0 if not known";
        gauge(out, "pyrrha_compactor_eta_seconds", help, get(&m.eta_ms) as f64 / 1000.0)?;
        let help = "Blocks of the bucket set aside as damaged";
        counter(out, "pyrrha_compactor_blocks_set_aside", help, get(&m.blocks_set_aside) as f64)?;
        let help = "Blocks whose files were removed from the bucket";
        counter(out, "pyrrha_compactor_blocks_removed", help, get(&m.blocks_removed) as f64)?;
        counter(out, "pyrrha_compactor_read_bytes", "Bytes read by jobs done", get(&m.read_bytes) as f64)?;
        counter(out, "pyrrha_compactor_written_bytes", "Bytes of blocks made", get(&m.written_bytes) as f64)?;
        let Some(mirror) = &self.long_term.mirror else { return Ok(()) };
        let m = mirror.metrics();
        let help = "Replaced blocks that were marked for other tools";
        counter(out, "pyrrha_mirror_marked_blocks", help, get(&m.marked_blocks) as f64)?;
        let help = "Bucket indexes written for other tools";
        counter(out, "pyrrha_mirror_indexes_written", help, get(&m.indexes_written) as f64)?;
        let help = "Bucket indexes not written, as somebody else wrote them meanwhile";
        counter(out, "pyrrha_mirror_late_indexes", help, get(&m.late_indexes) as f64)?;
        let help = "Attempts to look after the mirror of a tenant that failed";
        counter(out, "pyrrha_mirror_failures", help, get(&m.failures) as f64)
    }
}

impl BucketCollector {
    fn adoption(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(adopter) = &self.long_term.adopter else { return Ok(()) };
        let m = adopter.metrics();
        let get = |value: &AtomicU64| value.load(Ordering::Relaxed) as f64;
        counter(out, "pyrrha_adopter_blocks", "Blocks of others that were adopted", get(&m.blocks))?;
        counter(out, "pyrrha_adopter_failures", "Looks for blocks of others that failed", get(&m.failures))?;
        let help = "Adopted blocks that somebody has removed";
        gauge(out, "pyrrha_adopter_missing_blocks", help, get(&m.missing))?;
        let help = "Blocks of others that are not adopted, by why";
        let mut family =
            out.encode_descriptor("pyrrha_adopter_left_out_blocks", help, None, MetricType::Gauge)?;
        for (reason, blocks) in m.left_out() {
            let labels = [("reason", reason.as_str())];
            ConstGauge::new(blocks as f64).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Collector for BucketCollector {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut out;
        self.requests(out)?;
        let m = self.long_term.shipper.metrics();
        let get = |value: &AtomicU64| value.load(Ordering::Relaxed) as f64;
        gauge(out, "pyrrha_shipper_backlog_blocks", "Blocks to be shipped", get(&m.backlog_blocks))?;
        gauge(out, "pyrrha_shipper_backlog_bytes", "Bytes to be shipped", get(&m.backlog_bytes))?;
        counter(out, "pyrrha_shipper_blocks", "Blocks shipped", get(&m.shipped_blocks))?;
        counter(out, "pyrrha_shipper_bytes", "Bytes of blocks shipped", get(&m.shipped_bytes))?;
        counter(out, "pyrrha_shipper_failures", "Attempts to ship a block that failed", get(&m.failures))?;
        self.jobs(out)?;
        self.adoption(out)
    }
}

/// Reads the counters of the caches of all buckets, which share what is set for them.
pub(super) struct CacheCollector {
    own: Option<Arc<LongTerm>>,
    attached: Vec<Arc<AttachedBucket>>,
}

impl fmt::Debug for CacheCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheCollector")
    }
}

impl CacheCollector {
    pub(super) fn new(own: Option<Arc<LongTerm>>, attached: Vec<Arc<AttachedBucket>>) -> Self {
        Self { own, attached }
    }

    /// Each cache of all buckets together.
    fn caches(&self) -> [(&'static str, CacheStats); 3] {
        let mut all = [
            ("memory", CacheStats::default()),
            ("disk", CacheStats::default()),
            ("headers", CacheStats::default()),
        ];
        let own = self.own.iter().map(|own| own.gateway.stats());
        for stats in own.chain(self.attached.iter().map(|bucket| bucket.stats())) {
            for ((_, sum), one) in all.iter_mut().zip([stats.memory, stats.disk, stats.headers]) {
                sum.bytes += one.bytes;
                sum.hits += one.hits;
                sum.misses += one.misses;
                sum.evicted += one.evicted;
            }
        }
        all
    }
}

impl Collector for CacheCollector {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let caches = self.caches();
        let help = "Bytes held by caches of buckets";
        let mut family = out.encode_descriptor("pyrrha_bucket_cache_bytes", help, None, MetricType::Gauge)?;
        for (cache, stats) in caches {
            ConstGauge::new(stats.bytes as f64).encode(family.encode_family(&[("cache", cache)])?)?;
        }
        type Count = fn(&CacheStats) -> u64;
        let counts: [(&str, &str, Count); 3] = [
            ("pyrrha_bucket_cache_hits", "Pages, and opened blocks, found in a cache", |s| s.hits),
            ("pyrrha_bucket_cache_misses", "Pages, and opened blocks, not found in a cache", |s| s.misses),
            ("pyrrha_bucket_cache_evictions", "Pages, and opened blocks, that left a cache", |s| s.evicted),
        ];
        for (name, help, count) in counts {
            let mut family = out.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (cache, stats) in &caches {
                ConstCounter::new(count(stats)).encode(family.encode_family(&[("cache", *cache)])?)?;
            }
        }
        Ok(())
    }
}
