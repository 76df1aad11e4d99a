//! Deletes as a head knows them: which stand, and what of its samples they hide (decision 23).
//!
//! A delete hides, of each matching series, the samples up to the last one that was admitted before
//! it: what comes later is newer, and is shown. The list of series with those times is in the log,
//! so that a restart hides the same. Where what it hides has gone to blocks an older sample may be
//! taken after it: it is shown, and each such place is remembered, for a restart begins with the list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use pyrrha_index::{RoaringBitmap, postings_for_matchers};
use pyrrha_model::contract::{CancelToken, Delete, DeleteId};
use pyrrha_model::{ErrorKind, StoreError, TimeRange, Timestamp};
use smallvec::SmallVec;

use super::admission::add_range;
use super::data::HeadData;
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
    /// The last of those times. What is newer is not looked for.
    until: Timestamp,
    /// Samples before that which came later than the delete.
    pub(super) shown: BTreeSet<(u32, Timestamp)>,
    /// Samples up to this place in the log are known to be from before the delete.
    since: LogPosition,
    /// Where the log stood when nothing was left that it hides. A start before that would find some.
    idle_at: Option<LogPosition>,
    /// No checkpoint is from before that.
    no_checkpoint: bool,
    /// Nor from before the delete itself: each that has samples which it hides says so.
    in_checkpoints: bool,
}

impl Standing {
    fn hide(&mut self, hidden: Vec<(u32, Timestamp)>) {
        self.until = hidden.iter().map(|h| h.1).max().unwrap_or(Timestamp::MIN);
        self.hidden = hidden;
    }

    fn hides(&self, series: u32, t: Timestamp) -> bool {
        t <= self.until && self.of(series).is_some_and(|range| range.contains(t))
    }

    fn of(&self, series: u32) -> Option<TimeRange> {
        let at = self.hidden.binary_search_by_key(&series, |h| h.0).ok()?;
        let range = TimeRange::new(self.delete.range.start, self.hidden[at].1);
        (!range.is_empty()).then_some(range)
    }

    /// What is hidden of a series, without what came later.
    fn parts(&self, series: u32) -> impl Iterator<Item = TimeRange> {
        let whole = self.of(series);
        let shown = self.shown.range((series, Timestamp::MIN)..=(series, Timestamp::MAX)).map(|(_, t)| *t);
        let ends = shown.chain([Timestamp::MAX]);
        ends.scan(whole, |rest, t| {
            let Some(range) = rest else { return None };
            let before = TimeRange::new(range.start, range.end.min(t.saturating_sub(1)));
            let before = if t == Timestamp::MAX { *range } else { before };
            range.start = range.start.max(t.saturating_add(1));
            Some(before)
        })
        .filter(|range| !range.is_empty())
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
                let standing = self.stand(delete, position);
                standing.hide(hidden);
                standing.since = LogPosition::default();
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

    /// What a checkpoint says. It may be older than its samples: those up to `position` are from before.
    pub(super) fn restore(&mut self, delete: Delete, hidden: Vec<(u32, Timestamp)>, position: LogPosition) {
        self.apply(&LogDelete::Add { delete: delete.clone(), hidden }, position);
        self.stand(&delete, position).since = position;
    }

    pub(super) fn restore_shown(&mut self, id: DeleteId, series: u32, t: Timestamp) {
        self.standing.get_mut(&id).into_iter().for_each(|s| s.shown.extend([(series, t)]));
    }

    fn stand(&mut self, delete: &Delete, position: LogPosition) -> &mut Standing {
        self.last = self.last.max(delete.id);
        let new = || Standing {
            delete: delete.clone(),
            logged_at: position,
            hidden: Vec::new(),
            until: Timestamp::MIN,
            shown: BTreeSet::new(),
            since: position,
            idle_at: None,
            no_checkpoint: false,
            in_checkpoints: false,
        };
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
            standing.parts(series).for_each(|range| add_range(&mut found, range));
        }
        found.into()
    }

    /// Remembers which samples of a batch came after a delete into what it hides.
    pub(super) fn show(&mut self, batch: &LogBatch, position: LogPosition) {
        let mut hiding: SmallVec<[&mut Standing; 8]> =
            self.standing.values_mut().filter(|s| !s.hidden.is_empty() && s.since < position).collect();
        let Some(until) = hiding.iter().map(|s| s.until).max() else { return };
        let floats = batch.refs.iter().copied().zip(batch.times.iter().copied());
        let others = batch.histograms.iter().chain(&batch.late).map(|h| (h.series, h.t));
        for (series, t) in floats.chain(others).filter(|&(series, t)| t <= until && series != u32::MAX) {
            for standing in hiding.iter_mut().filter(|s| s.hides(series, t)) {
                standing.shown.insert((series, t));
            }
        }
    }

    /// Whether a delete hides what a series has at `t`, so that a late sample there would be hidden with
    /// it.
    pub(super) fn hides(&self, series: u32, t: Timestamp) -> bool {
        self.standing.values().any(|s| s.hides(series, t) && !s.shown.contains(&(series, t)))
    }

    /// What each delete that can be undone hides of a series.
    pub(super) fn undoable(&self, series: u32) -> Vec<(DeleteId, TimeRange)> {
        let undoable = self.standing.values().filter(|s| !s.delete.is_final);
        undoable.flat_map(|s| s.parts(series).map(|range| (s.delete.id, range))).collect()
    }

