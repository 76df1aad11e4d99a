//! Memory of a query's budget that its reads hold, and where they are counted.

use std::sync::Arc;

use pyrrha_model::StoreError;
use pyrrha_model::contract::{Fetched, MemoryBudget, QueryContext};

/// Bytes of a query's budget, given back when this drops.
#[derive(Debug)]
pub(super) struct Reserved {
    budget: MemoryBudget,
    fetched: Arc<Fetched>,
    bytes: usize,
}

impl Reserved {
    pub(super) fn new(ctx: &QueryContext, bytes: u64) -> Result<Self, StoreError> {
        let mut reserved = Self { budget: ctx.budget.clone(), fetched: ctx.fetched.clone(), bytes: 0 };
        reserved.grow(bytes)?;
        Ok(reserved)
    }

    /// Where what is fetched is counted.
    pub(super) fn fetched(&self) -> &Arc<Fetched> {
        &self.fetched
    }

    /// Reserves more.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), StoreError> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.budget.reserve(bytes)?;
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }

    /// Gives some back.
    pub(super) fn shrink(&mut self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.bytes);
        self.bytes -= bytes;
        self.budget.release(bytes);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}
