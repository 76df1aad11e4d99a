//! Questions about labels, asked of blocks of the bucket some at a time.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;

use futures::stream::StreamExt;
use pyrrha_index::{KnownLists, RoaringBitmap, SeriesRow, label_values};
use pyrrha_model::contract::{LabelQuery, QueryContext};
use pyrrha_model::{Labels, StoreError, TimeRange};

use super::block::{BucketBlock, Opened};
use super::budget::Reserved;
use super::rows::Rows;
use crate::runtime::BucketRuntime;

/// Blocks that are asked, or opened for a question, at once.
pub(super) const BLOCKS_AT_ONCE: usize = 16;

/// An answer, and what is missing if it is an error.
pub(crate) type Answered<T> = (TimeRange, Result<Vec<T>, StoreError>);

/// Asks blocks, some at a time.
pub(crate) fn ask_each<T, F>(
    runtime: &BucketRuntime,
    ctx: &QueryContext,
    blocks: impl IntoIterator<Item = Arc<BucketBlock>>,
    ask: impl Fn(Arc<BucketBlock>) -> F,
) -> Result<Vec<Answered<T>>, StoreError>
where
    T: Send + 'static,
    F: Future<Output = Result<Vec<T>, StoreError>> + Send + 'static,
{
    let question = |block: Arc<BucketBlock>| {
        let (missing, answer) = (block.range(), ask(block));
        async move { (missing, answer.await) }
    };
    let questions: Vec<_> = blocks.into_iter().map(question).collect();
    if questions.is_empty() {
        return Ok(Vec::new());
    }
    let answers = async move {
        Ok(futures::stream::iter(questions).buffer_unordered(BLOCKS_AT_ONCE).collect::<Vec<_>>().await)
    };
    Ok(runtime.wait_while(&ctx.cancel, answers)?)
}

/// What a store and blocks beside it answer, as one; without blocks that cannot be read, if the answer may
/// have gaps.
pub(crate) fn union<T: Ord>(
    ctx: &QueryContext,
    query: &LabelQuery,
    store: Vec<T>,
    answers: Vec<Answered<T>>,
) -> Result<Vec<T>, StoreError> {
    let answers = answers.into_iter().map(|(missing, answer)| match answer {
        Err(error) if ctx.partial_response => {
            ctx.notices.gap(missing, error.to_string());
            Ok(Vec::new())
        }
        answer => answer,
    });
    query.union(std::iter::once(Ok(store)).chain(answers))
}

/// Names of labels of the series that a query asks for, external ones among them.
pub(crate) async fn names_of(
    block: Arc<BucketBlock>,
    ctx: QueryContext,
    query: LabelQuery,
) -> Result<Vec<String>, StoreError> {
    let external = &block.external;
    if external.changes_nothing() {
        return stored_names(block.clone(), ctx, query).await;
    }
    let Some(left) = external.left_of_query(&query) else { return Ok(Vec::new()) };
    let mut names = stored_names(block.clone(), ctx, left).await?;
    names.retain(|name| external.shows(name));
    if !names.is_empty() {
        names.extend(external.injected().map(|(name, _)| name.to_owned()));
    }
    Ok(names)
}

/// Values of a label, maybe an external one, of the series that a query asks for.
pub(crate) async fn values_of(
    block: Arc<BucketBlock>,
    ctx: QueryContext,
    name: String,
    query: LabelQuery,
) -> Result<Vec<String>, StoreError> {
    let external = &block.external;
    if external.changes_nothing() {
        return stored_values(block.clone(), ctx, name, query).await;
    }
    let Some(left) = external.left_of_query(&query) else { return Ok(Vec::new()) };
    if !external.shows(&name) {
        return Ok(Vec::new());
    }
    let Some((_, value)) = external.injected().find(|(n, _)| *n == name) else {
        // Values of its own are what they are outside, so the first are the first.
        return stored_values(block.clone(), ctx, name, LabelQuery { limit: query.limit, ..left }).await;
    };
    let opened = block.open(&ctx).await?;
    let any = !matching(&block, &ctx, &opened, &left).await?.is_empty();
    Ok(if any { vec![value.to_owned()] } else { Vec::new() })
}

/// The series that a query asks for, with external labels.
pub(crate) async fn series_of(
    block: Arc<BucketBlock>,
    ctx: QueryContext,
    query: LabelQuery,
) -> Result<Vec<Labels>, StoreError> {
    let external = &block.external;
    if external.changes_nothing() {
        return stored_series(block.clone(), ctx, query).await;
    }
    let Some(left) = external.left_of_query(&query) else { return Ok(Vec::new()) };
    let series = stored_series(block.clone(), ctx, left).await?;
    Ok(series.iter().map(|labels| external.of_series(labels)).collect())
}

