//! The series of one attached bucket. Whoever owns it may delete a block while it is read: then the bucket is
//! looked at once more, and what took the block's place is read from behind the last series that was given.

use std::sync::Arc;

use pyrrha_model::contract::{QueryContext, SelectHints, SeriesBatch, SeriesSet};
use pyrrha_model::{Matcher, StoreError, SymbolId, TimeRange};
use pyrrha_storage::compare_labels;

use super::{AttachedBucket, BucketView};
use crate::error::BucketError;
use crate::external::{ByReplica, Way};
use crate::gateway::{Pace, Paced};

/// What is asked of a bucket.
pub(super) struct Question {
    pub(super) ctx: QueryContext,
    pub(super) matchers: Vec<Matcher>,
    pub(super) range: TimeRange,
    pub(super) hints: SelectHints,
}

impl Question {
    /// Begins to read what a view has; `None` if that is nothing. That an object is gone is an error whether
    /// or not the answer may have gaps, if `tells_gone`.
    fn ask(
        &self,
        bucket: &AttachedBucket,
        view: &BucketView,
        tells_gone: bool,
    ) -> Result<Option<Box<dyn SeriesSet>>, StoreError> {
        let (ctx, hints) = (&self.ctx, &self.hints);
        let streams = view.streams.get(&ctx.tenant).into_iter().flatten();
        let asked = streams.flat_map(|s| s.asked(ctx, &self.matchers, self.range, hints));
        let asked: Vec<_> = asked.collect();
        let pace = Pace::of(ctx, asked.iter().map(|(block, _)| &**block.entry()));
        let from = format!("attached bucket={}", bucket.name()).into();
        let mut sets = ByReplica::new(Way { pace: pace.clone(), from, tells_gone });
        sets.select(ctx, asked, &self.matchers, hints)?;
        let set = sets.merged(ctx);
        Ok(set.map(|set| Box::new(Paced::new(set, pace)) as Box<dyn SeriesSet>))
    }
}

/// The series that a bucket has for a question.
pub(super) struct Again {
    bucket: Arc<AttachedBucket>,
    question: Question,
    view: Arc<BucketView>,
    set: Box<dyn SeriesSet>,
    /// Labels of the last series that was given.
    last: Option<Vec<(SymbolId, SymbolId)>>,
    looked: bool,
}

impl Again {
    /// Begins to read; `None` if the bucket has nothing of it.
    pub(super) fn start(
        bucket: &Arc<AttachedBucket>,
        question: Question,
    ) -> Result<Option<Self>, StoreError> {
        let mut looked = false;
        loop {
            let view = bucket.view();
            match question.ask(bucket, &view, !looked) {
                Ok(set) => {
                    let bucket = bucket.clone();
                    return Ok(set.map(|set| Self { bucket, question, view, set, last: None, looked }));
                }
                Err(error) => {
                    let Some(key) = BucketError::gone_key(&error).filter(|_| !looked) else {
                        return Err(error);
                    };
                    looked = true;
                    bucket.look_for(key, &view, &question.ctx.cancel)?;
                }
            }
        }
    }

    /// Removes what was given before.
    fn skip(&self, batch: &mut SeriesBatch) {
        let Some(last) = self.last.as_ref().filter(|_| self.looked) else { return };
        let (symbols, labels) = (&self.question.ctx.symbols, &batch.labels);
        batch.series.retain(|entry| {
            let own = labels.get(entry.labels.start as usize..entry.labels.end as usize).unwrap_or_default();
            compare_labels(symbols, own, last).is_gt()
        });
    }
}

impl SeriesSet for Again {
    fn next_batch(&mut self, max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        loop {
            match self.set.next_batch(max, batch) {
                Ok(true) => {
                    self.skip(batch);
                    let Some(last) = batch.series.last() else { continue };
                    let last = batch.labels_of(last);
                    match &mut self.last {
                        Some(known) => {
                            known.clear();
                            known.extend_from_slice(last);
                        }
                        none => *none = Some(last.to_vec()),
                    }
                    return Ok(true);
                }
                Ok(false) => return Ok(false),
                Err(error) => {
                    let Some(key) = BucketError::gone_key(&error).filter(|_| !self.looked) else {
                        return Err(error);
                    };
                    self.looked = true;
                    self.bucket.look_for(key, &self.view, &self.question.ctx.cancel)?;
                    self.view = self.bucket.view();
                    // What the one before holds is given back first.
                    self.set = pyrrha_storage::merge(&self.question.ctx, Vec::new(), 0);
                    if let Some(set) = self.question.ask(&self.bucket, &self.view, false)? {
                        self.set = set;
                    }
                }
            }
        }
    }
}
