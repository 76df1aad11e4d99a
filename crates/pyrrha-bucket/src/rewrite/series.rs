//! A stream of series with what rules make of it.

use std::sync::Arc;

use parking_lot::Mutex;
use pyrrha_model::contract::{QueryContext, SeriesBatch, SeriesEntry, SeriesSet};
use pyrrha_model::{Labels, StoreError};

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
}

impl Rewritten {
    pub(crate) fn new(
        ctx: &QueryContext,
        source: Box<dyn SeriesSet>,
        rules: Arc<RewriteRules>,
        log: Arc<Mutex<ChangeLog>>,
        stage: Stage,
    ) -> Self {
        Self { ctx: ctx.clone(), source, rules, log, stage, inner: SeriesBatch::default() }
    }

    /// What becomes of a series; `None` if it goes.
    fn one(
        &self,
        labels: Labels,
        mut entry: SeriesEntry,
    ) -> Result<Option<(Labels, SeriesEntry)>, StoreError> {
        let mut log = self.log.lock();
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
                let (first, last) = times(&entry);
                let touched = intervals.iter().any(|i| i.start <= last && first <= i.end);
                if touched {
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
