//! A job that this worker holds, and who else may take it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pyrrha_model::contract::{CancelReason, CancelToken};
use pyrrha_model::{StoreError, TenantId};
use pyrrha_storage::block::BlockId;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::directory::{HeldLease, JobDirectory};
use super::record::{JobRecord, JobState};
use crate::error::BucketError;

/// Beats in the time after which others take over.
const BEATS: u32 = 4;

/// How a job ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End<'a> {
    /// It was committed.
    Committed,
    /// It was not, and need not be tried again as it is.
    Nothing,
    /// It failed.
    Failed(&'a StoreError),
}

/// A held job: its beat is written again and again until this ends. If another worker takes over,
/// `cancel` says stop.
#[derive(Debug)]
pub(crate) struct Lease {
    directory: JobDirectory,
    pub(crate) id: String,
    pub(crate) epoch: u64,
    pub(crate) record: JobRecord,
    pub(crate) cancel: CancelToken,
    heart: Arc<Heart>,
    ended: Arc<Notify>,
    beating: Option<JoinHandle<()>>,
}

impl Lease {
    /// Takes an epoch of a job; `None` if another worker was faster. When this returns, what the lease
    /// may upload is named under a key that only this lease writes: whatever happens to the claim, others
    /// know of it.
    pub(crate) fn take(
        directory: &JobDirectory,
        id: &str,
        epoch: u64,
        record: JobRecord,
        timeout: Duration,
        cancel: CancelToken,
    ) -> Result<Option<Self>, StoreError> {
        if !directory.claim(id, epoch, &record)? {
            return Ok(None);
        }
        let heart = Arc::new(Heart {
            directory: directory.clone(),
            key: directory.beat_key(id, epoch, record.lease),
            next: directory.claim_key(id, epoch + 1),
            record: record.clone(),
            beats: AtomicU64::new(0),
            lost: AtomicBool::new(false),
            cancel: cancel.clone(),
        });
        let first = heart.clone();
        directory.runtime.wait(async move { first.beat().await })?;
        if heart.lost.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let ended = Arc::new(Notify::new());
        let beating = heart.clone().go_on(timeout / BEATS, ended.clone());
        let beating = Some(directory.runtime.handle().spawn(beating));
        let directory = directory.clone();
        Ok(Some(Self { directory, id: id.to_owned(), epoch, record, cancel, heart, ended, beating }))
    }

    /// Looks whether another worker has taken over, and says that this one lives. An error says that it
    /// has: then the job is to stop.
    pub(crate) fn hold(&self) -> Result<(), StoreError> {
        let heart = self.heart.clone();
        self.directory.runtime.wait_while(&self.cancel, async move { heart.beat().await })?;
        self.cancel.check()
    }

    /// Says how the job ended, whether another worker has taken over or not: that one may have cleaned
    /// up before this one had uploaded all. If this fails, it is found out by whoever takes over. What
    /// `is_live` as it ends is not named: whoever replaces that says so, and its files stay for the delay from
    /// then.
    pub(crate) fn end(mut self, end: End<'_>, is_live: impl Fn(&BlockId) -> bool, took: Duration) {
        // A beat must not come after the end.
        self.still();
        let mut record = self.record.clone();
        record.beat = self.heart.beats.load(Ordering::Relaxed);
        record.took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        match end {
            End::Committed | End::Nothing => {
                record.state = JobState::Done;
                record.committed = matches!(end, End::Committed);
                (record.error, record.failures) = (None, 0);
                record.name_only(|block| !is_live(block));
            }
            End::Failed(error) => {
                record.state = JobState::Failed;
                record.error = Some(error.to_string());
                record.failures = record.failures.saturating_add(1);
            }
        }
        if let Err(error) = self.directory.end(&self.id, self.epoch, &record) {
            tracing::warn!(job = self.id, %error, "the end of a job could not be written, another worker finds it out");
        }
    }

    /// Stops beating: others take over after a while.
    pub(crate) fn abandon(mut self) {
        self.still();
    }

    fn still(&mut self) {
        self.ended.notify_one();
        if let Some(beating) = self.beating.take() {
            let _ = self.directory.runtime.wait(async move {
                let _ = beating.await;
                Ok(())
            });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(beating) = self.beating.take() {
            beating.abort();
        }
    }
}

/// Beats on the bucket's threads.
#[derive(Debug)]
struct Heart {
    directory: JobDirectory,
    key: String,
    /// The claim of whoever takes over.
    next: String,
    record: JobRecord,
    beats: AtomicU64,
    lost: AtomicBool,
    cancel: CancelToken,
}

impl Heart {
    async fn go_on(self: Arc<Self>, every: Duration, ended: Arc<Notify>) {
        while !self.lost.load(Ordering::Relaxed) {
            tokio::select! {
                () = ended.notified() => return,
                () = tokio::time::sleep(every) => {}
            }
            // The commit is safe without it.
            if let Err(error) = self.beat().await {
                tracing::debug!(key = self.key, %error, "a beat was missed");
            }
        }
    }

    /// Says that the worker lives, or stops it if another one has taken over.
    async fn beat(&self) -> Result<(), BucketError> {
        if self.directory.bucket.head(&self.next).await?.is_some() {
            self.lost.store(true, Ordering::Relaxed);
            self.cancel.cancel(CancelReason::Canceled);
            return Ok(());
        }
        let beat = self.beats.fetch_add(1, Ordering::Relaxed) + 1;
        let record = JobRecord { beat, ..self.record.clone() };
        self.directory.bucket.put(&self.key, Bytes::from(record.encode())).await
    }
}

/// What this worker saw of the leases of others, and when it changed last.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<HashMap<(TenantId, BlockId), Seen>>);

#[derive(Debug)]
struct Seen {
    beat: u64,
    state: JobState,
    /// Monotonic.
    since: Duration,
}

impl Watch {
    /// Looks at a lease, and gives for how long it has been as it is.
    pub(crate) fn look(&self, tenant: &TenantId, lease: &HeldLease, now: Duration) -> Duration {
        let (beat, state) = (lease.record.beat, lease.record.state);
        let new = || Seen { beat, state, since: now };
        let mut seen = self.0.lock();
        let known = seen.entry((tenant.clone(), lease.record.lease)).or_insert_with(new);
        if (known.beat, known.state) != (beat, state) {
            *known = new();
        }
        now.saturating_sub(known.since)
    }

    /// Forgets leases of a tenant that are gone.
    pub(crate) fn forget(&self, tenant: &TenantId, is_there: impl Fn(&BlockId) -> bool) {
        self.0.lock().retain(|(of, lease), _| of != tenant || is_there(lease));
    }
}
