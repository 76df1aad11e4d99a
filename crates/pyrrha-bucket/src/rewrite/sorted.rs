//! Series by labels, whatever order they come in: sorted in runs on the local disk, which are merged. What
//! is held in memory is one run.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use pyrrha_env::Disk;
use pyrrha_model::contract::{
    DeleteId, QueryContext, Queryable, SelectHints, SeriesBatch, SeriesEntry, SeriesSet,
};
use pyrrha_model::{Labels, StoreError, TimeRange};
use pyrrha_storage::block::{Block, BlockId, BlockMeta};
use pyrrha_storage::compact::{Source, merge_sources};

/// Bytes of chunks and labels of a run.
const RUN_BYTES: usize = 32 << 20;
/// Series taken at once.
const AT_ONCE: usize = 64;

/// Writes the series of a source, which come by labels, into a block under `home` as a merge would: what
/// is deleted of them is gone then. `None` if nothing is left.
pub(crate) fn spool(
    disk: &Arc<dyn Disk>,
    home: &Path,
    number: u64,
    range: TimeRange,
    series: Box<dyn SeriesSet>,
    ctx: &QueryContext,
) -> Result<Option<Block>, StoreError> {
    let id = BlockId::from_parts(number, 0);
    let source = Source {
        meta: BlockMeta::of_head(id, range.start, range.end.saturating_add(1)),
        replica: String::new(),
        series,
        deletes_through: DeleteId::default(),
        exemplars: None,
        metadata: None,
    };
    let made = merge_sources(disk, home, id, vec![source], ctx)?;
    made.map(|meta| Ok(Block::open(&**disk, &home.join(meta.ulid.to_string()))?)).transpose()
}

/// The series of a source by labels, those of equal labels as one. Nothing of them is deleted.
pub(crate) fn sorted(
    disk: &Arc<dyn Disk>,
    home: &Path,
    range: TimeRange,
    mut source: impl SeriesSet,
    ctx: &QueryContext,
) -> Result<Box<dyn SeriesSet>, StoreError> {
    let (mut runs, mut held, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut batch = SeriesBatch::default();
    loop {
        let more = source.next_batch(AT_ONCE, &mut batch)?;
        ctx.cancel.check()?;
        for i in 0..batch.series.len() {
            let mut entry = std::mem::take(&mut batch.series[i]);
            let labels = batch.resolve(&ctx.symbols, &entry);
            bytes += labels.iter().map(|l| l.name.len() + l.value.len()).sum::<usize>();
            for chunk in &mut entry.chunks {
                // What it is a part of is not held with it.
                chunk.bytes = Bytes::copy_from_slice(&chunk.bytes);
                bytes += chunk.bytes.len();
            }
            held.push((labels, entry));
        }
        if bytes >= RUN_BYTES || (!more && !held.is_empty()) {
            let run = Run { ctx: ctx.clone(), series: in_order(std::mem::take(&mut held)).into_iter() };
            bytes = 0;
            runs.extend(spool(disk, home, runs.len() as u64 + 1, range, Box::new(run), ctx)?);
        }
        if !more {
            break;
        }
    }
    let all = SelectHints::default();
    let sets = runs.iter().map(|run| run.select(ctx, &[], TimeRange::ALL, &all)).collect::<Result<_, _>>()?;
    Ok(pyrrha_storage::merge(ctx, sets, 0))
}

fn in_order(mut held: Vec<(Labels, SeriesEntry)>) -> Vec<(Labels, SeriesEntry)> {
    held.sort_by(|a, b| a.0.cmp(&b.0));
    let mut all: Vec<(Labels, SeriesEntry)> = Vec::with_capacity(held.len());
    for (labels, entry) in held {
        match all.last_mut() {
            Some((last, same)) if *last == labels => {
                same.chunks.extend(entry.chunks);
                same.chunks.sort_by_key(|chunk| chunk.min_time);
            }
            _ => all.push((labels, entry)),
        }
    }
    all
}

/// Series that are held.
struct Run {
    ctx: QueryContext,
    series: std::vec::IntoIter<(Labels, SeriesEntry)>,
}

impl SeriesSet for Run {
    fn next_batch(&mut self, max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        batch.clear();
        for (labels, entry) in self.series.by_ref().take(max) {
            let start = batch.labels.len() as u32;
            let intern = |text: &str| self.ctx.symbols.intern(text);
            batch.labels.extend(labels.iter().map(|l| (intern(&l.name), intern(&l.value))));
            batch.series.push(SeriesEntry { labels: start..batch.labels.len() as u32, ..entry });
        }
        Ok(!batch.series.is_empty())
    }
}
