//! What the series of a head are made of: counts by metric, label and value, as
//! `/api/v1/status/tsdb` asks for them.

use std::cmp::Ordering;
use std::collections::HashMap;

use pyrrha_model::{METRIC_NAME, TimeRange};

use super::Head;
use super::admission::is_cut;
use super::data::Open;

/// What the series of a tenant's head are made of. Lists have the greatest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cardinality {
    /// Series.
    pub series: u64,
    /// Different pairs of label name and value.
    pub label_pairs: u64,
    /// Chunks, open ones included.
    pub chunks: u64,
    /// Time of the first and the last sample that are in no block.
    pub times: Option<TimeRange>,
    /// Series by metric name.
    pub series_by_metric: Vec<(String, u64)>,
    /// Different values by label name.
    pub values_by_label: Vec<(String, u64)>,
    /// Bytes of different values by label name.
    pub bytes_by_label: Vec<(String, u64)>,
    /// Series by `name=value`.
    pub series_by_pair: Vec<(String, u64)>,
}

impl Head {
    /// Counts the series, of each list the `limit` greatest. Ranges that are `cut` count as gone.
    pub(crate) fn cardinality(&self, cut: &[TimeRange], limit: usize) -> Cardinality {
        let mut found = Cardinality::default();
        {
            let data = self.data.read();
            let open = (0..data.hot.len()).filter(|&s| data.hot[s].open != Open::None).count();
            found.chunks = (data.sealed.len() + open) as u64;
            for (_, range) in data.ranges.iter().filter(|(start, _)| !is_cut(cut, **start)) {
                let times = found.times.get_or_insert(TimeRange::new(range.min_time, range.max_time));
                times.start = times.start.min(range.min_time);
                times.end = times.end.max(range.max_time);
            }
        }
        let directory = self.directory.read();
        let text = |id: u32| directory.symbols.get(id);
        let metric = directory.symbols.lookup(METRIC_NAME);
        let (mut values, mut bytes) = (HashMap::<u32, u64>::new(), HashMap::<u32, u64>::new());
        let (mut metrics, mut pairs) = (Vec::new(), Vec::new());
        for ((name, value), series) in directory.postings.pairs() {
            *values.entry(name).or_default() += 1;
            *bytes.entry(name).or_default() += text(value).len() as u64;
            if Some(name) == metric {
                metrics.push((value, series));
            }
            pairs.push(((name, value), series));
        }
        found.series = directory.len() as u64;
        found.label_pairs = pairs.len() as u64;
        let by_text = |a: &u32, b: &u32| text(*a).cmp(text(*b));
        let owned = |id: u32| text(id).to_owned();
        found.series_by_metric = greatest(metrics, limit, by_text, owned);
        found.values_by_label = greatest(values.into_iter().collect(), limit, by_text, owned);
        found.bytes_by_label = greatest(bytes.into_iter().collect(), limit, by_text, owned);
        found.series_by_pair = greatest(
            pairs,
            limit,
            |a: &(u32, u32), b: &(u32, u32)| by_text(&a.0, &b.0).then_with(|| by_text(&a.1, &b.1)),
            |(name, value)| format!("{}={}", text(name), text(value)),
        );
        found
    }
}

/// The `limit` greatest counts, of equal ones the first by text. Only those become strings.
fn greatest<K>(
    mut counts: Vec<(K, u64)>,
    limit: usize,
    order: impl Fn(&K, &K) -> Ordering,
    name: impl Fn(K) -> String,
) -> Vec<(String, u64)> {
    let compare = |a: &(K, u64), b: &(K, u64)| b.1.cmp(&a.1).then_with(|| order(&a.0, &b.0));
    if limit < counts.len() {
        counts.select_nth_unstable_by(limit, compare);
        counts.truncate(limit);
    }
    counts.sort_unstable_by(compare);
    counts.into_iter().map(|(key, count)| (name(key), count)).collect()
}
