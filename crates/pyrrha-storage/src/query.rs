//! Several sources of series as one: a k-way merge by labels.

use std::cmp::Ordering;

use pyrrha_model::contract::{ChunkRef, QueryContext, SeriesBatch, SeriesEntry, SeriesSet};
use pyrrha_model::{ChunkEncoding, ErrorKind, StoreError, SymbolId, SymbolTable, TimeRange};
use smallvec::SmallVec;

use crate::compact::resolve;

/// Series that a source hands over at once.
const SOURCE_BATCH: usize = 64;

/// No series.
pub(crate) struct EmptySet;

impl SeriesSet for EmptySet {
    fn next_batch(&mut self, _max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        batch.clear();
        Ok(false)
    }
}

/// The union of `sources`, which come with all their labels; chunks may overlap. At most `limit`
/// series (0: all).
pub fn merge(ctx: &QueryContext, mut sources: Vec<Box<dyn SeriesSet>>, limit: usize) -> Box<dyn SeriesSet> {
    match (sources.len(), sources.pop()) {
        (_, None) => Box::new(EmptySet),
        (1, Some(only)) => only,
        (_, Some(last)) => {
            sources.push(last);
            let sources = sources.into_iter().map(Source::new).collect();
            Box::new(MergedSet {
                ctx: ctx.clone(),
                sources,
                left: if limit == 0 { usize::MAX } else { limit },
            })
        }
    }
}

/// A source with the batch that is being read.
struct Source {
    set: Box<dyn SeriesSet>,
    batch: SeriesBatch,
    next: usize,
    done: bool,
}

impl Source {
    fn new(set: Box<dyn SeriesSet>) -> Self {
        Self { set, batch: SeriesBatch::default(), next: 0, done: false }
    }

    fn fill(&mut self) -> Result<(), StoreError> {
        if !self.done && self.next == self.batch.series.len() {
            self.next = 0;
            self.done = !self.set.next_batch(SOURCE_BATCH, &mut self.batch)?;
        }
        Ok(())
    }

    fn labels(&self) -> Option<&[(SymbolId, SymbolId)]> {
        self.batch.series.get(self.next).map(|entry| self.batch.labels_of(entry))
    }
}

struct MergedSet {
    ctx: QueryContext,
    sources: Vec<Source>,
    left: usize,
}

impl SeriesSet for MergedSet {
    fn next_batch(&mut self, max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        batch.clear();
        let max = max.max(1).min(self.left);
        while batch.series.len() < max {
            self.ctx.cancel.check()?;
            self.sources.iter_mut().try_for_each(Source::fill)?;
            let least = self
                .sources
                .iter()
                .filter_map(Source::labels)
                .min_by(|a, b| compare_labels(&self.ctx.symbols, a, b))
                .map(|labels| labels.to_vec());
            let Some(labels) = least else { break };
            self.take(&labels, batch)?;
        }
        self.left -= batch.series.len();
        Ok(!batch.series.is_empty())
    }
}

impl MergedSet {
    /// Adds the series of these labels from all sources that have it.
    fn take(&mut self, labels: &[(SymbolId, SymbolId)], batch: &mut SeriesBatch) -> Result<(), StoreError> {
        let mut entries: SmallVec<[SeriesEntry; 4]> = SmallVec::new();
        for source in self.sources.iter_mut().filter(|s| s.labels() == Some(labels)) {
            entries.push(std::mem::take(&mut source.batch.series[source.next]));
            source.next += 1;
        }
        let mut merged = SeriesEntry::default();
        if entries.len() > 1 {
            apply_deleted(&mut entries)?;
        }
        let sources = entries.len();
        for entry in entries {
            merged.chunks.extend(entry.chunks);
            merged.deleted.extend(entry.deleted);
        }
        if sources > 1 {
            // Stable: equal start times stay in the order of the sources.
            merged.chunks.sort_by_key(|chunk| chunk.min_time);
        }
        let start = batch.labels.len() as u32;
        batch.labels.extend_from_slice(labels);
        merged.labels = start..batch.labels.len() as u32;
        batch.series.push(merged);
        Ok(())
    }
}

/// A source's deleted intervals hide its own samples and not those that another source got later. So
/// where another has samples within one, it is applied here.
fn apply_deleted(entries: &mut [SeriesEntry]) -> Result<(), StoreError> {
    for i in 0..entries.len() {
        if entries[i].deleted.is_empty() {
            continue;
        }
        let extent = |c: &ChunkRef| TimeRange::new(c.min_time, c.max_time);
        let own = entries[i].chunks.iter().map(extent);
        let own = own.reduce(|a, b| TimeRange::new(a.start.min(b.start), a.end.max(b.end)));
        let own = own.unwrap_or(TimeRange::new(0, -1));
        entries[i].deleted.iter_mut().for_each(|d| *d = d.intersect(&own));
        entries[i].deleted.retain(|d| !d.is_empty());
        let within = |c: &ChunkRef| entries[i].deleted.iter().any(|d| d.overlaps(&extent(c)));
        let others = entries.iter().enumerate().filter(|(other, _)| *other != i);
        if others.flat_map(|(_, e)| &e.chunks).any(within) {
            // Of windows nothing is hidden any more.
            let (windows, samples): (Vec<_>, Vec<_>) =
                entries[i].chunks.drain(..).partition(|chunk| chunk.encoding == ChunkEncoding::Windows);
            entries[i].chunks = samples.into();
            let mut chunks = windows;
            resolve(&entries[i], &mut chunks).map_err(|source| {
                let text = "chunk with deleted samples cannot be read";
                StoreError::caused(ErrorKind::Corrupt, text, source)
            })?;
            entries[i].chunks = chunks.into();
            entries[i].deleted.clear();
        }
    }
    Ok(())
}

