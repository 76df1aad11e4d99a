//! Brings heads back from the log.

use std::collections::HashMap;
use std::sync::Arc;

use pyrrha_model::contract::Value;
use pyrrha_model::{TenantId, TimeRange, Timestamp};

use super::Shared;
use super::read_ahead::{Definitions, PacketSink};
use super::tenant::Tenant;
use super::unread::Missed;
use crate::error::StorageError;
use crate::head::is_cut;
use crate::wal::{LogBatch, LogDelete, LogHistogram, LogPosition, ReplaySink};

const UNKNOWN: u32 = u32::MAX;
/// The log's references are dense; a damaged one must not make the table huge.
const WIDEST_GAP: usize = 1 << 24;
/// Samples after which sealed chunks of a tenant move from memory to files.
const WRITE_CHUNKS_EVERY: u64 = 4 << 20;

/// Takes what the log has, in order.
pub(crate) struct Replayer {
    shared: Arc<Shared>,
    missed: Missed,
    tenants: HashMap<TenantId, Replayed>,
    /// The tenant that the next entries belong to, taken out of `tenants`.
    current: Option<(TenantId, Replayed)>,
}

/// A tenant being replayed.
struct Replayed {
    tenant: Arc<Tenant>,
    /// References of the log as references of the head.
    refs: Vec<u32>,
    /// Ranges that are in blocks.
    cut: Vec<TimeRange>,
    /// Samples since sealed chunks were written to files.
    samples: u64,
}

impl Replayer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let missed = shared.missed();
        Self { shared, missed, tenants: HashMap::new(), current: None }
    }

    /// Ranges have become blocks, and series that had nothing else are gone: the next segment defines
    /// again what it uses.
    pub(super) fn drained(&mut self) {
        let current = self.current.iter_mut().map(|(_, replayed)| replayed);
        for replayed in self.tenants.values_mut().chain(current) {
            replayed.refs.clear();
            replayed.cut = replayed.tenant.head.cut_ranges();
        }
    }

    /// Keeps the memory of a replayed head what that of a running one is.
    fn write_chunks(&mut self) {
        let Some((id, replayed)) = &mut self.current else { return };
        if replayed.samples < WRITE_CHUNKS_EVERY {
            return;
        }
        replayed.samples = 0;
        if let Err(error) = self.shared.write_head_chunks(&replayed.tenant, false) {
            tracing::warn!(tenant = %id, %error, "head chunks stay in memory for now");
        }
    }
}

impl ReplaySink for Replayer {
    type Error = StorageError;

    fn tenant(&mut self, id: &TenantId) -> Result<(), StorageError> {
        if self.current.as_ref().is_some_and(|(current, _)| current == id) {
            return Ok(());
        }
        if let Some((id, replayed)) = self.current.take() {
            self.tenants.insert(id, replayed);
        }
        let replayed = match self.tenants.remove(id) {
            Some(replayed) => replayed,
            None => {
                let tenant = self.shared.tenant(id)?;
                let cut = tenant.head.cut_ranges();
                Replayed { tenant, refs: Vec::new(), cut, samples: 0 }
            }
        };
        self.current = Some((id.clone(), replayed));
        Ok(())
    }

    fn series(&mut self, series: u32, labels: &[(&str, &str)]) {
        let Some((_, replayed)) = &mut self.current else { return };
        if let Some(known) = known_as(&mut replayed.refs, series, labels.is_empty()) {
            *known = replayed.tenant.head.recover_series(labels);
        }
    }

    fn batch(&mut self, position: LogPosition, batch: LogBatch) {
        if let Some((_, replayed)) = &mut self.current {
            replayed.samples += batch.samples() as u64;
            replayed.apply(batch, position, &self.missed);
        }
        self.write_chunks();
    }
}

impl PacketSink for Replayer {
    fn define(&mut self, definitions: &Definitions) {
        let Some((_, replayed)) = &mut self.current else { return };
        let mut recovering = replayed.tenant.head.recover_definitions(definitions.symbols());
        for (series, labels) in definitions.series() {
            if let Some(known) = known_as(&mut replayed.refs, series, labels.is_empty()) {
                *known = recovering.series(*known, labels);
            }
        }
    }
}

/// What a reference of the log is known as; `None` if it cannot have been defined, or without labels: that
/// comes from damage that no checksum found.
fn known_as(refs: &mut Vec<u32>, series: u32, unlabelled: bool) -> Option<&mut u32> {
    let index = series as usize;
    if unlabelled || index >= refs.len() && index - refs.len() > WIDEST_GAP {
        return None;
    }
    if index >= refs.len() {
        refs.resize(index + 1, UNKNOWN);
    }
    refs.get_mut(index)
}

impl Replayed {
    fn apply(&self, mut batch: LogBatch, position: LogPosition, missed: &Missed) {
        let head_ref = |series: &mut u32| {
            *series = self.refs.get(*series as usize).copied().unwrap_or(UNKNOWN);
        };
        batch.refs.iter_mut().for_each(head_ref);
        batch.histograms.iter_mut().chain(&mut batch.late).for_each(|h| head_ref(&mut h.series));
        batch.exemplars.iter_mut().for_each(|(series, _)| head_ref(series));
        for hidden in batch.deletes.iter_mut().filter_map(LogDelete::hidden_mut) {
            hidden.iter_mut().for_each(|(series, _)| head_ref(series));
        }
        if missed.has(position.segment) {
            let covered = missed.covered(position.segment, &batch.tenant);
            make_late(&mut batch, |t| is_cut(&self.cut, t) && !is_cut(&covered, t));
        }
        self.tenant.head.recover(&mut batch, position, &self.cut);
    }
}

/// Makes samples late that came in order, where `is_late` says so.
fn make_late(batch: &mut LogBatch, is_late: impl Fn(Timestamp) -> bool) {
    for (i, &t) in batch.times.iter().enumerate() {
        if is_late(t) {
            let series = std::mem::replace(&mut batch.refs[i], UNKNOWN);
            let start = batch.starts.get(i).copied().unwrap_or(0);
            batch.late.push(LogHistogram { series, t, start, value: Value::Float(batch.values[i]) });
        }
    }
    let (late, rest): (Vec<_>, Vec<_>) =
        std::mem::take(&mut batch.histograms).into_iter().partition(|h| is_late(h.t));
    batch.histograms = rest;
    batch.late.extend(late);
}

#[cfg(test)]
mod tests;
