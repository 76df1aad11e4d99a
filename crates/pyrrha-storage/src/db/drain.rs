//! Drains a log that is larger than memory into blocks while it is replayed.
//!
//! A start takes it that whatever came in order for the range of a block is in the block. So a range is
//! cut only once the rest of the log has nothing in order for it: when memory runs out for the first
//! time, a *survey* reads on for the last segment that each range occurs in. Blocks are cut between two
//! segments, because a segment defines its series anew, and those that have nothing left go.

use std::collections::{BTreeMap, HashMap};

use pyrrha_model::{TenantId, Timestamp};

use super::Shared;
use super::replay::Replayer;
use crate::error::StorageError;
use crate::head::Cut;
use crate::wal::{LogBatch, LogPosition, OldLog, Replay, ReplaySink};

/// What draining has come to.
#[derive(Default)]
pub(super) struct Drain {
    knowledge: Knowledge,
    /// The segment before which memory ran out.
    due: Option<u64>,
    /// It was looked at before this segment.
    looked: Option<u64>,
}

/// What is known of the rest of the log.
#[derive(Default)]
enum Knowledge {
    #[default]
    Nothing,
    Reading(Box<Replay>, Survey),
    Known(Survey),
    /// The disk refused to give a part: nothing can be said of it.
    Hopeless,
}

/// The last segment in which each range occurs, in order.
pub(super) struct Survey {
    range_ms: i64,
    last: HashMap<TenantId, BTreeMap<Timestamp, u64>>,
}

impl Survey {
    /// Whether the log has nothing for the range from this segment on.
    fn is_over(&self, tenant: &TenantId, start: Timestamp, segment: u64) -> bool {
        self.last.get(tenant).and_then(|ranges| ranges.get(&start)).is_none_or(|&last| last < segment)
    }
}

impl ReplaySink for Survey {
    type Error = std::convert::Infallible;

    fn tenant(&mut self, _: &TenantId) -> Result<(), Self::Error> {
        Ok(())
    }

    fn series(&mut self, _: u32, _: &[(&str, &str)]) {}

    fn batch(&mut self, position: LogPosition, batch: LogBatch) {
        let ranges = self.last.entry(batch.tenant).or_default();
        let mut before = None;
        for t in batch.times.iter().copied().chain(batch.histograms.iter().map(|h| h.t)) {
            let start = t.div_euclid(self.range_ms) * self.range_ms;
            if before != Some(start) {
                ranges.insert(start, position.segment);
                before = Some(start);
            }
        }
    }
}

impl Drain {
    /// Between two segments, with too little memory: reads ahead a bit, or cuts. False if there is
    /// nothing to do before replay goes on.
    pub(super) fn step(
        &mut self,
        shared: &Shared,
        log: &OldLog,
        replay: &Replay,
        replayer: &mut Replayer,
    ) -> bool {
        let Some(next) = replay.next_segment().filter(|next| self.looked != Some(*next)) else {
            return false;
        };
        if self.due != Some(next) {
            if !shared.heads_exceed_budget() {
                self.looked = Some(next);
                return false;
            }
            self.due = Some(next);
        }
        match std::mem::take(&mut self.knowledge) {
            Knowledge::Nothing => {
                tracing::info!(
                    segment = next,
                    "the log is larger than the memory for heads, it is drained into blocks"
                );
                let from = LogPosition { segment: next, offset: 0 };
                let survey = Survey { range_ms: shared.config.block_range_ms.max(1), last: HashMap::new() };
                self.knowledge = Knowledge::Reading(Box::new(log.survey(from)), survey);
            }
            Knowledge::Reading(mut reading, mut survey) => {
                let Ok(more) = reading.step(&mut survey);
                self.knowledge = match more {
                    true => Knowledge::Reading(reading, survey),
                    false if is_unreadable(&reading) => Knowledge::Hopeless,
                    false => Knowledge::Known(survey),
                };
            }
            Knowledge::Known(survey) if !is_unreadable(replay) => {
                if let Err(error) = shared.drain(|tenant, start| survey.is_over(tenant, start, next)) {
                    shared.metrics.cuts_failed.add(1);
                    tracing::warn!(%error, "the log could not be drained, memory is exceeded for now");
                }
                replayer.drained();
                self.looked = Some(next);
                self.knowledge = Knowledge::Known(survey);
            }
            Knowledge::Known(_) | Knowledge::Hopeless => {
                self.looked = Some(next);
                self.knowledge = Knowledge::Hopeless;
            }
        }
        true
    }
}

/// Whether the disk refused to give a part of the log: another start may find samples in it.
fn is_unreadable(replay: &Replay) -> bool {
    replay.report().unreadable_count > 0
}

impl Shared {
    /// Whether heads take more memory than they may. Those that may not be cut in this run do not count: what
    /// the others give would not make up for them.
    pub(super) fn heads_exceed_budget(&self) -> bool {
        let budget = self.config.head_memory_bytes;
        budget > 0 && self.head_memory() > budget
    }

    /// Bytes of the heads that may be cut which are not in mapped files, about.
    fn head_memory(&self) -> u64 {
        let tenants = self.tenants.all();
        let cuttable = tenants.iter().filter(|tenant| self.knows_deletes(tenant));
        let heads: usize = cuttable.map(|tenant| tenant.head.bytes().0).sum();
        heads as u64 + self.metrics.side_head_bytes.get()
    }

    /// Makes blocks of what `is_over`, oldest first, until memory suffices.
    fn drain(&self, is_over: impl Fn(&TenantId, Timestamp) -> bool) -> Result<(), StorageError> {
        let tenants = self.tenants.all();
        for tenant in &tenants {
            self.write_head_chunks(tenant, false)?;
        }
        let mut left: Vec<Cut> = Vec::new();
        for tenant in &tenants {
            let hidden = tenant.view.read().head.cut.clone();
            left.extend(tenant.head.drainable(&hidden, |start| is_over(&tenant.head.tenant, start)));
            for cut in left.drain(..) {
                if !self.heads_exceed_budget() {
                    return Ok(());
                }
                self.cut_replayed(tenant, cut)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