    /// Forgets what is hidden before `oldest`, the first time that the head still has.
    pub(super) fn forget_before(&mut self, oldest: Timestamp) {
        for standing in self.standing.values_mut() {
            let mut hidden = std::mem::take(&mut standing.hidden);
            hidden.retain(|h| h.1 >= oldest);
            hidden.shrink_to_fit();
            standing.hide(hidden);
            if standing.hidden.is_empty() {
                standing.shown.clear();
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let bytes = |s: &Standing| (s.hidden.capacity() + 2 * s.shown.len()) * size_of::<(u32, Timestamp)>();
        self.standing.values().map(|s| bytes(s) + 256).sum()
    }
}

/// Whether all of `range` is deleted.
pub(super) fn covers(deleted: &[TimeRange], range: TimeRange) -> bool {
    deleted.iter().any(|d| d.start <= range.start && range.end <= d.end)
}

impl HeadData {
    /// A replay may bring back what was in a block when the delete was made, and is in none any more, or
    /// once more. All that is here by now came before the delete, or comes again behind it.
    pub(super) fn hide_also(&mut self, change: &LogDelete, series: &RoaringBitmap) {
        let LogDelete::Add { delete, .. } = change else { return };
        let mut ends = Vec::new();
        for series in series.iter().filter(|s| (*s as usize) < self.hot.len()) {
            let newest = self.hot[series as usize].newest.t;
            let end = self.late.newest_of(series).map_or(newest, |late| late.max(newest));
            let end = end.min(delete.range.end);
            if end != Timestamp::MIN && end >= delete.range.start {
                ends.push((series, end));
            }
        }
        let Some(standing) = self.deletes.standing.get_mut(&delete.id) else { return };
        let mut hidden: BTreeMap<u32, Timestamp> = standing.hidden.iter().copied().collect();
        for (series, end) in ends {
            let known = hidden.entry(series).or_insert(end);
            *known = end.max(*known);
        }
        standing.hide(hidden.into_iter().collect());
    }
}

impl Head {
    /// The deletes that stand, oldest first, and the greatest id that was ever given.
    pub(crate) fn standing_deletes(&self) -> (Vec<Delete>, DeleteId) {
        let data = self.data.read();
        (data.deletes.iter().map(|s| s.delete.clone()).collect(), data.deletes.last)
    }

    /// Whether a delete stands.
    pub(crate) fn has_deletes(&self) -> bool {
        !self.data.read().deletes.standing.is_empty()
    }

    /// The same, without those that nobody can undo and that hide nothing any more.
    pub(crate) fn effective_deletes(&self) -> Vec<Delete> {
        let data = self.data.read();
        let effective = data.deletes.iter().filter(|s| !s.delete.is_final || s.idle_at.is_none());
        effective.map(|s| s.delete.clone()).collect()
    }

    /// Notes whether something is left that a delete hides, in a log that stands at `now`. True if
    /// nothing is, and no start can find some: no checkpoint has any, nor has the log, which begins at
    /// `from`.
    pub(crate) fn is_done(&self, id: DeleteId, left: bool, now: LogPosition, from: LogPosition) -> bool {
        let mut data = self.data.write();
        let Some(standing) = data.deletes.standing.get_mut(&id) else { return false };
        if left {
            (standing.idle_at, standing.no_checkpoint) = (None, false);
            return false;
        }
        let since = *standing.idle_at.get_or_insert(now);
        standing.no_checkpoint && since.segment < from.segment
    }

    /// Whether a delete hides something that the head has.
    pub(crate) fn is_hidden_by(&self, id: DeleteId) -> bool {
        self.data.read().deletes.standing.get(&id).is_some_and(|s| !s.hidden.is_empty())
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

    /// The series that a delete speaks of, if it is a new one.
    pub(super) fn series_of(&self, change: &LogDelete) -> RoaringBitmap {
        match change {
            LogDelete::Add { delete, .. } => self.series_of_sets(delete).unwrap_or_else(|error| {
                // What the list of the delete names is hidden all the same.
                tracing::error!(tenant = %self.tenant, delete = %delete.id, %error, "series of a delete cannot be looked up, samples of blocks that the log brought back may be shown");
                RoaringBitmap::new()
            }),
            LogDelete::Stands(_) | LogDelete::Undo(_) | LogDelete::Final(_) | LogDelete::Done(_) => {
                RoaringBitmap::new()
            }
        }
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

    /// The log from here on has lists of what is hidden of samples that some checkpoint has.
    pub(crate) fn deletes_logged_from(&self) -> Option<LogPosition> {
        let data = self.data.read();
        data.deletes.iter().filter(|s| !s.in_checkpoints).map(|s| s.logged_at).min()
    }

    /// Forgets what ended before `position`: no checkpoint is from before that.
    pub(crate) fn forget_ended_deletes(&self, position: LogPosition) {
        let deletes = &mut self.data.write().deletes;
        deletes.ended.retain(|_, at| *at >= position);
        for standing in deletes.standing.values_mut() {
            standing.no_checkpoint |= standing.idle_at.is_some_and(|at| at < position);
            standing.in_checkpoints |= standing.logged_at < position;
        }
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
