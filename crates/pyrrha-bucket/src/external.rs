//! External labels: they belong to all series of a block and are in none of them (decision 19). What reads
//! blocks of others in place and what reads blocks that a manifest lists does so by this.
//!
//! ```text
//! block ─► matchers on external labels ─► series ─► labels injected, in order ─► replicas as one
//!          (labels)                       (gateway) (relabel)                     (replicas)
//! ```

mod labels;
mod relabel;
mod replicas;

use std::collections::BTreeMap;
use std::sync::Arc;

use pyrrha_model::contract::{QueryContext, SelectHints, SeriesSet};
use pyrrha_model::{ErrorKind, Matcher, StoreError, TimeRange};

use crate::error::BucketError;
use crate::gateway::{ForeignBlock, InnerValues, Pace, Paced, inner_values};
pub(crate) use labels::External;
use relabel::Relabelled;
use replicas::Replicas;

/// Replicas that are told apart within one block by labels of its series.
const INNER_REPLICAS_MAX: usize = 64;

/// The values of the labels that tell a replica apart, and the matchers of its series.
type OneReplica = (Vec<String>, Vec<Matcher>);

/// How blocks are read for a query.
pub(crate) struct Way {
    pub(crate) pace: Arc<Pace>,
    /// Says where an error is from, unless it is empty.
    pub(crate) from: Arc<str>,
    /// Whether that an object is gone is an error even where the answer may have gaps.
    pub(crate) tells_gone: bool,
}

/// Sets of series by the values of the labels that tell replicas apart.
pub(crate) struct ByReplica {
    way: Way,
    sets: BTreeMap<Vec<String>, Vec<Box<dyn SeriesSet>>>,
}

impl ByReplica {
    pub(crate) fn new(way: Way) -> Self {
        Self { way, sets: BTreeMap::new() }
    }

    /// Begins to read the series of blocks, each with the times that it answers for, as queries see them, each
    /// replica by itself.
    pub(crate) fn select(
        &mut self,
        ctx: &QueryContext,
        blocks: Vec<(ForeignBlock, TimeRange)>,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<(), StoreError> {
        let asked = |(block, range): (ForeignBlock, TimeRange)| {
            let left = block.external().left_of(matchers)?;
            Some((block, range, left))
        };
        let blocks: Vec<_> = blocks.into_iter().filter_map(asked).collect();
        let opened: Vec<&ForeignBlock> = blocks.iter().map(|(block, _, _)| block).collect();
        let values = inner_values(ctx, &opened, INNER_REPLICAS_MAX)?;
        for ((block, range, matchers), values) in blocks.iter().zip(values) {
            let external = block.external();
            // Labels are all needed for the order; what is cut by shard or number is cut when they are there.
            let mut inner = hints.with_all_labels();
            let shard = if external.changes_nothing() { None } else { inner.shard.take() };
            inner.newest_only = false;
            if !external.changes_nothing() {
                inner.limit = 0;
            }
            let Some(values) = self.or_gap(ctx, block, values)? else { continue };
            for (key, own) in replicas_in(block, matchers, values)? {
                let series = block.select(ctx, own, *range, inner.clone(), &self.way);
                let set = Relabelled::new(ctx, series, external, shard, self.way.from.clone());
                self.sets.entry(key).or_default().push(Box::new(set));
            }
        }
        Ok(())
    }

    /// `None` if the answer may do without the block.
    fn or_gap<T>(
        &self,
        ctx: &QueryContext,
        block: &ForeignBlock,
        read: Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match read {
            Err(error)
                if ctx.partial_response
                    && ctx.cancel.reason().is_none()
                    && !(self.way.tells_gone && BucketError::is_gone(&error)) =>
            {
                ctx.notices.gap(block.entry().range(), error.to_string());
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    /// All of it as one; `None` if there is nothing.
    pub(crate) fn merged(self, ctx: &QueryContext) -> Option<Box<dyn SeriesSet>> {
        let pace = &self.way.pace;
        let part = |sets| Paced::part(pyrrha_storage::merge(ctx, sets, 0), pace.clone());
        let mut replicas: Vec<Box<dyn SeriesSet>> =
            self.sets.into_values().map(|sets| Box::new(part(sets)) as Box<dyn SeriesSet>).collect();
        match replicas.len() {
            0 | 1 => replicas.pop(),
            _ => Some(Box::new(Replicas::new(ctx, replicas))),
        }
    }
}

/// The replicas whose series a block has, with matchers for each, by the values of labels that tell them apart.
fn replicas_in(
    block: &ForeignBlock,
    matchers: &[Matcher],
    values: InnerValues,
) -> Result<Vec<OneReplica>, StoreError> {
    let external = block.external();
    let mut replicas = vec![(BTreeMap::new(), matchers.to_vec())];
    for (name, values) in values {
        if values.is_empty() {
            continue;
        }
        if replicas.len() * (values.len() + 1) > INNER_REPLICAS_MAX {
            let block = block.entry().ulid;
            let text = format!(
                "too many values of a replica label: label={name} block={block} limit={INNER_REPLICAS_MAX}"
            );
            return Err(StoreError::new(ErrorKind::Limit, text));
        }
        let before = std::mem::take(&mut replicas);
        for value in std::iter::once(String::new()).chain(values) {
            for (key, matchers) in &before {
                let (mut key, mut matchers) = (key.clone(), matchers.clone());
                matchers.push(Matcher::equal(name.clone(), value.clone()));
                key.insert(name.clone(), value.clone());
                replicas.push((key, matchers));
            }
        }
    }
    let names = external.replica_names();
    let key = |inner: &BTreeMap<String, String>| {
        let outer = |name: &String| external.replica_value(name).map(str::to_owned);
        names.iter().map(|n| outer(n).or_else(|| inner.get(n).cloned()).unwrap_or_default()).collect()
    };
    Ok(replicas.into_iter().map(|(inner, matchers)| (key(&inner), matchers)).collect())
}
