//! Recovery beside writes: the newest checkpoint, the log after it, then what came in meanwhile.
//!
//! ```text
//! waiting ─► restore: a tenant per step ─► replay: a record per step ─► switch: a batch per step ─► done
//! ```
//!
//! After a crash in the middle the next start finds the same checkpoint and the same log, and what was
//! acknowledged meanwhile behind it. Where the log is larger than the memory for it, replay makes
//! blocks of what it has read ([`super::drain`]), which the next start passes over. Where it fits, and threads
//! may be, another thread reads ([`super::read_ahead`]).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pyrrha_model::{ErrorKind, StoreError};

use super::Shared;
use super::drain::Drain;
use super::read_ahead::{Ahead, ReadAhead};
use super::replay::Replayer;
use super::tenant::Tenant;
use crate::error::StorageError;
use crate::wal::checkpoint::{Checkpoint, Checkpoints};
use crate::wal::{DamageReport, LogPosition, OldLog, Replay};

/// After the disk failed a step it is tried again this much later.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Replayed records between two looks at the progress.
const TELL_EVERY: u32 = 64;

/// What recovery is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecoveryPhase {
    /// Nothing yet.
    #[default]
    Waiting,
    /// Reading the checkpoint and the log.
    Replaying,
    /// Everything acknowledged before the start can be read.
    Done,
    /// A bug ended it; a restart tries again.
    Failed,
}

/// How far recovery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoveryStatus {
    /// What it is doing.
    pub phase: RecoveryPhase,
    /// Number of the first segment to replay.
    pub first_segment: u64,
    /// Number of the last segment to replay.
    pub last_segment: u64,
    /// Number of the segment that is being replayed.
    pub current_segment: u64,
    /// Bytes of the log read so far.
    pub read_bytes: u64,
    /// Bytes of the log to read.
    pub total_bytes: u64,
    /// Time it has taken so far, or took.
    pub duration: Duration,
}

/// The state of recovery, for everybody to see.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    status: Mutex<RecoveryStatus>,
    changed: Condvar,
    /// All tenants are recovered.
    done: AtomicBool,
    /// The log is read to its end: a tenant that is new from here on has nothing in it.
    replayed: AtomicBool,
    /// Somebody drives it, so that waiting makes sense.
    running: AtomicBool,
    stop: AtomicBool,
    held: AtomicBool,
    began_ns: AtomicU64,
    damage: Mutex<DamageReport>,
}

impl Recovery {
    /// Whether everything acknowledged before the start can be read.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Whether the log is read to its end.
    pub(crate) fn is_replayed(&self) -> bool {
        self.replayed.load(Ordering::Acquire)
    }

    pub(crate) fn status(&self) -> RecoveryStatus {
        *self.status.lock()
    }

    /// What of the log could not be read so far.
    pub(crate) fn damage(&self) -> DamageReport {
        self.damage.lock().clone()
    }

    /// Waits until `ready`; false if it came to nothing because `give_up`, or because nobody
    /// drives recovery.
    pub(crate) fn wait_until(&self, ready: impl Fn() -> bool, give_up: impl Fn() -> bool) -> bool {
        let mut status = self.status.lock();
        while !ready() {
            let hopeless = status.phase == RecoveryPhase::Failed
                || self.stop.load(Ordering::Acquire)
                || !self.running.load(Ordering::Acquire);
            if hopeless || give_up() {
                return false;
            }
            self.changed.wait_for(&mut status, Duration::from_millis(10));
        }
        true
    }

    fn update(&self, change: impl FnOnce(&mut RecoveryStatus)) {
        change(&mut self.status.lock());
        self.changed.notify_all();
    }

    /// Keeps the thread of recovery from beginning.
    pub(super) fn hold(&self) {
        self.held.store(true, Ordering::Release);
    }

    pub(super) fn release(&self) {
        self.held.store(false, Ordering::Release);
        self.update(|_| {});
    }

    /// Asks the thread to end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.update(|_| {});
    }

    fn pause(&self, until: impl Fn() -> bool, most: Duration) {
        let mut status = self.status.lock();
        if !until() && !self.stop.load(Ordering::Acquire) {
            self.changed.wait_for(&mut status, most);
        }
    }
}

/// Does the work, step by step.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    checkpoints: Checkpoints,
    old: OldLog,
    stage: Stage,
    steps: u32,
    /// Whether there may be another thread that reads.
    threaded: bool,
}

