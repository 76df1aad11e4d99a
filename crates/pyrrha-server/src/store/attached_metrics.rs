//! What is known of attached buckets, as metrics.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use pyrrha_bucket::attach::{AttachedBucket, Why};
use pyrrha_env::Clock;

/// Reads the state of attached buckets when metrics are asked for.
pub(super) struct AttachedCollector {
    /// With names of which each is once.
    buckets: Vec<(String, Arc<AttachedBucket>)>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for AttachedCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AttachedCollector")
    }
}

impl AttachedCollector {
    pub(super) fn new(buckets: &[Arc<AttachedBucket>], clock: Arc<dyn Clock>) -> Self {
        let mut names = BTreeSet::new();
        let named = buckets.iter().enumerate().map(|(i, bucket)| {
            let mut name = bucket.name().to_owned();
            if !names.insert(name.clone()) {
                name = format!("{name}#{i}");
            }
            (name, bucket.clone())
        });
        Self { buckets: named.collect(), clock }
    }

    fn gauges(
        &self,
        out: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        value: impl Fn(&AttachedBucket) -> Option<f64>,
    ) -> fmt::Result {
        let mut family = out.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (bucket, attached) in &self.buckets {
            if let Some(value) = value(attached) {
                ConstGauge::new(value).encode(family.encode_family(&[("bucket", bucket.as_str())])?)?;
            }
        }
        Ok(())
    }

    fn counters(
        &self,
        out: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        value: impl Fn(&AttachedBucket) -> u64,
    ) -> fmt::Result {
        let mut family = out.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (bucket, attached) in &self.buckets {
            let labels = [("bucket", bucket.as_str())];
            ConstCounter::new(value(attached)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn hidden(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Blocks of attached buckets that are not read, by why";
        let mut family =
            out.encode_descriptor("pyrrha_attached_hidden_blocks", help, None, MetricType::Gauge)?;
        for (bucket, attached) in &self.buckets {
            let counts = attached.view().hidden_by_reason();
            for why in Why::WORDS {
                let (labels, count) = ([("bucket", bucket.as_str()), ("reason", why)], counts.get(why));
                let count = count.copied().unwrap_or(0);
                ConstGauge::new(count as f64).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl Collector for AttachedCollector {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let (out, now) = (&mut out, self.clock.now_ms());
        let blocks = ("pyrrha_attached_blocks", "Blocks of attached buckets that queries read");
        self.gauges(out, blocks, |bucket| Some(bucket.view().seen.len() as f64))?;
        self.hidden(out)?;
        let age = ("pyrrha_attached_look_age_seconds", "Time since an attached bucket was looked at");
        self.gauges(out, age, |bucket| {
            let at = bucket.view().looked_at;
            (at != 0).then(|| now.saturating_sub(at) as f64 / 1000.0)
        })?;
        let looks = ("pyrrha_attached_looks", "Looks at attached buckets");
        self.counters(out, looks, |bucket| bucket.looks().done)?;
        let failed = ("pyrrha_attached_look_failures", "Looks at attached buckets that failed");
        self.counters(out, failed, |bucket| bucket.looks().failed)?;
        let received = ("pyrrha_attached_received_bytes", "Bytes read from attached buckets");
        self.counters(out, received, |bucket| bucket.bucket().counters().received_bytes())?;
        let cache = ("pyrrha_attached_cache_bytes", "Memory of the caches of attached buckets");
        self.gauges(out, cache, |bucket| Some(bucket.stats().memory.bytes as f64))
    }
}
