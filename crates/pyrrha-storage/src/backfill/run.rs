//! From columns in memory to a block, and from several such blocks of one range to one.

use pyrrha_encoding::encode_series;
use pyrrha_model::contract::{Exemplars, QueryContext, Queryable, SelectHints, Value};
use pyrrha_model::{ErrorKind, Labels, StoreError, TimeRange, Timestamp};

use super::{Backfill, BackfillError, Staged};
use crate::block::{Block, BlockId, BlockMeta, BlockWriter, tidy_exemplars};
use crate::compact::chunks::resolve;
use crate::compact::sidecars::Sidecars;
use crate::compact::{SeriesMerge, sidecars};

/// Samples of one series and range, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Column {
    floats: Vec<(Timestamp, f64)>,
    /// Histograms, and floats with start timestamps.
    others: Vec<(Timestamp, Timestamp, Value)>,
}

impl Column {
    /// Adds a sample; gives the bytes that it takes.
    pub(super) fn push(&mut self, start: Timestamp, time: Timestamp, value: Value) -> usize {
        let bytes = match &value {
            Value::Float(float) if start == 0 => {
                self.floats.push((time, *float));
                return size_of::<(Timestamp, f64)>();
            }
            Value::Float(_) => 0,
            Value::Histogram(h) => {
                size_of_val(&**h) + 8 * (h.positive_buckets.len() + h.negative_buckets.len())
            }
            Value::FloatHistogram(h) => h.size_bytes(),
        };
        self.others.push((start, time, value));
        bytes + size_of::<(Timestamp, Timestamp, Value)>()
    }

    /// The samples by time, each time once: the first that came stays.
    fn into_samples(self, repeated: &mut u64) -> Vec<(Timestamp, Timestamp, Value)> {
        let floats = self.floats.into_iter().map(|(t, v)| (0, t, Value::Float(v)));
        let mut samples: Vec<_> = floats.chain(self.others).collect();
        let before = samples.len();
        samples.sort_by_key(|(_, time, _)| *time);
        samples.dedup_by_key(|(_, time, _)| *time);
        *repeated += (before - samples.len()) as u64;
        samples
    }
}

impl Backfill {
    /// Writes what is in memory, a block per range.
    pub(super) fn flush(&mut self) -> Result<(), BackfillError> {
        let mut labels: Vec<Labels> = vec![Labels::empty(); self.ids.len()];
        for (set, id) in self.ids.drain() {
            labels[id as usize] = set;
        }
        for (range, columns) in std::mem::take(&mut self.ranges) {
            let mut order: Vec<_> = columns.into_iter().collect();
            order.sort_by(|(a, _), (b, _)| labels[*a as usize].cmp(&labels[*b as usize]));
            let (id, mut times) = (self.id_of(range, false), Times::default());
            let mut writer = BlockWriter::create(self.disk.clone(), &self.staging.join(id.to_string()))?;
            for (series, column) in order {
                let samples = column.into_samples(&mut self.stats.repeated);
                times.add(samples.first().map(|s| s.1), samples.last().map(|s| s.1));
                let chunks = encode_series(&samples, self.config.start_timestamps);
                writer.add_series(&labels[series as usize], &chunks)?;
            }
            self.write_sidecars(range, &mut writer)?;
            let staged = self.finish_block(writer, id, times)?;
            self.runs.entry(range).or_default().extend(staged);
            self.stats.flushes += 1;
        }
        // What is left belongs to ranges without samples.
        self.exemplars.clear();
        self.generation = self.generation.wrapping_add(1).max(1);
        self.held = 0;
        Ok(())
    }

    fn write_sidecars(&mut self, range: i64, writer: &mut BlockWriter) -> Result<(), BackfillError> {
        if let Some(exemplars) = self.exemplars.remove(&range) {
            let series = exemplars.into_iter().map(|(series, mut exemplars)| {
                tidy_exemplars(&mut exemplars);
                Ok::<_, BackfillError>(Exemplars { series, exemplars })
            });
            writer.write_exemplars(series)?;
        }
        if !self.metadata.is_empty() {
            writer.write_metadata(self.metadata.iter().map(|(name, metadata)| (name.as_str(), metadata)))?;
        }
        Ok(())
    }

    /// One block of several of a range, without what was deleted; where they have the same time, one
    /// sample stays.
    pub(super) fn merge(&self, range: i64, runs: &[Staged]) -> Result<Option<Staged>, BackfillError> {
        let ctx = QueryContext::unlimited();
        let (mut blocks, mut sets) = (Vec::with_capacity(runs.len()), Vec::with_capacity(runs.len()));
        for run in runs {
            blocks.push(Block::open(&*self.disk, &run.dir)?);
        }
        for block in &blocks {
            sets.push(block.select(&ctx, &[], TimeRange::ALL, &SelectHints::default())?);
        }
        let mut merge = SeriesMerge::new(sets, &ctx)?;
        let (id, mut times, mut chunks) = (self.id_of(range, true), Times::default(), Vec::new());
        let mut writer = BlockWriter::create(self.disk.clone(), &self.staging.join(id.to_string()))?;
        while let Some((labels, mut entry)) = merge.next_series()? {
            if let Some(deleted) = self.deleted.get(&labels) {
                entry.deleted.extend_from_slice(deleted);
            }
            chunks.clear();
            resolve(&entry, &mut chunks).map_err(|source| {
                StoreError::caused(
                    ErrorKind::Corrupt,
                    format!("chunk cannot be merged series={labels}"),
                    source,
                )
            })?;
            times.add(chunks.first().map(|c| c.min_time), chunks.last().map(|c| c.max_time));
            writer.add_series(&labels, &chunks)?;
        }
        drop(merge);
        if times.0.is_some() {
            let beside: Vec<_> = blocks.iter().map(Sidecars::of).collect();
            sidecars::merge(&mut writer, &beside, &|_| true, &ctx)?;
        }
        let staged = self.finish_block(writer, id, times)?;
        for run in runs {
            self.disk.remove_dir_all(&run.dir).map_err(BackfillError::io("remove directory", &run.dir))?;
        }
        Ok(staged)
    }

    fn finish_block(
        &self,
        writer: BlockWriter,
        id: BlockId,
        times: Times,
    ) -> Result<Option<Staged>, BackfillError> {
        let Some((first, last)) = times.0 else { return Ok(None) };
        let mut meta = BlockMeta::of_head(id, first, last.saturating_add(1));
        meta.compaction.hints.clone_from(&self.config.hints);
        writer.finish(meta)?;
        Ok(Some(Staged { id, dir: self.staging.join(id.to_string()) }))
    }
}

/// First and last time of a block's samples.
#[derive(Debug, Default, Clone, Copy)]
struct Times(Option<(Timestamp, Timestamp)>);

impl Times {
    fn add(&mut self, first: Option<Timestamp>, last: Option<Timestamp>) {
        let (Some(first), Some(last)) = (first, last) else { return };
        let (min, max) = self.0.unwrap_or((first, last));
        self.0 = Some((min.min(first), max.max(last)));
    }
}
