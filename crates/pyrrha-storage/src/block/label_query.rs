//! Label names and values of a block's series that have samples in a part of its range.

use std::collections::HashSet;

use pyrrha_index::SeriesRow;
use pyrrha_model::contract::{LabelQuery, QueryContext};
use pyrrha_model::{StoreError, TimeRange};

use super::reader::Parts;

/// How many series are looked at between two looks at the cancel flag.
const CHECK_EVERY: u32 = 256;

impl Parts {
    /// Whether a query of `range` sees all of the block, so that its index alone can tell.
    pub(super) fn within(&self, range: TimeRange) -> bool {
        let own = self.meta.range();
        range.start <= own.start && own.end <= range.end
    }

    /// Names of the labels of the series that satisfy one of the matcher sets and have chunks in the
    /// query's range, sorted.
    pub(super) fn names_in(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<String>, StoreError> {
        let mut references = HashSet::new();
        self.visit(ctx, query, |row| {
            references.extend(row.labels.iter().map(|(name, _)| *name));
            Ok(())
        })?;
        self.texts(references)
    }

    /// Values of a label of those series, sorted.
    pub(super) fn values_in(
        &self,
        ctx: &QueryContext,
        name: &str,
        query: &LabelQuery,
    ) -> Result<Vec<String>, StoreError> {
        let mut references = HashSet::new();
        // Many series, few references of names: each is compared once.
        let (mut same, mut other) = (HashSet::new(), HashSet::new());
        self.visit(ctx, query, |row| {
            for &(label, value) in &row.labels {
                if !same.contains(&label) && !other.contains(&label) {
                    let text = self.index.symbol(label).map_err(|e| self.blame.index(e))?;
                    if text == name {
                        same.insert(label)
                    } else {
                        other.insert(label)
                    };
                }
                if same.contains(&label) {
                    references.insert(value);
                }
            }
            Ok(())
        })?;
        self.texts(references)
    }

    fn visit(
        &self,
        ctx: &QueryContext,
        query: &LabelQuery,
        mut found: impl FnMut(&SeriesRow) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let matching = self.matching_any(ctx, query)?;
        let mut row = SeriesRow::default();
        for (i, series) in (0u32..).zip(&matching) {
            if i.is_multiple_of(CHECK_EVERY) {
                ctx.cancel.check()?;
            }
            self.row(series, &mut row)?;
            if row.chunks.iter().any(|c| TimeRange::new(c.min_time, c.max_time).overlaps(&query.range)) {
                found(&row)?;
            }
        }
        Ok(())
    }

    fn texts(&self, references: HashSet<u32>) -> Result<Vec<String>, StoreError> {
        let mut texts = Vec::with_capacity(references.len());
        for reference in references {
            let text = self.index.symbol(reference).map_err(|e| self.blame.index(e))?;
            // A foreign index may spell an absent label as an empty value.
            if !text.is_empty() {
                texts.push(text.to_owned());
            }
        }
        texts.sort_unstable();
        Ok(texts)
    }
}
