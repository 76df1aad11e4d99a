//! A stream of series with what rules make of it.

use std::sync::Arc;

use parking_lot::Mutex;
use pyrrha_encoding::{SeriesDecoder, SeriesSamples, Want};
use pyrrha_model::contract::{QueryContext, SeriesBatch, SeriesEntry, SeriesSet};
use pyrrha_model::{ErrorKind, Labels, StoreError, TimeRange};

use super::{ChangeLog, Fate, RewriteRules};

/// What is done with series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// What is to be deleted is: order and labels stay.
    Delete,
    /// Those that stay get their labels.
    Relabel,
    /// Both.
    Both,
}

/// The series of a source without what is deleted, and with the labels that they get: in the order of the
/// source, whatever labels they get.
pub(crate) struct Rewritten {
    ctx: QueryContext,
    source: Box<dyn SeriesSet>,
    rules: Arc<RewriteRules>,
    log: Arc<Mutex<ChangeLog>>,
    stage: Stage,
    inner: SeriesBatch,
    decoder: SeriesDecoder,
    samples: SeriesSamples,
}

impl Rewritten {
    pub(crate) fn new(
        ctx: &QueryContext,
        source: Box<dyn SeriesSet>,
        rules: Arc<RewriteRules>,
        log: Arc<Mutex<ChangeLog>>,
        stage: Stage,
    ) -> Self {
        Self {
            ctx: ctx.clone(),
            source,
            rules,
            log,
            stage,
            inner: SeriesBatch::default(),
            decoder: SeriesDecoder::default(),
            samples: SeriesSamples::default(),
        }
    }

    /// What becomes of a series; `None` if it goes.
    fn one(
        &mut self,
        labels: Labels,
        mut entry: SeriesEntry,
    ) -> Result<Option<(Labels, SeriesEntry)>, StoreError> {
        let log = self.log.clone();
        let mut log = log.lock();
        let fate = match self.stage {
            Stage::Relabel => Fate::Stays,
            Stage::Delete | Stage::Both => {
                log.changes.series += 1;
                self.rules.fate(&labels)
            }
        };
        match fate {
            Fate::Stays => {}
            Fate::Goes => {
                log.deleted(&labels)?;
                return Ok(None);
            }
            Fate::Cut(intervals) => {
                if self.has_samples_in(&labels, &entry, &intervals)? {
                    log.cut(&labels, &intervals)?;
                    entry.deleted.extend(intervals);
                }
            }
        }
        if self.stage == Stage::Delete || !self.rules.relabels() {
            return Ok(Some((labels, entry)));
        }
        let Some(to) = self.rules.relabelled(&labels) else {
            log.deleted(&labels)?;
            return Ok(None);
        };
        if to != labels {
            log.relabelled(&labels, &to)?;
        }
        Ok(Some((to, entry)))
    }

    /// Whether a series has samples in intervals, which are sorted, that are not deleted yet. Its chunks do not
    /// tell: what they span may have been cut before.
    fn has_samples_in(
        &mut self,
        labels: &Labels,
        entry: &SeriesEntry,
        intervals: &[TimeRange],
    ) -> Result<bool, StoreError> {
        let (Some(start), Some(end)) = (intervals.first().map(|i| i.start), intervals.last().map(|i| i.end))
        else {
            return Ok(false);
        };
        let (first, last) = times(entry);
        let (start, end) = (start.max(first), end.min(last));
        if start > end {
            return Ok(false);
        }
        let want = Want { starts: false, histogram_stats_only: true };
        let range = TimeRange::new(start, end);
        self.decoder.decode(entry, range, want, &mut self.samples).map_err(|source| {
            let message = format!("chunk does not decode: series={labels}");
            StoreError::caused(ErrorKind::Corrupt, message, source)
        })?;
        let within = |times: &[i64]| {
            let has = |i: &TimeRange| {
                let at = times.partition_point(|&time| time < i.start);
                times.get(at).is_some_and(|&time| time <= i.end)
            };
            intervals.iter().any(has)
        };
        Ok(within(&self.samples.floats.times) || within(&self.samples.histograms.times))
    }
}

/// First and last time of a series' chunks.
fn times(entry: &SeriesEntry) -> (i64, i64) {
    let first = entry.chunks.iter().map(|c| c.min_time).min().unwrap_or(i64::MAX);
    (first, entry.chunks.iter().map(|c| c.max_time).max().unwrap_or(i64::MIN))
}

impl SeriesSet for Rewritten {
    fn next_batch(&mut self, max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        batch.clear();
        while batch.series.is_empty() {
            let mut inner = std::mem::take(&mut self.inner);
            let more = self.source.next_batch(max, &mut inner)?;
            if !more {
                return Ok(false);
            }
            for i in 0..inner.series.len() {
                let entry = std::mem::take(&mut inner.series[i]);
                let labels = inner.resolve(&self.ctx.symbols, &entry);
                let Some((labels, entry)) = self.one(labels, entry)? else { continue };
                let start = batch.labels.len() as u32;
                let intern = |text: &str| self.ctx.symbols.intern(text);
                batch.labels.extend(labels.iter().map(|l| (intern(&l.name), intern(&l.value))));
                batch.series.push(SeriesEntry { labels: start..batch.labels.len() as u32, ..entry });
            }
            self.inner = inner;
        }
        Ok(true)
    }
}