/// Prometheus' order of series, of labels as ids of one table.
pub fn compare_labels(
    symbols: &SymbolTable,
    a: &[(SymbolId, SymbolId)],
    b: &[(SymbolId, SymbolId)],
) -> Ordering {
    let differing = a.iter().zip(b).find(|(a, b)| a != b);
    let Some((a_pair, b_pair)) = differing else { return a.len().cmp(&b.len()) };
    let (a, b) = if a_pair.0 != b_pair.0 { (a_pair.0, b_pair.0) } else { (a_pair.1, b_pair.1) };
    symbols.resolve(a).cmp(&symbols.resolve(b))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::prelude::*;
    use pyrrha_encoding::{SeriesSamples, Want, decode_series, encode_series};
    use pyrrha_model::Labels;
    use pyrrha_model::contract::{ChunkRef, Timestamps, Value};

    use super::*;

    struct ListSet(QueryContext, std::vec::IntoIter<(Labels, Vec<i64>)>);

    impl SeriesSet for ListSet {
        fn next_batch(&mut self, max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
            batch.clear();
            for (labels, times) in self.1.by_ref().take(max) {
                let chunk = |t| ChunkRef {
                    min_time: t,
                    max_time: t,
                    encoding: ChunkEncoding::Xor,
                    timestamps: Timestamps::Own,
                    bytes: Bytes::new(),
                };
                batch.push(&self.0.symbols, &labels, times.into_iter().map(chunk));
            }
            Ok(!batch.series.is_empty())
        }
    }

    /// One series, once.
    struct OneSet(QueryContext, Option<(Labels, Vec<ChunkRef>, TimeRange)>);

    impl SeriesSet for OneSet {
        fn next_batch(&mut self, _: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
            batch.clear();
            let Some((labels, chunks, deleted)) = self.1.take() else { return Ok(false) };
            batch.push(&self.0.symbols, &labels, chunks);
            batch.series[0].deleted.push(deleted);
            Ok(true)
        }
    }

    #[test]
    fn what_is_deleted_in_one_source_is_shown_where_another_has_it() {
        let ctx = QueryContext::unlimited();
        let source = |times: &[i64], deleted| {
            let samples: Vec<_> = times.iter().map(|&t| (0, t, Value::Float(t as f64))).collect();
            let labels = Labels::from_pairs([("a", "b")]);
            let set = OneSet(ctx.clone(), Some((labels, encode_series(&samples, false), deleted)));
            Box::new(set) as Box<dyn SeriesSet>
        };
        let nothing = TimeRange::new(0, -1);
        for (second, expected) in
            [(vec![3, 5], vec![1, 3, 5]), (vec![30], vec![1, 5, 30]), (vec![], vec![1, 5])]
        {
            let mut sources = vec![source(&[1, 2, 3, 4, 5], TimeRange::new(2, 4))];
            if !second.is_empty() {
                sources.push(source(&second, nothing));
            }
            let mut merged = merge(&ctx, sources, 0);
            let (mut batch, mut samples) = (SeriesBatch::default(), SeriesSamples::default());
            assert!(merged.next_batch(10, &mut batch).expect("a batch"));
            decode_series(&batch.series[0], TimeRange::ALL, Want::default(), &mut samples).expect("chunks");
            assert_eq!(samples.floats.times, expected);
        }
    }

    proptest! {
        #[test]
        fn a_merge_is_the_union_in_label_order(
            sources in prop::collection::vec(
                prop::collection::btree_map(
                    prop::collection::btree_map("[ab]", "[a-z]{1,2}", 0..3), prop::collection::vec(0i64..9, 1..3), 0..200),
                0..4),
            max in 1usize..300,
        ) {
            let ctx = QueryContext::unlimited();
            let mut expected: BTreeMap<Labels, Vec<i64>> = BTreeMap::new();
            let mut sets: Vec<Box<dyn SeriesSet>> = Vec::new();
            for source in sources {
                let mut list: Vec<(Labels, Vec<i64>)> = source.into_iter()
                    .map(|(pairs, mut times)| { times.sort(); (Labels::from_pairs(pairs), times) }).collect();
                list.sort();
                for (labels, times) in &list {
                    expected.entry(labels.clone()).or_default().extend(times);
                }
                sets.push(Box::new(ListSet(ctx.clone(), list.into_iter())));
            }
            expected.values_mut().for_each(|times| times.sort());
            let mut merged = merge(&ctx, sets, 0);
            let (mut batch, mut found) = (SeriesBatch::default(), Vec::new());
            while merged.next_batch(max, &mut batch).expect("a batch") {
                for entry in &batch.series {
                    let times: Vec<i64> = entry.chunks.iter().map(|c| c.min_time).collect();
                    found.push((batch.resolve(&ctx.symbols, entry), times));
                }
            }
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
