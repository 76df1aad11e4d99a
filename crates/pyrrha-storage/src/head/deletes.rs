//! Deletes as a head knows them: which stand, and what of its samples they hide (decision 23).
//!
//! A delete hides, of each matching series, the samples up to the last one that was admitted before
//! it: what comes later is newer, and is shown. The list of series with those times is in the log,
//! so that a restart hides the same.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use pyrrha_index::{RoaringBitmap, postings_for_matchers};
use pyrrha_model::contract::{CancelToken, Delete, DeleteId};
use pyrrha_model::{ErrorKind, StoreError, TimeRange, Timestamp};
use smallvec::SmallVec;

use super::admission::add_range;
use super::{CommitLog, Head};
use crate::wal::{LogBatch, LogDelete, LogPosition, MAX_HIDDEN};

/// Deleted intervals of one series.
pub(crate) type Intervals = SmallVec<[TimeRange; 0]>;

/// The deletes that stand.
#[derive(Debug, Default)]
pub(crate) struct HeadDeletes {
    standing: BTreeMap<DeleteId, Standing>,
    /// Those that do no more, with the newest place in the log that says so: the checkpoint that a
    /// start begins with may be from before, and the log must then have it still.
    ended: BTreeMap<DeleteId, LogPosition>,
    /// The greatest id that was ever given.
    pub(super) last: DeleteId,
}

/// A delete that stands.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) delete: Delete,
    /// The newest place in the log that says so.
    pub(super) logged_at: LogPosition,
    /// By series: the time of the last sample that it hides.
    pub(super) hidden: Vec<(u32, Timestamp)>,
}

impl Standing {
    fn of(&self, series: u32) -> Option<TimeRange> {
        let at = self.hidden.binary_search_by_key(&series, |h| h.0).ok()?;
        let range = TimeRange::new(self.delete.range.start, self.hidden[at].1);
        (!range.is_empty()).then_some(range)
    }
}

impl HeadDeletes {
    /// Whether no delete hides anything here.
    pub(super) fn hides_nothing(&self) -> bool {
        self.standing.values().all(|s| s.hidden.is_empty())
    }

    /// Does what the log says. References of series that the head does not have are passed over.
    pub(super) fn apply(&mut self, change: &LogDelete, position: LogPosition) {
        match change {
            LogDelete::Add { delete, hidden } => {
                let mut hidden: Vec<_> = hidden.iter().copied().filter(|h| h.0 != u32::MAX).collect();
                hidden.sort_unstable();
                self.stand(delete, position).hidden = hidden;
            }
            LogDelete::Stands(delete) => drop(self.stand(delete, position)),
            LogDelete::Undo(id) | LogDelete::Done(id) => {
                self.last = self.last.max(*id);
                self.standing.remove(id);
                self.ended.insert(*id, position);
            }
            LogDelete::Final(id) => {
                if let Some(standing) = self.standing.get_mut(id) {
                    standing.delete.is_final = true;
                }
            }
        }
    }