/// The series that the query asks for, whatever their time.
async fn matching(
    block: &BucketBlock,
    ctx: &QueryContext,
    opened: &Opened,
    query: &LabelQuery,
) -> Result<RoaringBitmap, StoreError> {
    let mut found = RoaringBitmap::new();
    for matchers in query.sets() {
        found |= block.matching(ctx, opened, matchers).await?;
    }
    Ok(found)
}

async fn stored_names(
    block: Arc<BucketBlock>,
    ctx: QueryContext,
    query: LabelQuery,
) -> Result<Vec<String>, StoreError> {
    let opened = block.open(&ctx).await?;
    if query.matcher_sets.is_empty() {
        return Ok(opened.header.label_value_counts().map(|(name, _)| name.to_owned()).collect());
    }
    let found = matching(&block, &ctx, &opened, &query).await?;
    let mut rows = Rows::new(&block, &opened, found);
    let mut names = BTreeSet::new();
    loop {
        let group = rows.next(&ctx).await?;
        if group.is_empty() {
            break;
        }
        names.extend(group.iter().flat_map(|(_, row)| row.labels.iter().map(|&(name, _)| name)));
    }
    let text = |name| opened.header.symbol(name).map(str::to_owned).map_err(|e| block.blame(e));
    names.into_iter().map(text).collect()
}

/// The values that a label has in a block itself.
pub(super) async fn stored_values(
    block: Arc<BucketBlock>,
    ctx: QueryContext,
    name: String,
    query: LabelQuery,
) -> Result<Vec<String>, StoreError> {
    let opened = block.open(&ctx).await?;
    if query.matcher_sets.is_empty() {
        // The table of lists has all values.
        let known = KnownLists::new(&opened.header);
        return label_values(&known, &name, &[], query.limit, &ctx.cancel).map_err(|e| block.blame(e));
    }
    let found = matching(&block, &ctx, &opened, &query).await?;
    if found.len() >= u64::from(opened.header.value_count(&name)) {
        let values = block.values_within(&ctx, &opened, &name, &found, query.most()).await?;
        return Ok(values.into_iter().collect());
    }
    let mut rows = Rows::new(&block, &opened, found);
    let text = |reference| opened.header.symbol(reference).map_err(|e| block.blame(e));
    // Names by reference, whether they are this one, and the references of its values.
    let (mut names, mut values): (HashMap<u32, bool>, HashSet<u32>) = Default::default();
    loop {
        let group = rows.next(&ctx).await?;
        if group.is_empty() {
            break;
        }
        for &(own, value) in group.iter().flat_map(|(_, row)| &row.labels) {
            let is_it = match names.get(&own) {
                Some(&known) => known,
                None => *names.entry(own).or_insert(text(own)? == name),
            };
            if is_it {
                values.insert(value);
            }
        }
    }
    let values: Vec<&str> = values.into_iter().map(text).collect::<Result<_, _>>()?;
    // A foreign index may spell an absent label as an empty value.
    let values: BTreeSet<&str> = values.into_iter().filter(|value| !value.is_empty()).collect();
    Ok(values.into_iter().take(query.most()).map(str::to_owned).collect())
}

async fn stored_series(
    block: Arc<BucketBlock>,
    ctx: QueryContext,
    query: LabelQuery,
) -> Result<Vec<Labels>, StoreError> {
    let opened = block.open(&ctx).await?;
    let found = matching(&block, &ctx, &opened, &query).await?;
    let mut reserved = Reserved::new(&ctx, found.serialized_size() as u64)?;
    let mut rows = Rows::new(&block, &opened, found);
    let mut all = Vec::new();
    while all.len() < query.most() {
        let group = rows.next(&ctx).await?;
        if group.is_empty() {
            break;
        }
        let in_range = |row: &SeriesRow| {
            row.chunks.iter().any(|c| TimeRange::new(c.min_time, c.max_time).overlaps(&query.range))
        };
        for (_, row) in group.iter().filter(|(_, row)| in_range(row)) {
            let labels = rows.labels(row)?;
            let text: usize = labels.iter().map(|l| l.name.len() + l.value.len() + 48).sum();
            reserved.grow(text as u64)?;
            all.push(labels);
        }
    }
    all.truncate(query.most());
    Ok(all)
}
