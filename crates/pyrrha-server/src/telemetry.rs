//! The server's own metrics.

mod process;

pub(crate) use process::{counter, gauge};

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use pyrrha_model::contract::FetchedCounts;

/// Upper bounds of latency buckets, seconds.
const LATENCY_BOUNDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 25.0, 120.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    handler: String,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandlerLabels {
    handler: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FromLabels {
    from: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// All metrics, and the registry that prints them.
pub(crate) struct Telemetry {
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<HandlerLabels, Histogram, fn() -> Histogram>,
    ingested: Family<KindLabels, Counter>,
    refused: Family<ReasonLabels, Counter>,
    ingest_bytes: Counter,
    write_rejected: Counter,
    queries: Counter,
    query_failures: Counter,
    query_seconds: Histogram,
    query_queue_seconds: Histogram,
    query_samples: Counter,
    query_requests: Counter,
    query_fetched: Family<FromLabels, Counter>,
    self_scrape_failures: Counter,
}

impl Telemetry {
    pub(crate) fn new() -> Self {
        let latency: fn() -> Histogram = || Histogram::new(LATENCY_BOUNDS);
        let telemetry = Self {
            registry: Mutex::new(Registry::default()),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(latency),
            ingested: Family::default(),
            refused: Family::default(),
            ingest_bytes: Counter::default(),
            write_rejected: Counter::default(),
            queries: Counter::default(),
            query_failures: Counter::default(),
            query_seconds: latency(),
            query_queue_seconds: latency(),
            query_samples: Counter::default(),
            query_requests: Counter::default(),
            query_fetched: Family::default(),
            self_scrape_failures: Counter::default(),
        };
        telemetry.register();
        // Known from the first scrape on, so that a rate sees the first increase.
        for kind in ["float", "histogram", "exemplar"] {
            drop(telemetry.ingested.get_or_create(&KindLabels { kind }));
        }
        for from in ["bucket", "memory", "disk"] {
            drop(telemetry.query_fetched.get_or_create(&FromLabels { from }));
        }
        for reason in pyrrha_storage::metrics::REFUSAL_REASONS.into_iter().chain(["invalid_series"]) {
            drop(telemetry.refused.get_or_create(&ReasonLabels { reason }));
        }
        telemetry
    }

    fn register(&self) {
        let mut r = self.registry.lock();
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        // An info metric gets the suffix `_info`.
        r.register("pyrrha_build", "Version of this binary", build);
        r.register("pyrrha_http_requests", "HTTP requests answered", self.requests.clone());
        r.register(
            "pyrrha_http_request_duration_seconds",
            "Time until the head of an answer",
            self.request_seconds.clone(),
        );
        r.register("pyrrha_ingest_samples", "Samples stored", self.ingested.clone());
        r.register("pyrrha_ingest_refused", "Samples and series refused", self.refused.clone());
        r.register("pyrrha_ingest_received_bytes", "Compressed bytes received", self.ingest_bytes.clone());
        r.register(
            "pyrrha_ingest_rejected_requests",
            "Write requests of which nothing was stored",
            self.write_rejected.clone(),
        );
        r.register("pyrrha_query_evaluated", "Queries evaluated", self.queries.clone());
        r.register("pyrrha_query_failures", "Queries that failed", self.query_failures.clone());
        r.register(
            "pyrrha_query_duration_seconds",
            "Time of evaluation, without waiting",
            self.query_seconds.clone(),
        );
        r.register(
            "pyrrha_query_queue_duration_seconds",
            "Time that queries waited for a processor",
            self.query_queue_seconds.clone(),
        );
        r.register("pyrrha_query_samples_read", "Samples read by queries", self.query_samples.clone());
        r.register(
            "pyrrha_query_bucket_requests",
            "Requests that queries sent to buckets",
            self.query_requests.clone(),
        );
        r.register(
            "pyrrha_query_bucket_bytes",
            "Bytes of buckets that queries read, by where they were",
            self.query_fetched.clone(),
        );
        r.register(
            "pyrrha_self_scrape_failures",
            "Rounds of own metrics that could not be stored",
            self.self_scrape_failures.clone(),
        );
        r.register_collector(Box::new(process::ProcessCollector));
    }

    /// Adds metrics that are read when asked for.
    pub(crate) fn add_collector(&self, collector: impl Collector) {
        self.registry.lock().register_collector(Box::new(collector));
    }

    /// All metrics as OpenMetrics text.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.registry.lock()).is_err() {
            tracing::warn!("own metrics could not be encoded");
        }
        text
    }

    pub(crate) fn observe_request(&self, handler: &str, code: u16, took: Duration) {
        let handler = handler.to_owned();
        self.request_seconds
            .get_or_create(&HandlerLabels { handler: handler.clone() })
            .observe(took.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { handler, code }).inc();
    }

    pub(crate) fn observe_query(&self, took: Duration, queued: Duration, samples_read: u64) {
        self.queries.inc();
        self.query_samples.inc_by(samples_read);
        self.query_seconds.observe(took.as_secs_f64());
        self.query_queue_seconds.observe(queued.as_secs_f64());
    }

    /// What a query read of buckets, whether it failed or not.
    pub(crate) fn observe_fetched(&self, fetched: FetchedCounts) {
        let FetchedCounts { requests, bytes, memory_bytes, disk_bytes } = fetched;
        self.query_requests.inc_by(requests);
        for (from, bytes) in [("bucket", bytes), ("memory", memory_bytes), ("disk", disk_bytes)] {
            if bytes > 0 {
                self.query_fetched.get_or_create(&FromLabels { from }).inc_by(bytes);
            }
        }
    }

    pub(crate) fn query_failed(&self) {
        self.query_failures.inc();
    }

    pub(crate) fn observe_write(
        &self,
        bytes: usize,
        stored: &pyrrha_model::contract::AppendStats,
        refused: impl Iterator<Item = (&'static str, u64)>,
    ) {
        self.ingest_bytes.inc_by(bytes as u64);
        for (kind, n) in
            [("float", stored.samples), ("histogram", stored.histograms), ("exemplar", stored.exemplars)]
        {
            self.ingested.get_or_create(&KindLabels { kind }).inc_by(n);
        }
        for (reason, n) in refused {
            self.refused.get_or_create(&ReasonLabels { reason }).inc_by(n);
        }
    }

    pub(crate) fn write_rejected(&self) {
        self.write_rejected.inc();
    }

    pub(crate) fn self_scrape_failed(&self) {
        self.self_scrape_failures.inc();
    }
}

/// Gauges of the query pool.
pub(crate) struct QueryGauges(pub(crate) std::sync::Weak<crate::app::App>);

impl std::fmt::Debug for QueryGauges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("QueryGauges")
    }
}

impl Collector for QueryGauges {
    fn encode(
        &self,
        mut encoder: prometheus_client::encoding::DescriptorEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        let Some(app) = self.0.upgrade() else { return Ok(()) };
        let app: Arc<crate::app::App> = app;
        for (name, help, value) in [
            ("pyrrha_query_running", "Queries that run", app.queries.running()),
            ("pyrrha_query_waiting", "Queries that wait for a processor", app.queries.waiting()),
            ("pyrrha_query_memory_bytes", "Memory that queries hold", app.budgets.used()),
        ] {
            gauge(&mut encoder, name, help, value as f64)?;
        }
        Ok(())
    }
}
