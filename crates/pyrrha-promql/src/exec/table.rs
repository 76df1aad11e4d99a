//! What operators hold, charged to the query's budgets before it grows.

use crate::error::QueryError;
use crate::exec::Exec;
use crate::value::Series;

/// Bytes and samples that something holds; given back when it is dropped.
pub(crate) struct Charge<'a> {
    exec: &'a Exec<'a>,
    bytes: usize,
    samples: usize,
}

impl<'a> Charge<'a> {
    pub(crate) fn new(exec: &'a Exec<'a>) -> Self {
        Self { exec, bytes: 0, samples: 0 }
    }

    /// Counts more, or fails and leaves what was counted.
    pub(crate) fn grow(&mut self, bytes: usize, samples: usize) -> Result<(), QueryError> {
        self.exec.ctx.budget.reserve(bytes).map_err(QueryError::Stopped)?;
        self.bytes += bytes;
        self.exec.hold(samples)?;
        self.samples += samples;
        Ok(())
    }

    /// Takes over what `other` counts.
    pub(crate) fn absorb(&mut self, mut other: Charge<'a>) {
        self.bytes += std::mem::take(&mut other.bytes);
        self.samples += std::mem::take(&mut other.samples);
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.exec.ctx.budget.release(self.bytes);
        self.exec.let_go(self.samples);
    }
}

/// An instant vector over all steps, held in memory.
pub(crate) struct Table<'a> {
    /// Sorted by labels, unless the operator that made it has an order of its own.
    pub(crate) series: Vec<Series>,
    pub(crate) charge: Charge<'a>,
}

impl<'a> Table<'a> {
    pub(crate) fn empty(exec: &'a Exec<'a>) -> Self {
        Self { series: Vec::new(), charge: Charge::new(exec) }
    }

    /// Adds a series.
    pub(crate) fn push(&mut self, series: Series) -> Result<(), QueryError> {
        let (bytes, samples) = footprint(std::slice::from_ref(&series));
        self.charge.grow(bytes, samples)?;
        self.series.push(series);
        Ok(())
    }

    /// A table of series that are charged now.
    pub(crate) fn charged(exec: &'a Exec<'a>, series: Vec<Series>) -> Result<Self, QueryError> {
        let mut charge = Charge::new(exec);
        let (bytes, samples) = footprint(&series);
        charge.grow(bytes, samples)?;
        Ok(Self { series, charge })
    }
}

/// Bytes and samples of some series.
pub(super) fn footprint(series: &[Series]) -> (usize, usize) {
    series.iter().fold((0, 0), |(bytes, samples), s| {
        (
            bytes + size_of::<Series>() + s.labels.pairs().len() * 8 + 16 + s.column.bytes(),
            samples + s.column.weight(),
        )
    })
}
