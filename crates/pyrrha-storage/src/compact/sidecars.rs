//! Merges the sidecar files of blocks: exemplars series by series, metadata as a whole.

use std::collections::BTreeMap;

use pyrrha_model::contract::{Exemplars, QueryContext};
use pyrrha_model::{Labels, StoreError, TimeRange};

use crate::block::{
    Block, BlockMeta, BlockWriter, ExemplarFile, ExemplarSeries, MetadataFile, tidy_exemplars,
};

/// What lies beside the samples of an input.
pub(crate) struct Sidecars<'a> {
    /// The block and the end of its range: of metadata the newest block's stays.
    pub(crate) meta: &'a BlockMeta,
    pub(crate) exemplars: Option<&'a ExemplarFile>,
    pub(crate) metadata: Option<&'a MetadataFile>,
}

impl<'a> Sidecars<'a> {
    /// Those of a block on a disk.
    pub(crate) fn of(block: &'a Block) -> Self {
        Self {
            meta: block.meta(),
            exemplars: readable(block.exemplar_file()).flatten(),
            metadata: readable(block.metadata_file()).flatten(),
        }
    }
}

/// Writes the sidecars of `inputs`, which are in the order of their ids, into a block: of exemplars those of
/// series that are `wanted`. Of a damaged file what comes before the damage is kept: exemplars do not hold up
/// samples.
pub(crate) fn merge(
    writer: &mut BlockWriter,
    inputs: &[Sidecars<'_>],
    wanted: &dyn Fn(&Labels) -> bool,
    ctx: &QueryContext,
) -> Result<(), StoreError> {
    let files = inputs.iter().filter_map(|input| input.exemplars);
    let merge = ExemplarMerge { ctx, inputs: files.map(Input::new).collect() };
    writer.write_exemplars(merge.filter(|found| found.as_ref().map_or(true, |e| wanted(&e.series))))?;
    let mut newest: Vec<&Sidecars<'_>> = inputs.iter().collect();
    newest.sort_by_key(|b| (b.meta.max_time, b.meta.ulid));
    let mut families = BTreeMap::new();
    for file in newest.iter().rev().filter_map(|input| input.metadata) {
        readable(file.collect(None, &mut families));
    }
    Ok(writer.write_metadata(families.iter().map(|(name, m)| (name.as_str(), m)))?)
}

pub(crate) fn readable<T, E: std::fmt::Display>(result: Result<T, E>) -> Option<T> {
    result.inspect_err(|error| tracing::error!(%error, "sidecar is damaged and not all of it is merged")).ok()
}

/// Exemplar files as one: each series once, its exemplars by time, each once.
struct ExemplarMerge<'a> {
    ctx: &'a QueryContext,
    inputs: Vec<Input<'a>>,
}

struct Input<'a> {
    series: ExemplarSeries<'a>,
    current: Option<Exemplars>,
}

impl<'a> Input<'a> {
    fn new(file: &'a ExemplarFile) -> Self {
        let mut input = Self { series: file.series(&[], TimeRange::ALL), current: None };
        input.advance();
        input
    }

    fn advance(&mut self) {
        self.current = self.series.next().and_then(readable);
    }
}

impl ExemplarMerge<'_> {
    fn take(&mut self) -> Result<Option<Exemplars>, StoreError> {
        self.ctx.cancel.check()?;
        let least = self.inputs.iter().filter_map(|input| input.current.as_ref().map(|e| &e.series)).min();
        let Some(series) = least.cloned() else { return Ok(None) };
        let mut exemplars = Vec::new();
        for input in &mut self.inputs {
            // A series may go on in the next entry of its file.
            while let Some(entry) = input.current.take_if(|e| e.series == series) {
                exemplars.extend(entry.exemplars);
                input.advance();
            }
        }
        tidy_exemplars(&mut exemplars);
        Ok(Some(Exemplars { series, exemplars }))
    }
}

impl Iterator for ExemplarMerge<'_> {
    type Item = Result<Exemplars, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take().transpose()
    }
}
