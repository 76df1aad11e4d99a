//! Builds a block of windows from a stream of series, one series at a time.

use std::path::Path;
use std::sync::Arc;

use pyrrha_encoding::windows::{
    WindowPart, Windows, aggregate_chunks, coarsen, encode_windows, fold_floats, window_start,
};
use pyrrha_encoding::{DecodeError, SeriesDecoder, SeriesSamples, Want, decode_stored, encode_series};
use pyrrha_env::Disk;
use pyrrha_model::contract::{QueryContext, SeriesBatch, SeriesSet};
use pyrrha_model::{ErrorKind, StoreError, TimeRange};
use pyrrha_storage::block::{BlockId, BlockMeta, BlockWriter, ThanosDownsample, ThanosMeta};

use super::{DownsampleTask, FIVE_MINUTES};

/// Series read at once.
const BATCH: usize = 16;

/// Builds the block `output` of a task under `home` from `series`: those of the task's inputs, merged,
/// sorted by labels, with samples or both parts of windows that divide the task's. Gives its meta.
/// Series with native histograms are kept as they are, at full resolution. Memory: the chunks and samples of one series, and the
/// symbols.
pub(crate) fn build(
    disk: &Arc<dyn Disk>,
    home: &Path,
    output: BlockId,
    task: &DownsampleTask,
    metas: &[BlockMeta],
    mut series: Box<dyn SeriesSet>,
    ctx: &QueryContext,
) -> Result<BlockMeta, StoreError> {
    let (start, end) = task.range();
    let range = TimeRange::new(start, end.saturating_sub(1));
    let mut writer = BlockWriter::create(disk.clone(), &home.join(output.to_string()))?;
    let mut batch = SeriesBatch::default();
    let mut work = Work::default();
    while series.next_batch(BATCH, &mut batch)? {
        for entry in &batch.series {
            ctx.cancel.check()?;
            let labels = batch.resolve(&ctx.symbols, entry);
            let bytes = entry.chunks.iter().map(|c| c.bytes.len()).sum::<usize>() * WORK_PER_BYTE;
            ctx.budget.reserve(bytes)?;
            let done = work.decoder.decode(entry, range, Want::default(), &mut work.samples);
            work.fold(task.resolution);
            ctx.budget.release(bytes);
            let corrupt = |source: DecodeError| {
                let message = format!("chunk cannot be downsampled: series={labels} output={output}");
                StoreError::caused(ErrorKind::Corrupt, message, source)
            };
            done.map_err(corrupt)?;
            if !work.samples.histograms.times.is_empty() {
                let stored = decode_stored(entry, range).map_err(corrupt)?;
                writer.add_series(&labels, &encode_series(&stored, false))?;
                continue;
            }
            let part = |part| encode_windows(&work.windows, task.resolution, part);
            let (Some(edges), Some(values)) = (part(WindowPart::Edges), part(WindowPart::Values)) else {
                if work.windows.is_empty() {
                    continue;
                }
                let message = format!("series has too many windows for a block: series={labels}");
                return Err(StoreError::new(ErrorKind::Limit, message));
            };
            let chunks = aggregate_chunks(&work.windows);
            writer.add_windows(&labels, &chunks, &edges, &values)?;
        }
    }
    let mut meta = BlockMeta::of_compaction(output, metas);
    // As in Thanos: of the same level as what it was made from, which stays.
    meta.compaction.level = metas.iter().map(|m| m.compaction.level).max().unwrap_or(1);
    meta.compaction.parents.clear();
    meta.thanos = Some(thanos(task.resolution, metas));
    task.origin.note(&mut meta);
    (meta.min_time, meta.max_time) = (start, end);
    Ok(writer.finish(meta)?)
}

/// Samples, their columns and windows take about so much per byte of their chunks.
const WORK_PER_BYTE: usize = 24;

fn thanos(resolution: i64, metas: &[BlockMeta]) -> ThanosMeta {
    let before = metas.iter().find_map(|m| m.thanos.as_ref());
    ThanosMeta {
        version: 1,
        labels: Some(before.and_then(|t| t.labels.clone()).unwrap_or_default()),
        downsample: ThanosDownsample { resolution, ..ThanosDownsample::default() },
        source: "compactor".to_owned(),
        ..ThanosMeta::default()
    }
}

/// What is used again for each series.
#[derive(Default)]
struct Work {
    decoder: SeriesDecoder,
    samples: SeriesSamples,
    fine: Windows,
    windows: Windows,
}

impl Work {
    /// Makes windows of what was decoded.
    fn fold(&mut self, resolution: i64) {
        self.windows.clear();
        let SeriesSamples { floats, windows, .. } = &self.samples;
        if windows.is_empty() {
            fold_floats(&floats.times, &floats.values, resolution, &mut self.windows);
            return;
        }
        // Where some of the range is raw, it is brought to the same windows first.
        self.fine.clear();
        fold_floats(&floats.times, &floats.values, FIVE_MINUTES.min(resolution), &mut self.fine);
        let (mut all, mut taken) = (Windows::default(), 0);
        for i in 0..windows.len() {
            let before = self.fine.starts.partition_point(|s| *s < windows.starts[i]);
            all.extend(&self.fine, taken..before.max(taken));
            taken = before.max(taken);
            // Nothing may stand for the same time twice.
            if all.ends.last().is_none_or(|end| *end < window_start(windows.starts[i], FIVE_MINUTES)) {
                all.extend(windows, i..i + 1);
            }
        }
        all.extend(&self.fine, taken..self.fine.len());
        coarsen(&all, resolution, &mut self.windows);
    }
}
