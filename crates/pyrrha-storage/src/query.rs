//! Several sources of series as one.

use pyrrha_model::StoreError;
use pyrrha_model::contract::{SeriesBatch, SeriesSet};

/// No series.
pub(crate) struct EmptySet;

impl SeriesSet for EmptySet {
    fn next_batch(&mut self, _max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        batch.clear();
        Ok(false)
    }
}
