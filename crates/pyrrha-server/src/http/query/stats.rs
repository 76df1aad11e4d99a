//! Statistics and plans in a query's answer.

use std::time::Duration;

use pyrrha_model::contract::FetchedCounts;
use pyrrha_model::go_fmt::quote;
use pyrrha_promql::{ExplainNode, PerStep, QueryResult};
use serde::{Serialize, Serializer};

use super::NoticeLists;
use crate::query_log::BucketReads;

/// What the pool measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Waiting for a thread.
    pub(super) queued: Duration,
    /// On the thread, parsing included.
    pub(super) took: Duration,
}

/// Statistics as Prometheus has them, and beside them what was read of buckets, if anything was.
#[derive(Serialize)]
struct Stats {
    timings: Timings,
    samples: Samples,
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket: Option<BucketReads>,
}

/// Seconds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Timings {
    eval_total_time: f64,
    result_sort_time: f64,
    query_preparation_time: f64,
    inner_eval_time: f64,
    exec_queue_time: f64,
    exec_total_time: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Samples {
    #[serde(skip_serializing_if = "Option::is_none")]
    total_queryable_samples_per_step: Option<Vec<Point>>,
    total_queryable_samples: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples_read_per_step: Option<Vec<Point>>,
    samples_read: u64,
    peak_samples: u64,
}

/// `[seconds, count]`
struct Point(i64, u64);

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(ms, count) = *self;
        if ms % 1000 == 0 {
            (ms / 1000, count).serialize(serializer)
        } else {
            (ms as f64 / 1000.0, count).serialize(serializer)
        }
    }
}

fn points(per_step: &PerStep, counts: &[u64]) -> Vec<Point> {
    per_step.times.iter().zip(counts).map(|(t, n)| Point(*t, *n)).collect()
}

/// `,"stats":{…}` if asked for.
pub(super) fn of(
    wanted: Option<&str>,
    result: &QueryResult,
    times: Times,
    fetched: FetchedCounts,
    notices: &mut NoticeLists,
) -> Vec<u8> {
    let Some(wanted) = wanted else { return Vec::new() };
    if wanted != "true" && wanted != "all" {
        notices.warnings.push(format!(
            "value {} for parameter \"stats\" is deprecated and will be rejected in the next major release, \
             use \"true\" or \"all\"",
            quote(wanted)
        ));
    }
    let measured = result.times;
    let inner = measured.evaluation.saturating_sub(measured.sorting);
    let stats = Stats {
        timings: Timings {
            eval_total_time: times.took.as_secs_f64(),
            result_sort_time: measured.sorting.as_secs_f64(),
            query_preparation_time: times.took.saturating_sub(measured.evaluation).as_secs_f64(),
            inner_eval_time: inner.as_secs_f64(),
            exec_queue_time: times.queued.as_secs_f64(),
            exec_total_time: (times.queued + times.took).as_secs_f64(),
        },
        samples: Samples {
            total_queryable_samples_per_step: result.per_step.as_ref().map(|p| points(p, &p.total)),
            total_queryable_samples: result.stats.total_samples,
            samples_read_per_step: result.per_step.as_ref().map(|p| points(p, &p.read)),
            samples_read: result.stats.samples_read,
            peak_samples: result.stats.peak_samples,
        },
        bucket: (fetched != FetchedCounts::default()).then(|| fetched.into()),
    };
    member("stats", &stats)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Operator<'a> {
    operator: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    holds_input: bool,
    once: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared: Option<usize>,
    #[serde(flatten)]
    work: Option<Work>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    operands: Vec<Operator<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Work {
    series: u64,
    samples: u64,
    bytes: u64,
    time_seconds: f64,
}

impl<'a> Operator<'a> {
    fn of(node: &'a ExplainNode) -> Self {
        Self {
            operator: &node.operator,
            detail: &node.detail,
            holds_input: node.holds,
            once: node.once,
            shared: node.shared,
            work: node.stats.map(|s| Work {
                series: s.series,
                samples: s.samples,
                bytes: s.bytes,
                time_seconds: s.time.as_secs_f64(),
            }),
            operands: node.children.iter().map(Self::of).collect(),
        }
    }
}

/// A plan, with what the query as a whole read of buckets.
#[derive(Serialize)]
struct Plan<'a> {
    #[serde(flatten)]
    root: Operator<'a>,
    bucket: BucketReads,
}

/// `,"explain":{…}`
pub(super) fn explain(plan: &ExplainNode, fetched: FetchedCounts) -> Vec<u8> {
    member("explain", &Plan { root: Operator::of(plan), bucket: fetched.into() })
}

fn member(name: &str, value: &impl Serialize) -> Vec<u8> {
    // Numbers, texts and lists always have a JSON form.
    let value = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
    format!(",\"{name}\":{value}").into_bytes()
}
