//! Labels injected into a stream of series, in the order that they then have.
//!
//! A label that all series get changes their order in one case: where the labels of one series are the
//! beginning of another's, and the other goes on with a name before the new one. The shorter then comes
//! after the longer. So a series whose labels all come before the new one waits until one comes that does
//! not go on in that way. Those that wait are beginnings of each other: as many as a series has labels
//! (decision 19), and series that come to the same labels.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use pyrrha_model::contract::{QueryContext, SeriesBatch, SeriesEntry, SeriesSet};
use pyrrha_model::{StoreError, SymbolId};

use super::External;

/// Series taken from the source at once.
const AT_ONCE: usize = 64;

type Pair = (SymbolId, SymbolId);

/// A series with its labels.
#[derive(Debug, Clone)]
struct Item {
    labels: Vec<Pair>,
    entry: SeriesEntry,
}

/// Injects one label.
#[derive(Debug)]
struct Injector {
    name: Arc<str>,
    pair: Pair,
    /// Names, and whether they come before it.
    before: HashMap<SymbolId, bool>,
    /// Series whose labels all come before it, each the beginning of the next.
    waiting: Vec<Item>,
}

impl Injector {
    fn new(ctx: &QueryContext, name: &str, value: &str) -> Self {
        let pair = (ctx.symbols.intern(name), ctx.symbols.intern(value));
        Self { name: name.into(), pair, before: HashMap::new(), waiting: Vec::new() }
    }

    fn is_before(&mut self, ctx: &QueryContext, name: SymbolId) -> bool {
        *self.before.entry(name).or_insert_with(|| *ctx.symbols.resolve(name) < *self.name)
    }

    /// Takes a series and gives those whose turn it is.
    fn push(&mut self, ctx: &QueryContext, item: Item, out: &mut VecDeque<Item>) {
        let mut at = 0;
        while at < item.labels.len() && self.is_before(ctx, item.labels[at].0) {
            at += 1;
        }
        while let Some(waiting) = self.waiting.last() {
            let len = waiting.labels.len();
            // What goes on before the new name comes first, and all that equal it with it.
            let goes_on = at > len || item.labels.len() == len;
            if goes_on && item.labels.starts_with(&waiting.labels) {
                break;
            }
            out.extend(self.waiting.pop().map(|w| inject(w, len, self.pair)));
        }
        if at == item.labels.len() {
            self.waiting.push(item);
        } else {
            out.push_back(inject(item, at, self.pair));
        }
    }

    fn finish(&mut self, out: &mut VecDeque<Item>) {
        while let Some(waiting) = self.waiting.pop() {
            let at = waiting.labels.len();
            out.push_back(inject(waiting, at, self.pair));
        }
    }
}

fn inject(mut item: Item, at: usize, pair: Pair) -> Item {
    item.labels.insert(at, pair);
    item
}

/// The series of a source with external labels in place of those of the same names, and without labels of
/// replicas. The source gives them in the order of what is left of their labels.
pub(crate) struct Relabelled {
    ctx: QueryContext,
    source: Box<dyn SeriesSet>,
    /// Says where an error is from; empty if the error does.
    from: Arc<str>,
    dropped: Vec<SymbolId>,
    injectors: Vec<Injector>,
    shard: Option<(u32, u32)>,
    batch: SeriesBatch,
    ready: VecDeque<Item>,
    done: bool,
}

impl Relabelled {
    pub(crate) fn new(
        ctx: &QueryContext,
        source: Box<dyn SeriesSet>,
        external: &External,
        shard: Option<(u32, u32)>,
        from: Arc<str>,
    ) -> Self {
        Self {
            ctx: ctx.clone(),
            source,
            from,
            dropped: external.dropped().iter().map(|name| ctx.symbols.intern(name)).collect(),
            injectors: external.injected().map(|(n, v)| Injector::new(ctx, n, v)).collect(),
            shard,
            batch: SeriesBatch::default(),
            ready: VecDeque::new(),
            done: false,
        }
    }

    /// The next series; those that differ only in labels that are taken away are one.
    fn take(&mut self) -> Result<Option<Item>, StoreError> {
        self.fill()?;
        let Some(mut item) = self.ready.pop_front() else { return Ok(None) };
        loop {
            self.fill()?;
            let Some(same) = self.ready.pop_front_if(|next| next.labels == item.labels) else {
                return Ok(Some(item));
            };
            item.entry.chunks.extend(same.entry.chunks);
            item.entry.deleted.extend(same.entry.deleted);
            item.entry.chunks.sort_by_key(|chunk| chunk.min_time);
        }
    }