enum Stage {
    Begin,
    Restore {
        checkpoint: Checkpoint,
        section: usize,
    },
    /// Forget what a checkpoint brought that is of no use.
    Discard,
    Clean {
        from: LogPosition,
    },
    Replay {
        replay: Box<Replay>,
        replayer: Replayer,
        drain: Drain,
    },
    /// The same, where another thread reads.
    Apply {
        ahead: ReadAhead,
        replayer: Replayer,
    },
    Switch {
        left: Vec<Arc<Tenant>>,
    },
    Done,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, checkpoints: Checkpoints, old: OldLog) -> Self {
        Self { shared, checkpoints, old, stage: Stage::Begin, steps: 0, threaded: false }
    }

    /// In strict mode: fails if what replay would read is damaged.
    pub(super) fn check(&self) -> Result<(), StorageError> {
        let from = self.checkpoints.latest()?.map_or(LogPosition::default(), |c| c.position);
        Ok(self.old.check(from)?)
    }

    /// Does a bit of it; false when all is done. After an error it can be called again.
    pub(super) fn step(&mut self) -> Result<bool, StorageError> {
        let recovery = &self.shared.recovery;
        match &mut self.stage {
            Stage::Begin => {
                let now = self.shared.clock.monotonic();
                recovery.began_ns.store(now.as_nanos() as u64, Ordering::Relaxed);
                recovery.update(|status| status.phase = RecoveryPhase::Replaying);
                self.shared.load_unread()?;
                self.stage = match self.checkpoints.latest()? {
                    Some(checkpoint) => Stage::Restore { checkpoint, section: 0 },
                    None => Stage::Clean { from: LogPosition::default() },
                };
            }
            Stage::Restore { checkpoint, section } => match self.shared.restore_next(checkpoint, section) {
                Ok(true) => {}
                Ok(false) => {
                    self.shared.keep_checkpoints()?;
                    self.stage = Stage::Clean { from: checkpoint.position };
                }
                Err(error) => {
                    tracing::error!(checkpoint = checkpoint.number, %error, "checkpoint is of no use, the whole log is read");
                    self.stage = Stage::Discard;
                }
            },
            Stage::Discard => {
                self.shared.tenants.all().iter().for_each(|tenant| tenant.head.discard_restored());
                self.stage = Stage::Clean { from: LogPosition::default() };
            }
            Stage::Clean { from } => {
                self.shared.remove_unused_head_chunks()?;
                let replay = self.old.replay(*from);
                tell_progress(&self.shared, replay.segments(), replay.progress());
                let replayer = Replayer::new(self.shared.clone());
                // What drains the log wants to look between two segments.
                self.stage = if self.threaded && self.shared.config.head_memory_bytes == 0 {
                    let ahead = ReadAhead::start(replay)
                        .map_err(StorageError::io("start thread", Path::new("log-reader")))?;
                    Stage::Apply { ahead, replayer }
                } else {
                    Stage::Replay { replay: Box::new(replay), replayer, drain: Drain::default() }
                };
            }
            Stage::Apply { ahead, replayer } => match ahead.step(replayer)? {
                Ahead::Applied { progress, segments } => {
                    self.steps = self.steps.wrapping_add(1);
                    if self.steps.is_multiple_of(TELL_EVERY) {
                        tell_progress(&self.shared, segments, progress);
                    }
                }
                Ahead::End(replay) => {
                    tell_progress(&self.shared, replay.segments(), replay.progress());
                    self.stage = Stage::Switch { left: self.shared.end_replay(&replay) };
                }
            },
            Stage::Replay { replay, replayer, drain } => {
                if drain.step(&self.shared, &self.old, replay, replayer) {
                    return Ok(true);
                }
                let more = replay.step(replayer)?;
                self.steps = self.steps.wrapping_add(1);
                if self.steps.is_multiple_of(TELL_EVERY) || !more {
                    tell_progress(&self.shared, replay.segments(), replay.progress());
                }
                if !more {
                    self.stage = Stage::Switch { left: self.shared.end_replay(replay) };
                }
            }
            Stage::Switch { left } => match left.last() {
                Some(tenant) if tenant.head.reclassify_next() => {
                    left.pop();
                    recovery.update(|_| {});
                }
                Some(_) => {}
                None => {
                    self.stage = Stage::Done;
                    self.shared.end_recovery();
                }
            },
            Stage::Done => {}
        }
        Ok(!matches!(self.stage, Stage::Done))
    }

    /// Runs on a thread of its own until all is done.
    pub(super) fn start(mut self) -> Result<std::thread::JoinHandle<()>, StorageError> {
        self.shared.recovery.running.store(true, Ordering::Release);
        self.threaded = true;
        let spawned = std::thread::Builder::new().name("recovery".into()).spawn(move || self.run());
        spawned.map_err(StorageError::io("start thread", Path::new("recovery")))
    }

    fn run(mut self) {
        let shared = self.shared.clone();
        let recovery = &shared.recovery;
        while recovery.held.load(Ordering::Acquire) && !recovery.stop.load(Ordering::Acquire) {
            recovery.pause(|| !recovery.held.load(Ordering::Acquire), RETRY_AFTER);
        }
        while !recovery.stop.load(Ordering::Acquire) {
            match catch_unwind(AssertUnwindSafe(|| self.step())) {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return,
                Ok(Err(error)) => {
                    tracing::error!(%error, "recovery is stuck and tries again");
                    recovery.pause(|| false, RETRY_AFTER);
                }
                Err(_) => {
                    tracing::error!("recovery panicked; writes are refused until a restart");
                    return recovery.update(|status| status.phase = RecoveryPhase::Failed);
                }
            }
        }
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("steps", &self.steps).finish_non_exhaustive()
    }
}

