//! Series entries of a block in the bucket, some hundred at a time.

use pyrrha_index::{RoaringBitmap, SeriesRow};
use pyrrha_model::contract::QueryContext;
use pyrrha_model::{Label, Labels, StoreError};

use super::block::{BucketBlock, Opened};
use super::budget::Reserved;

/// Series entries asked for at once.
const AT_ONCE: usize = 256;
/// Bytes that an entry is assumed to take; what is longer is asked for again.
const GUESS: u64 = 1024;

/// Reads the entries of a set of series in order.
pub(super) struct Rows<'b> {
    block: &'b BucketBlock,
    opened: &'b Opened,
    series: Box<dyn Iterator<Item = u32> + Send>,
    guess: u64,
    at_once: usize,
}

impl<'b> Rows<'b> {
    pub(super) fn new(block: &'b BucketBlock, opened: &'b Opened, series: RoaringBitmap) -> Self {
        Self::in_order(block, opened, series.into_iter())
    }

    /// Reads the entries of series in an order of its own.
    pub(super) fn in_order(
        block: &'b BucketBlock,
        opened: &'b Opened,
        series: impl Iterator<Item = u32> + Send + 'static,
    ) -> Self {
        Self { block, opened, series: Box::new(series), guess: GUESS, at_once: AT_ONCE }
    }

    /// Reads no more than so many at once.
    pub(super) fn at_once(self, at_once: usize) -> Self {
        Self { at_once: at_once.clamp(1, AT_ONCE), ..self }
    }

    /// The next series with their entries; none at the end.
    pub(super) async fn next(&mut self, ctx: &QueryContext) -> Result<Vec<(u32, SeriesRow)>, StoreError> {
        ctx.cancel.check()?;
        let blame = |e| self.block.blame(e);
        let header = &self.opened.header;
        let wanted: Vec<u32> = self.series.by_ref().take(self.at_once).collect();
        let mut found: Vec<(u32, SeriesRow)> = wanted.iter().map(|&s| (s, SeriesRow::default())).collect();
        // Place in `found`, and how many bytes to ask for.
        let mut open: Vec<(usize, u64)> = (0..found.len()).map(|i| (i, self.guess)).collect();
        while !open.is_empty() {
            let mut ranges = Vec::with_capacity(open.len());
            for &(i, len) in &open {
                ranges.push(header.series_range(found[i].0, len).map_err(blame)?);
            }
            let mut reserved = Reserved::new(ctx, 0)?;
            let entries = self.opened.index.read(&ranges, &mut reserved).await?;
            let mut longer = Vec::new();
            for ((i, len), bytes) in open.into_iter().zip(entries) {
                let (series, row) = &mut found[i];
                if let Some(needed) = header.decode_series(*series, &bytes, row).map_err(blame)? {
                    if needed <= len {
                        return Err(self.block.corrupt("index is cut short".to_owned()));
                    }
                    longer.push((i, needed));
                }
            }
            if let Some(&(_, longest)) = longer.iter().max_by_key(|(_, len)| *len) {
                self.guess = self.guess.max(longest.min(64 << 10));
            }
            open = longer;
        }
        Ok(found)
    }

    /// The labels of an entry as strings.
    pub(super) fn labels(&self, row: &SeriesRow) -> Result<Labels, StoreError> {
        labels(self.block, self.opened, row)
    }
}

/// The labels of an entry as strings.
pub(super) fn labels(block: &BucketBlock, opened: &Opened, row: &SeriesRow) -> Result<Labels, StoreError> {
    let mut labels = Vec::with_capacity(row.labels.len());
    for &(name, value) in &row.labels {
        let text = |reference| opened.header.symbol(reference).map_err(|e| block.blame(e));
        let (name, value) = (text(name)?.to_owned(), text(value)?.to_owned());
        if !value.is_empty() {
            labels.push(Label { name, value });
        }
    }
    Ok(Labels::from_sorted(labels))
}