    fn blame(&self, error: StoreError) -> StoreError {
        match self.from.is_empty() {
            true => error,
            false => StoreError::caused(error.kind(), &*self.from, error),
        }
    }

    /// Makes some series ready, unless the source has no more.
    fn fill(&mut self) -> Result<(), StoreError> {
        while self.ready.is_empty() && !self.done {
            let more = self.source.next_batch(AT_ONCE, &mut self.batch);
            self.done = !more.map_err(|e| self.blame(e))?;
            let mut items = VecDeque::with_capacity(self.batch.series.len());
            for i in 0..self.batch.series.len() {
                let entry = std::mem::take(&mut self.batch.series[i]);
                let labels = self.batch.labels_of(&entry);
                let labels =
                    labels.iter().filter(|(name, _)| !self.dropped.contains(name)).copied().collect();
                items.push_back(Item { labels, entry });
            }
            for injector in &mut self.injectors {
                let mut next = VecDeque::with_capacity(items.len());
                items.into_iter().for_each(|item| injector.push(&self.ctx, item, &mut next));
                if self.done {
                    injector.finish(&mut next);
                }
                items = next;
            }
            self.ready = items;
        }
        Ok(())
    }
}

impl SeriesSet for Relabelled {
    fn next_batch(&mut self, max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        batch.clear();
        while batch.series.len() < max {
            let Some(item) = self.take()? else { break };
            let start = batch.labels.len() as u32;
            batch.labels.extend_from_slice(&item.labels);
            let entry = SeriesEntry { labels: start..batch.labels.len() as u32, ..item.entry };
            if let Some((index, count)) = self.shard
                && batch.resolve(&self.ctx.symbols, &entry).prometheus_hash() % u64::from(count.max(1))
                    != u64::from(index)
            {
                batch.labels.truncate(start as usize);
                continue;
            }
            batch.series.push(entry);
        }
        Ok(!batch.series.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use pyrrha_model::Labels;

    use super::*;

    /// Series without samples.
    struct ListSet(QueryContext, std::vec::IntoIter<Labels>);

    impl SeriesSet for ListSet {
        fn next_batch(&mut self, max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
            batch.clear();
            for labels in self.1.by_ref().take(max) {
                batch.push(&self.0.symbols, &labels, []);
            }
            Ok(!batch.series.is_empty())
        }
    }

    fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
        prop::collection::btree_map("[a-f]", "[xyz]", 0..6)
    }

    proptest! {
        #[test]
        fn injected_labels_leave_series_sorted(
            series in prop::collection::vec(labels(), 0..200),
            external in labels(),
            shard in prop_oneof![Just(None), (0u32..3).prop_map(|i| Some((i, 3)))],
            max in 1usize..100,
        ) {
            let ctx = QueryContext::unlimited();
            let external = External::new(&external, None, Arc::default());
            let full = |pairs: &BTreeMap<String, String>| external.of_series(&Labels::from_pairs(pairs.clone()));
            let mut expected: Vec<Labels> = series.iter().map(full).collect();
            expected.retain(|l| shard.is_none_or(|(i, n)| l.prometheus_hash() % u64::from(n) == u64::from(i)));
            expected.sort();
            expected.dedup();
            // As a block gives them: by what is left of their labels.
            let dropped = external.dropped();
            let mut stored: Vec<(Labels, Labels)> = series.into_iter().map(|pairs| {
                let mut left = pairs.clone();
                left.retain(|name, _| !dropped.contains(name));
                (Labels::from_pairs(left), Labels::from_pairs(pairs))
            }).collect();
            stored.sort();
            let stored: Vec<Labels> = stored.into_iter().map(|(_, all)| all).collect();
            let source = Box::new(ListSet(ctx.clone(), stored.into_iter()));
            let mut set = Relabelled::new(&ctx, source, &external, shard, "test".into());
            let (mut batch, mut found) = (SeriesBatch::default(), Vec::new());
            while set.next_batch(max, &mut batch).expect("no error") {
                found.extend(batch.series.iter().map(|e| batch.resolve(&ctx.symbols, e)));
            }
            prop_assert_eq!(found, expected);
        }
    }
}
