//! The log of slow queries, and Prometheus' query log.

use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pyrrha_env::Clock;
use pyrrha_model::contract::FetchedCounts;
use pyrrha_model::{Timestamp, rfc3339};
use pyrrha_promql::QueryTimes;
use serde::Serialize;
use serde_json::json;

use crate::active::ActiveQuery;

/// What a query read of buckets.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BucketReads {
    requests: u64,
    fetched_bytes: u64,
    memory_cache_bytes: u64,
    disk_cache_bytes: u64,
}

impl From<FetchedCounts> for BucketReads {
    fn from(counts: FetchedCounts) -> Self {
        let FetchedCounts { requests, bytes, memory_bytes, disk_bytes } = counts;
        Self {
            requests,
            fetched_bytes: bytes,
            memory_cache_bytes: memory_bytes,
            disk_cache_bytes: disk_bytes,
        }
    }
}

/// The request that a query came with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// Who sent it, the proxy if there is one.
    pub(crate) client: Option<IpAddr>,
    pub(crate) method: String,
    pub(crate) path: String,
}

/// How a query ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) asked: Asked,
    /// Time in the queue.
    pub(crate) queued: Duration,
    /// Time on a thread.
    pub(crate) took: Duration,
    pub(crate) times: QueryTimes,
    /// What was read of buckets.
    pub(crate) fetched: FetchedCounts,
    /// Why it failed.
    pub(crate) error: Option<String>,
}

/// What a query asked for: times in ms, step 0 for an instant query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) step: i64,
}

/// Where queries are logged.
#[derive(Debug)]
pub(crate) struct QueryLog {
    slower_than: Option<Duration>,
    file: Option<Mutex<File>>,
    clock: Arc<dyn Clock>,
}

impl QueryLog {
    /// Logs what took longer than `slower_than`, and everything to `file`, a line of JSON each.
    pub(crate) fn open(
        slower_than: Option<Duration>,
        file: Option<&Path>,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Self> {
        let file = file
            .map(|path| std::fs::OpenOptions::new().create(true).append(true).open(path))
            .transpose()?
            .map(Mutex::new);
        Ok(Self { slower_than, file, clock })
    }

    /// Logs a query that has ended.
    pub(crate) fn tell(&self, query: &ActiveQuery, span: Span, outcome: &Outcome) {
        let total = outcome.queued + outcome.took;
        if self.slower_than.is_some_and(|limit| total >= limit) {
            slow(query, span, outcome, total);
        }
        if let Some(file) = &self.file {
            let mut line = self.line(query, span, outcome);
            line.push('\n');
            if let Err(error) = file.lock().write_all(line.as_bytes()) {
                tracing::warn!(%error, "the query log cannot be written");
            }
        }
    }

    /// A line of Prometheus' query log.
    fn line(&self, query: &ActiveQuery, span: Span, outcome: &Outcome) -> String {
        let stats = query.progress.stats();
        let mut line = json!({
            "params": {
                "query": query.text,
                "start": rfc3339::format(span.start),
                "end": rfc3339::format(span.end),
                "step": span.step / 1000,
            },
            "stats": {
                "timings": {
                    "evalTotalTime": outcome.took.as_secs_f64(),
                    "resultSortTime": outcome.times.sorting.as_secs_f64(),
                    "queryPreparationTime": outcome.times.preparation.as_secs_f64(),
                    "innerEvalTime": outcome.times.evaluation.saturating_sub(outcome.times.sorting).as_secs_f64(),
                    "execQueueTime": outcome.queued.as_secs_f64(),
                    "execTotalTime": (outcome.queued + outcome.took).as_secs_f64(),
                },
                "samples": {
                    "totalQueryableSamples": stats.total_samples,
                    "samplesRead": stats.samples_read,
                    "peakSamples": stats.peak_samples,
                },
                "bucket": BucketReads::from(outcome.fetched),
            },
            "httpRequest": {
                "clientIP": outcome.asked.client.map(|ip| ip.to_string()).unwrap_or_default(),
                "method": outcome.asked.method,
                "path": outcome.asked.path,
            },
            "tenant": query.tenant.as_str(),
            "ts": rfc3339::format(self.clock.now_ms()),
        });
        if let Some(error) = &outcome.error {
            line["error"] = error.as_str().into();
        }
        line.to_string()
    }
}

fn slow(query: &ActiveQuery, span: Span, outcome: &Outcome, total: Duration) {
    let stats = query.progress.stats();
    let status = if outcome.error.is_some() { "error" } else { "success" };
    tracing::warn!(
        id = query.id,
        tenant = %query.tenant,
        query = query.text,
        status,
        error = outcome.error.as_deref().unwrap_or(""),
        start = rfc3339::format(span.start),
        end = rfc3339::format(span.end),
        step_seconds = span.step as f64 / 1000.0,
        seconds = total.as_secs_f64(),
        queue_seconds = outcome.queued.as_secs_f64(),
        preparation_seconds = outcome.times.preparation.as_secs_f64(),
        evaluation_seconds = outcome.times.evaluation.as_secs_f64(),
        series = stats.series,
        samples_read = stats.samples_read,
        samples_total = stats.total_samples,
        samples_peak = stats.peak_samples,
        bucket_requests = outcome.fetched.requests,
        bucket_bytes = outcome.fetched.bytes,
        bytes_peak = query.budget.peak(),
        "slow query"
    );
}

#[cfg(test)]
mod tests;
