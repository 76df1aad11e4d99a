//! A store and attached buckets as one source.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::StreamExt;
use pyrrha_model::contract::{
    Exemplars, LabelQuery, QueryContext, Queryable, SelectHints, SeriesSet, WindowHints,
};
use pyrrha_model::{Labels, Matcher, Metadata, StoreError, TimeRange};

use super::again::{Again, Question};
use super::{AttachedBucket, BucketView};
use crate::error::BucketError;
use crate::external::External;
use crate::gateway::ForeignBlock;

/// Blocks that are asked for labels at once.
const BLOCKS_AT_ONCE: usize = 16;

/// Reads of a store and of buckets that are attached to it. Where several have a sample of the same time,
/// one of them is read, as of overlapping blocks.
pub struct WithBuckets {
    store: Arc<dyn Queryable>,
    attached: Vec<Arc<AttachedBucket>>,
}

/// What a block answers to a question about labels.
type Answer<T> = BoxFuture<'static, Answered<T>>;

/// An answer, and what is missing if it is an error.
type Answered<T> = (TimeRange, Result<Vec<T>, StoreError>);

impl WithBuckets {
    /// Puts `attached` beside `store`.
    pub fn new(store: Arc<dyn Queryable>, attached: Vec<Arc<AttachedBucket>>) -> Self {
        Self { store, attached }
    }

    /// What the store answers and what the blocks do, as one.
    fn union<T: Ord + Send + 'static>(
        &self,
        ctx: &QueryContext,
        query: &LabelQuery,
        store: Vec<T>,
        ask: impl Fn(ForeignBlock, External, LabelQuery) -> BoxFuture<'static, Result<Vec<T>, StoreError>>,
    ) -> Result<Vec<T>, StoreError> {
        let mut answers = vec![Ok(store)];
        for bucket in &self.attached {
            for (range, answer) in ask_bucket(bucket, ctx, query, &ask)? {
                match answer {
                    Err(error) if ctx.partial_response => ctx.notices.gap(range, error.to_string()),
                    answer => answers.push(answer),
                }
            }
        }
        query.union(answers)
    }
}

/// What the blocks of a bucket answer. If one is gone, the bucket is looked at again, and asked once more.
fn ask_bucket<T: Send + 'static>(
    bucket: &AttachedBucket,
    ctx: &QueryContext,
    query: &LabelQuery,
    ask: impl Fn(ForeignBlock, External, LabelQuery) -> BoxFuture<'static, Result<Vec<T>, StoreError>>,
) -> Result<Vec<Answered<T>>, StoreError> {
    let mut looked = false;
    loop {
        let view = bucket.view();
        let questions = questions(&view, ctx, query, &ask);
        if questions.is_empty() {
            return Ok(Vec::new());
        }
        let answer = async move {
            let all = futures::stream::iter(questions).buffer_unordered(BLOCKS_AT_ONCE);
            Ok(all.collect::<Vec<_>>().await)
        };
        let answers = bucket.reader.runtime().wait_while(&ctx.cancel, answer)?;
        let mut errors = answers.iter().filter_map(|(_, answer)| answer.as_ref().err());
        match errors.find_map(BucketError::gone_key) {
            Some(key) if !looked => bucket.look_for(key, &view, &ctx.cancel)?,
            _ => return Ok(answers),
        }
        looked = true;
    }
}

/// The blocks of a view that may have answers, asked.
fn questions<T: Send + 'static>(
    view: &BucketView,
    ctx: &QueryContext,
    query: &LabelQuery,
    ask: impl Fn(ForeignBlock, External, LabelQuery) -> BoxFuture<'static, Result<Vec<T>, StoreError>>,
) -> Vec<Answer<T>> {
    // Labels are the same in windows, which may be all that is left.
    let any = SelectHints { windows: Some(WindowHints::default()), ..SelectHints::default() };
    let mut questions: Vec<Answer<T>> = Vec::new();
    for stream in view.streams.get(&ctx.tenant).into_iter().flatten() {
        if stream.external.left_of_query(query).is_none() {
            continue;
        }
        for (block, _) in stream.parts(&QueryContext::unlimited(), query.range, &any) {
            let missing = block.entry().range();
            let answer = ask(block, stream.external.clone(), query.clone());
            questions.push(Box::pin(async move { (missing, answer.await) }));
        }
    }
    questions
}

impl Queryable for WithBuckets {
    fn select(
        &self,
        ctx: &QueryContext,
        matchers: &[Matcher],
        range: TimeRange,
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StoreError> {
        if self.attached.iter().all(|bucket| !bucket.view().streams.contains_key(&ctx.tenant)) {
            return self.store.select(ctx, matchers, range, hints);
        }
        let mut sources: Vec<Box<dyn SeriesSet>> =
            vec![self.store.select(ctx, matchers, range, &hints.with_all_labels())?];
        for bucket in &self.attached {
            let question =
                Question { ctx: ctx.clone(), matchers: matchers.to_vec(), range, hints: hints.clone() };
            if let Some(series) = Again::start(bucket, question)? {
                sources.push(Box::new(series));
            }
        }
        Ok(pyrrha_storage::merge(ctx, sources, hints.limit))
    }

    fn label_names(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<String>, StoreError> {
        let store = self.store.label_names(ctx, query)?;
        self.union(ctx, query, store, |block, external, query| {
            Box::pin(block.label_names(external, ctx.clone(), query))
        })
    }

    fn label_values(
        &self,
        ctx: &QueryContext,
        name: &str,
        query: &LabelQuery,
    ) -> Result<Vec<String>, StoreError> {
        let store = self.store.label_values(ctx, name, query)?;
        self.union(ctx, query, store, |block, external, query| {
            Box::pin(block.label_values(external, ctx.clone(), name.to_owned(), query))
        })
    }

    fn series(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<Labels>, StoreError> {
        let store = self.store.series(ctx, query)?;
        self.union(ctx, query, store, |block, external, query| {
            Box::pin(block.series(external, ctx.clone(), query))
        })
    }

    fn exemplars(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<Exemplars>, StoreError> {
        // The standard parts of a block hold none.
        self.store.exemplars(ctx, query)
    }

    fn metadata(
        &self,
        ctx: &QueryContext,
        metric: Option<&str>,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, StoreError> {
        self.store.metadata(ctx, metric)
    }
}
