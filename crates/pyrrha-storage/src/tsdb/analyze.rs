//! What makes a block large: cardinality, churn, chunk fill.

use std::collections::BTreeMap;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use pyrrha_encoding::chunk::sample_count;
use pyrrha_index::SeriesRow;
use pyrrha_model::{METRIC_NAME, Matcher, Timestamp};
use serde::Serialize;

use super::TsdbError;
use crate::block::{Block, BlockError, BlockId};

/// Width of a class of [`ChunkFill::by_samples`].
const CLASS: usize = 10;
/// Number of classes; the last holds all beyond.
const CLASSES: usize = 13;

type Map<K, V> = HashMap<K, V, RandomState>;

/// A name and how often, or how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Count {
    /// What is counted.
    pub name: String,
    /// How much of it there is.
    pub count: u64,
}

/// Chunks of one encoding.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ChunkFill {
    /// Number of chunks.
    pub chunks: u64,
    /// Samples in them.
    pub samples: u64,
    /// Bytes of their data.
    pub bytes: u64,
    /// Chunks with 0-9, 10-19, ... 110-119, and 120 samples or more.
    pub by_samples: [u64; CLASSES],
}

/// What a block consists of. Lists are cut to the length asked for, greatest first.
#[derive(Debug, Clone, Serialize)]
pub struct Analysis {
    /// The block.
    pub block: BlockId,
    /// First millisecond of its range.
    pub min_time: Timestamp,
    /// First millisecond after its range.
    pub max_time: Timestamp,
    /// Series looked at: all, or those that match.
    pub series: u64,
    /// Label names.
    pub label_names: u64,
    /// Unique label pairs.
    pub label_pairs: u64,
    /// Label pairs of all series together.
    pub postings_entries: u64,
    /// Label pairs of series that did not last for the whole block: the part of it they lacked,
    /// summed over series.
    pub churning_pairs: Vec<Count>,
    /// The same for label names.
    pub churning_names: Vec<Count>,
    /// Label pairs by number of series.
    pub common_pairs: Vec<Count>,
    /// Label names by the bytes of all their values.
    pub value_bytes: Vec<Count>,
    /// Label names by number of values.
    pub cardinality: Vec<Count>,
    /// Metric names by number of series.
    pub metrics: Vec<Count>,
    /// Chunks by encoding.
    pub chunks: BTreeMap<String, ChunkFill>,
}

/// What is counted of a label pair or name.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    series: u64,
    churn: f64,
}

/// Looks at the series that satisfy all matchers, and at their chunks. Lists have at most `limit`
/// entries. Memory grows with the number of label pairs.
pub fn analyze(block: &Block, matchers: &[Matcher], limit: usize) -> Result<Analysis, TsdbError> {
    let meta = block.meta();
    let length = meta.max_time.saturating_sub(meta.min_time).max(1) as f64;
    let mut pairs: Map<(u32, u32), Tally> = Map::default();
    let mut chunks: BTreeMap<String, ChunkFill> = BTreeMap::new();
    let (mut row, mut series, mut entries) = (SeriesRow::default(), 0, 0);
    for reference in &block.series_matching(matchers)? {
        block.series_row(reference, &mut row)?;
        series += 1;
        entries += row.labels.len() as u64;
        let lasted = match (row.chunks.first(), row.chunks.last()) {
            (Some(first), Some(last)) => last.max_time.saturating_sub(first.min_time) as f64,
            _ => 0.0,
        };
        let churn = (1.0 - lasted / length).max(0.0);
        for &pair in &row.labels {
            let tally = pairs.entry(pair).or_default();
            tally.series += 1;
            tally.churn += churn;
        }
        for chunk in &row.chunks {
            fill(block.row_chunk(chunk)?, &mut chunks);
        }
    }
    let mut analysis = Analysis {
        block: meta.ulid,
        min_time: meta.min_time,
        max_time: meta.max_time,
        series,
        label_names: 0,
        label_pairs: pairs.len() as u64,
        postings_entries: entries,
        churning_pairs: Vec::new(),
        churning_names: Vec::new(),
        common_pairs: Vec::new(),
        value_bytes: Vec::new(),
        cardinality: Vec::new(),
        metrics: Vec::new(),
        chunks,
    };
    rank(block, &pairs, limit, &mut analysis)?;
    Ok(analysis)
}

fn fill(chunk: pyrrha_model::contract::ChunkRef, chunks: &mut BTreeMap<String, ChunkFill>) {
    let samples = sample_count(chunk.encoding, &chunk.bytes).unwrap_or(0);
    let name = format!("{:?}", chunk.encoding);
    let fill = chunks.entry(name).or_default();
    fill.chunks += 1;
    fill.samples += samples as u64;
    fill.bytes += chunk.bytes.len() as u64;
    fill.by_samples[(samples / CLASS).min(CLASSES - 1)] += 1;
}

/// Fills the lists.
fn rank(
    block: &Block,
    pairs: &Map<(u32, u32), Tally>,
    limit: usize,
    out: &mut Analysis,
) -> Result<(), BlockError> {
    let text = |reference| block.symbol(reference);
    let mut names: BTreeMap<u32, (Tally, u64, u64)> = BTreeMap::new();
    for (&(name, value), tally) in pairs {
        let entry = names.entry(name).or_default();
        entry.0.churn += tally.churn;
        entry.1 += 1;
        entry.2 += text(value)?.len() as u64;
    }
    out.label_names = names.len() as u64;
    let mut by_name = [Vec::new(), Vec::new(), Vec::new()];
    for (name, (tally, values, bytes)) in names {
        let name = text(name)?;
        for (list, count) in by_name.iter_mut().zip([tally.churn as u64, values, bytes]) {
            list.push(Count { name: name.to_owned(), count });
        }
    }
    let [churning, cardinality, bytes] = by_name;
    out.churning_names = top(churning, limit);
    out.cardinality = top(cardinality, limit);
    out.value_bytes = top(bytes, limit);
    out.churning_pairs = top_pairs(block, pairs, limit, |t| t.churn as u64)?;
    out.common_pairs = top_pairs(block, pairs, limit, |t| t.series)?;
    let mut metrics = Vec::new();
    for (&(name, value), tally) in pairs {
        if text(name)? == METRIC_NAME {
            metrics.push(Count { name: text(value)?.to_owned(), count: tally.series });
        }
    }
    out.metrics = top(metrics, limit);
    Ok(())
}

/// The greatest pairs as `name=value`; only those are written out.
fn top_pairs(
    block: &Block,
    pairs: &Map<(u32, u32), Tally>,
    limit: usize,
    count: impl Fn(&Tally) -> u64,
) -> Result<Vec<Count>, BlockError> {
    let mut order: Vec<(u64, (u32, u32))> =
        pairs.iter().map(|(&pair, t)| (count(t), pair)).filter(|&(n, _)| n > 0).collect();
    // References ascend as their strings do.
    order.sort_unstable_by_key(|&(n, pair)| (std::cmp::Reverse(n), pair));
    order.truncate(limit);
    let written = order.into_iter().map(|(count, (name, value))| {
        let name = format!("{}={}", block.symbol(name)?, block.symbol(value)?);
        Ok(Count { name, count })
    });
    written.collect()
}

fn top(mut counts: Vec<Count>, limit: usize) -> Vec<Count> {
    counts.retain(|c| c.count > 0);
    counts.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
    counts.truncate(limit);
    counts
}
