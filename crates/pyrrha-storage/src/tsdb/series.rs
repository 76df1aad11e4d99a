//! The series of several sources, one after another, decoded.

use pyrrha_encoding::decode_stored;
use pyrrha_model::contract::{QueryContext, Queryable, SelectHints, Value};
use pyrrha_model::{ErrorKind, Labels, Matcher, StoreError, TimeRange, Timestamp};

use crate::compact::SeriesMerge;

/// A stored sample: start timestamp (0: not known), time, value.
pub type StoredSample = (Timestamp, Timestamp, Value);

/// Calls `visit` with each series that satisfies one of the matcher sets (all series if there is
/// none) and has samples in `range`, in label order, with those samples, each time once. Memory is
/// one series at a time, and the sources' own.
pub fn visit_series<E: From<StoreError>>(
    ctx: &QueryContext,
    sources: &[&dyn Queryable],
    matcher_sets: &[Vec<Matcher>],
    range: TimeRange,
    mut visit: impl FnMut(&Labels, &[StoredSample]) -> Result<(), E>,
) -> Result<(), E> {
    let every = [Vec::new()];
    let matcher_sets = if matcher_sets.is_empty() { &every } else { matcher_sets };
    let mut sets = Vec::new();
    for source in sources {
        for matchers in matcher_sets {
            sets.push(source.select(ctx, matchers, range, &SelectHints::default())?);
        }
    }
    let mut merge = SeriesMerge::new(sets, ctx)?;
    while let Some((labels, entry)) = merge.next_series()? {
        ctx.cancel.check()?;
        let samples = decode_stored(&entry, range).map_err(|source| {
            StoreError::caused(ErrorKind::Corrupt, format!("chunk cannot be decoded series={labels}"), source)
        })?;
        if !samples.is_empty() {
            visit(&labels, &samples)?;
        }
    }
    Ok(())
}