/// `segments` and `progress` as [`Replay`] gives them.
fn tell_progress(shared: &Shared, (first, last, current): (u64, u64, u64), (read, total): (u64, u64)) {
    let duration = shared.recovering_for();
    shared.recovery.update(|status| {
        (status.first_segment, status.last_segment, status.current_segment) = (first, last, current);
        (status.read_bytes, status.total_bytes) = (read, total);
        status.duration = duration;
    });
}

impl Shared {
    /// Fails if writes before the end of recovery cannot be taken now.
    pub(super) fn check_side_heads(&self) -> Result<(), StoreError> {
        let unavailable = |text: String| Err(StoreError::new(ErrorKind::Unavailable, text));
        if self.recovery.status().phase == RecoveryPhase::Failed {
            return unavailable("recovery failed unexpectedly, a restart tries again".to_owned());
        }
        let (held, limit) = (self.metrics.side_head_bytes.get(), self.config.side_head_bytes);
        if held > limit {
            return unavailable(format!(
                "the log is being replayed and memory for new samples is full, try again: limit={limit} bytes"
            ));
        }
        Ok(())
    }

    fn recovering_for(&self) -> Duration {
        let began = Duration::from_nanos(self.recovery.began_ns.load(Ordering::Relaxed));
        self.clock.monotonic().saturating_sub(began)
    }

    /// The log is read; gives the tenants that have to be switched.
    fn end_replay(&self, replay: &Replay) -> Vec<Arc<Tenant>> {
        let damage = replay.report();
        if !damage.is_clean() {
            tracing::error!(%damage, "the log is damaged; every readable record was kept");
        }
        *self.recovery.damage.lock() = damage.clone();
        self.note_unread(damage);
        for tenant in self.tenants.all().iter().filter(|tenant| !self.knows_deletes(tenant)) {
            tracing::warn!(tenant = %tenant.head.tenant, "a segment of the log cannot be read, and may have deletes: in this run nothing of the tenant is cut or compacted, and its head grows");
        }
        // Before any head counts as recovered: no read may see what is deleted.
        self.hide_all_deleted();
        self.tenants.all_after(|| self.recovery.replayed.store(true, Ordering::Release))
    }

    fn end_recovery(&self) {
        let duration = self.recovering_for();
        self.recovery.done.store(true, Ordering::Release);
        self.recovery.update(|status| {
            status.phase = RecoveryPhase::Done;
            status.duration = duration;
        });
        let samples = self.metrics.replayed.get();
        tracing::info!(seconds = duration.as_secs_f64(), samples, "recovered, answers are complete");
    }

    /// Whether the disk refused to give a part of the log. Another start may find it readable: in
    /// this run nothing of the log is truncated or passed over by a checkpoint.
    pub(super) fn keeps_whole_log(&self) -> bool {
        self.recovery.damage.lock().unreadable_count > 0
    }

    /// Whether all deletes of a tenant are known, with their ends. Where the disk refused to give a part of
    /// the log there may be more, unless the tenant had none when that part was written. What such a delete
    /// hides of a block that is made without it could not be said.
    pub(super) fn knows_deletes(&self, tenant: &Tenant) -> bool {
        let may_have = || tenant.may_have_deletes.load(Ordering::Acquire) || tenant.head.has_deletes();
        !self.keeps_whole_log() || !may_have()
    }
}

#[cfg(test)]
mod tests;
