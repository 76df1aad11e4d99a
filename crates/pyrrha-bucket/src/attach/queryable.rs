//! A store and attached buckets as one source.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use pyrrha_model::contract::{
    Exemplars, LabelQuery, QueryContext, Queryable, SelectHints, SeriesSet, WindowHints,
};
use pyrrha_model::{Labels, Matcher, Metadata, StoreError, TimeRange};

use super::again::{Again, Question};
use super::{AttachedBucket, BucketView};
use crate::error::BucketError;
use crate::gateway::{Answered, BucketBlock, ask_each, names_of, series_of, union, values_of};

/// Reads of a store and of buckets that are attached to it. Where several have a sample of the same time,
/// one of them is read, as of overlapping blocks.
pub struct WithBuckets {
    store: Arc<dyn Queryable>,
    attached: Vec<Arc<AttachedBucket>>,
}

impl WithBuckets {
    /// Puts `attached` beside `store`.
    pub fn new(store: Arc<dyn Queryable>, attached: Vec<Arc<AttachedBucket>>) -> Self {
        Self { store, attached }
    }

    /// What the store answers and what the blocks do, as one.
    fn union<T, F>(
        &self,
        ctx: &QueryContext,
        query: &LabelQuery,
        store: Vec<T>,
        ask: impl Fn(Arc<BucketBlock>, QueryContext, LabelQuery) -> F,
    ) -> Result<Vec<T>, StoreError>
    where
        T: Ord + Send + 'static,
        F: Future<Output = Result<Vec<T>, StoreError>> + Send + 'static,
    {
        let mut answers = Vec::new();
        for bucket in &self.attached {
            answers.extend(ask_bucket(bucket, ctx, query, |block| ask(block, ctx.clone(), query.clone()))?);
        }
        union(ctx, query, store, answers)
    }
}

/// What the blocks of a bucket answer. If one is gone, the bucket is looked at again, and asked once more.
fn ask_bucket<T, F>(
    bucket: &AttachedBucket,
    ctx: &QueryContext,
    query: &LabelQuery,
    ask: impl Fn(Arc<BucketBlock>) -> F,
) -> Result<Vec<Answered<T>>, StoreError>
where
    T: Send + 'static,
    F: Future<Output = Result<Vec<T>, StoreError>> + Send + 'static,
{
    let mut looked = false;
    loop {
        let view = bucket.view();
        let answers = ask_each(bucket.reader.runtime(), ctx, asked(&view, ctx, query), &ask)?;
        let mut errors = answers.iter().filter_map(|(_, answer)| answer.as_ref().err());
        match errors.find_map(BucketError::gone_key) {
            Some(key) if !looked => bucket.look_for(key, &view, &ctx.cancel)?,
            _ => return Ok(answers),
        }
        looked = true;
    }
}

/// The blocks of a view that may have answers.
fn asked(view: &BucketView, ctx: &QueryContext, query: &LabelQuery) -> Vec<Arc<BucketBlock>> {
    // Labels are the same in windows, which may be all that is left.
    let any = SelectHints { windows: Some(WindowHints::default()), ..SelectHints::default() };
    let streams = view.streams.get(&ctx.tenant).into_iter().flatten();
    let streams = streams.filter(|stream| stream.external.left_of_query(query).is_some());
    let parts = streams.flat_map(|stream| stream.parts(&QueryContext::unlimited(), query.range, &any));
    parts.map(|(block, _)| block.block().clone()).collect()
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
        self.union(ctx, query, store, names_of)
    }

    fn label_values(
        &self,
        ctx: &QueryContext,
        name: &str,
        query: &LabelQuery,
    ) -> Result<Vec<String>, StoreError> {
        let store = self.store.label_values(ctx, name, query)?;
        self.union(ctx, query, store, |block, ctx, query| values_of(block, ctx, name.to_owned(), query))
    }

    fn series(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<Labels>, StoreError> {
        let store = self.store.series(ctx, query)?;
        self.union(ctx, query, store, series_of)
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