    pub(super) fn stand(&mut self, delete: &Delete, position: LogPosition) -> &mut Standing {
        self.last = self.last.max(delete.id);
        let new = || Standing { delete: delete.clone(), logged_at: position, hidden: Vec::new() };
        let standing = self.standing.entry(delete.id).or_insert_with(new);
        standing.logged_at = position;
        standing.delete.is_final |= delete.is_final;
        standing
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Standing> {
        self.standing.values()
    }

    /// What deletes that satisfy `which` hide of a series: sorted, apart.
    pub(super) fn of(&self, series: u32, which: impl Fn(&Delete) -> bool) -> Intervals {
        let mut found = Vec::new();
        for standing in self.standing.values().filter(|s| which(&s.delete)) {
            if let Some(range) = standing.of(series) {
                add_range(&mut found, range);
            }
        }
        found.into()
    }

    /// Whether a delete hides what a series has at `t`, so that a late sample there would be hidden with
    /// it.
    pub(super) fn hides(&self, series: u32, t: Timestamp) -> bool {
        self.standing.values().filter_map(|s| s.of(series)).any(|range| range.contains(t))
    }

    /// What each delete that can be undone hides of a series.
    pub(super) fn undoable(&self, series: u32) -> Vec<(DeleteId, TimeRange)> {
        let undoable = self.standing.values().filter(|s| !s.delete.is_final);
        undoable.filter_map(|s| Some((s.delete.id, s.of(series)?))).collect()
    }

    /// Forgets what is hidden before `oldest`, the first time that the head still has.
    pub(super) fn forget_before(&mut self, oldest: Timestamp) {
        for standing in self.standing.values_mut() {
            standing.hidden.retain(|h| h.1 >= oldest);
            standing.hidden.shrink_to_fit();
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.standing.values().map(|s| s.hidden.capacity() * size_of::<(u32, Timestamp)>() + 256).sum()
    }
}

/// Whether all of `range` is deleted.
pub(super) fn covers(deleted: &[TimeRange], range: TimeRange) -> bool {
    deleted.iter().any(|d| d.start <= range.start && range.end <= d.end)
}

impl Head {
    /// The deletes that stand, oldest first, and the greatest id that was ever given.
    pub(crate) fn standing_deletes(&self) -> (Vec<Delete>, DeleteId) {
        let data = self.data.read();
        (data.deletes.iter().map(|s| s.delete.clone()).collect(), data.deletes.last)
    }

    /// Whether a delete hides something that the head has.
    pub(crate) fn is_hidden_by(&self, id: DeleteId) -> bool {
        self.data.read().deletes.iter().any(|s| s.delete.id == id && !s.hidden.is_empty())
    }

    /// Puts a delete into force: durable and honoured when it returns.
    pub(crate) fn delete(&self, delete: Delete, log: &dyn CommitLog) -> Result<(), StoreError> {
        // Under the lock no sample is admitted: those before are in the log before the delete.
        let admission = self.admission.lock();
        self.check_settled()?;
        let series = self.series_of_sets(&delete)?;
        let mut hidden = Vec::new();
        let data = self.data.read();
        for series in &series {
            let newest = admission.newest[series as usize].t;
            let end =
                data.late.newest_of(series).map_or(newest, |late| late.max(newest)).min(delete.range.end);
            if end != Timestamp::MIN && end >= delete.range.start {
                hidden.push((series, end));
            }
        }
        drop(data);
        if hidden.len() > MAX_HIDDEN {
            let text = format!("a delete of more than {MAX_HIDDEN} series, narrow its selectors");
            return Err(StoreError::new(ErrorKind::Limit, text));
        }
        let mut batch = LogBatch::new(self.tenant.clone());
        batch.deletes.push(LogDelete::Add { delete, hidden });
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        let pending = log.submit(batch).inspect_err(|_| {
            self.in_flight.fetch_sub(1, Ordering::AcqRel);
        })?;
        drop(admission);
        pending()
    }

    fn check_settled(&self) -> Result<(), StoreError> {
        if self.draining.load(Ordering::Acquire) {
            let text = "a log write failed and writes behind it are being settled, try again";
            return Err(StoreError::new(ErrorKind::Unavailable, text));
        }
        Ok(())
    }

    fn series_of_sets(&self, delete: &Delete) -> Result<RoaringBitmap, StoreError> {
        let directory = self.directory.read();
        let mut series = RoaringBitmap::new();
        for matchers in &delete.matcher_sets {
            series |= postings_for_matchers(&directory.index(), matchers, &CancelToken::default())?;
        }
        Ok(series)
    }

    /// Logs what happens to deletes that stand, and waits until it is so.
    pub(crate) fn change_deletes(
        &self,
        changes: Vec<LogDelete>,
        log: &dyn CommitLog,
    ) -> Result<(), StoreError> {
        let mut batch = LogBatch::new(self.tenant.clone());
        batch.deletes = changes;
        self.submit(batch, log)
    }

    /// Forgets what ended before `position`: no checkpoint is from before that.
    pub(crate) fn forget_ended_deletes(&self, position: LogPosition) {
        self.data.write().deletes.ended.retain(|_, at| *at >= position);
    }

    /// Logs the deletes that stand once more if the log has them only before `keep_from`. All
    /// samples before that are in blocks, so the log has none left that they hide. So too the end of
    /// those that a checkpoint may still know.
    pub(crate) fn log_deletes_again(
        &self,
        keep_from: LogPosition,
        log: &dyn CommitLog,
    ) -> Result<(), StoreError> {
        let old: Vec<LogDelete> = {
            let data = self.data.read();
            let stand = data.deletes.iter().filter(|s| s.logged_at < keep_from);
            let ended = data.deletes.ended.iter().filter(|(_, at)| **at < keep_from);
            let stand = stand.map(|s| LogDelete::Stands(s.delete.clone()));
            stand.chain(ended.map(|(id, _)| LogDelete::Done(*id))).collect()
        };
        if old.is_empty() { Ok(()) } else { self.change_deletes(old, log) }
    }
}
