//! What the bucket's door, shipper and gateway count, as metrics.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use pyrrha_bucket::Operation;

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
        let help = "Blocks of the bucket set aside as damaged or marked";
        counter(out, "pyrrha_compactor_blocks_set_aside", help, get(&m.blocks_set_aside) as f64)?;
        let help = "Blocks whose files were removed from the bucket";
        counter(out, "pyrrha_compactor_blocks_removed", help, get(&m.blocks_removed) as f64)?;
        counter(out, "pyrrha_compactor_read_bytes", "Bytes read by jobs done", get(&m.read_bytes) as f64)?;
        counter(out, "pyrrha_compactor_written_bytes", "Bytes of blocks made", get(&m.written_bytes) as f64)
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
        let cache = self.long_term.gateway.cache_stats();
        gauge(out, "pyrrha_bucket_cache_bytes", "Memory of the bucket's cache", cache.bytes as f64)?;
        counter(out, "pyrrha_bucket_cache_hits", "Pages found in the cache", cache.hits as f64)?;
        counter(out, "pyrrha_bucket_cache_misses", "Pages not found in the cache", cache.misses as f64)?;
        counter(out, "pyrrha_bucket_cache_evictions", "Pages that left the cache", cache.evicted as f64)
    }
}
