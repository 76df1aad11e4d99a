//! The k-way merge of label-sorted series sets into one, for writing.

use pyrrha_encoding::chunk::histogram::forget_reset;
use pyrrha_model::contract::{ChunkRef, QueryContext, SeriesBatch, SeriesEntry, SeriesSet};
use pyrrha_model::{Labels, StoreError};

/// Series pulled from an input at once: few, so that many inputs fit in little memory.
const BATCH: usize = 16;

/// Several sets as one: series of equal labels become one entry with the chunks of all, by min
/// time, of equal min times the earlier set's first.
pub(crate) struct SeriesMerge<'a> {
    ctx: &'a QueryContext,
    inputs: Vec<Input>,
}

/// One set and its current series.
struct Input {
    set: Box<dyn SeriesSet>,
    batch: SeriesBatch,
    next: usize,
    current: Option<(Labels, SeriesEntry)>,
}

impl<'a> SeriesMerge<'a> {
    pub(crate) fn new(sets: Vec<Box<dyn SeriesSet>>, ctx: &'a QueryContext) -> Result<Self, StoreError> {
        let mut inputs = Vec::with_capacity(sets.len());
        for set in sets {
            let mut input = Input { set, batch: SeriesBatch::default(), next: 0, current: None };
            input.advance(ctx)?;
            inputs.push(input);
        }
        Ok(Self { ctx, inputs })
    }

    /// The next series in label order.
    pub(crate) fn next_series(&mut self) -> Result<Option<(Labels, SeriesEntry)>, StoreError> {
        // Inputs are few: looking at all of them costs less than keeping a heap of label sets.
        let labels =
            self.inputs.iter().filter_map(|input| input.current.as_ref().map(|(labels, _)| labels)).min();
        let Some(labels) = labels.cloned() else { return Ok(None) };
        let mut merged = SeriesEntry::default();
        // Which source each chunk is from.
        let (mut sources, mut from) = (0u32, Vec::new());
        for input in &mut self.inputs {
            if input.current.as_ref().is_none_or(|(other, _)| *other != labels) {
                continue;
            }
            if let Some((_, entry)) = input.current.take() {
                // An interval hides samples of its own block only: it is applied here, before
                // samples of other blocks come beside it.
                append(&mut merged, entry)?;
                from.resize(merged.chunks.len(), sources);
                sources += 1;
            }
            input.advance(self.ctx)?;
        }
        if sources > 1 {
            sort_chunks(&mut merged, from);
        }
        Ok(Some((labels, merged)))
    }
}

/// Sorts chunks by min time. One whose neighbour before is from another source forgets what it says
/// of counter resets: it speaks of its own source.
fn sort_chunks(merged: &mut SeriesEntry, from: Vec<u32>) {
    let mut sorted: Vec<(u32, ChunkRef)> = from.into_iter().zip(merged.chunks.drain(..)).collect();
    sorted.sort_by_key(|(_, chunk)| chunk.min_time);
    let mut before = None;
    for (source, mut chunk) in sorted {
        if before.replace(source).is_some_and(|before| before != source) {
            chunk.bytes = forget_reset(chunk.encoding, &chunk.bytes);
        }
        merged.chunks.push(chunk);
    }
}

/// Adds the chunks of an entry, without what was deleted from them.
fn append(merged: &mut SeriesEntry, entry: SeriesEntry) -> Result<(), StoreError> {
    if entry.deleted.is_empty() {
        merged.chunks.extend(entry.chunks);
        return Ok(());
    }
    let mut chunks = Vec::new();
    super::chunks::resolve(&entry, &mut chunks).map_err(|source| {
        StoreError::caused(
            pyrrha_model::ErrorKind::Corrupt,
            "chunk with deleted samples cannot be read",
            source,
        )
    })?;
    merged.chunks.extend(chunks);
    Ok(())
}

impl Input {
    fn advance(&mut self, ctx: &QueryContext) -> Result<(), StoreError> {
        if self.next >= self.batch.series.len() {
            self.next = 0;
            if !self.set.next_batch(BATCH, &mut self.batch)? {
                self.current = None;
                return Ok(());
            }
        }
        let entry = std::mem::take(&mut self.batch.series[self.next]);
        self.next += 1;
        self.current = Some((self.batch.resolve(&ctx.symbols, &entry), entry));
        Ok(())
    }
}
