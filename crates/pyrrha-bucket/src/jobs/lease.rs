//! A job that this worker holds, and who else may take it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pyrrha_model::contract::{CancelReason, CancelToken};
use pyrrha_model::{StoreError, TenantId};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::directory::JobDirectory;
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

/// A held job: its file is written again and again until this ends. If another worker takes over,
/// `cancel` says stop.
#[derive(Debug)]
pub(crate) struct Lease {
    directory: JobDirectory,
    pub(crate) id: String,
    pub(crate) epoch: u64,
    pub(crate) record: JobRecord,
    pub(crate) cancel: CancelToken,
    lost: Arc<AtomicBool>,
    ended: Arc<Notify>,
    beating: Option<JoinHandle<()>>,
}

impl Lease {
    /// Takes an epoch of a job; `None` if another worker was faster.
    pub(crate) fn take(
        directory: &JobDirectory,
        id: &str,
        epoch: u64,
        record: JobRecord,
        timeout: Duration,
        cancel: CancelToken,
    ) -> Result<Option<Self>, StoreError> {
        if !directory.take(id, epoch, &record)? {
            return Ok(None);
        }
        let (lost, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let heart = Heart {
            directory: directory.clone(),
            key: directory.key(id, epoch),
            next: directory.key(id, epoch + 1),
            record: record.clone(),
            every: timeout / BEATS,
            cancel: cancel.clone(),
            lost: lost.clone(),
            ended: ended.clone(),
        };
        let beating = Some(directory.runtime.handle().spawn(heart.beat()));
        let directory = directory.clone();
        Ok(Some(Self { directory, id: id.to_owned(), epoch, record, cancel, lost, ended, beating }))
    }

    /// Whether another worker is known to have taken over.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Says how the job ended. What fails is found out by whoever takes over.
    pub(crate) fn end(mut self, end: End<'_>, took: Duration) {
        // A beat must not come after the end.
        self.still();
        if self.is_lost() {
            return;
        }
        let mut record = self.record.clone();
        record.took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        match end {
            End::Committed | End::Nothing => {
                record.state = JobState::Done;
                record.committed = matches!(end, End::Committed);
                (record.error, record.failures) = (None, 0);
            }
            End::Failed(error) => {
                record.state = JobState::Failed;
                record.error = Some(error.to_string());
                record.failures = record.failures.saturating_add(1);
            }
        }
        if let Err(error) = self.directory.write(&self.id, self.epoch, &record) {
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
struct Heart {
    directory: JobDirectory,
    key: String,
    next: String,
    record: JobRecord,
    every: Duration,
    cancel: CancelToken,
    lost: Arc<AtomicBool>,
    ended: Arc<Notify>,
}

impl Heart {
    async fn beat(mut self) {
        loop {
            tokio::select! {
                () = self.ended.notified() => return,
                () = tokio::time::sleep(self.every) => {}
            }
            match self.beat_once().await {
                Ok(true) => {}
                Ok(false) => {
                    self.lost.store(true, Ordering::Relaxed);
                    self.cancel.cancel(CancelReason::Canceled);
                    return;
                }
                // The commit is safe without it.
                Err(error) => tracing::debug!(key = self.key, %error, "a beat was missed"),
            }
        }
    }

    /// False if another worker has taken over.
    async fn beat_once(&mut self) -> Result<bool, BucketError> {
        if self.directory.bucket.head(&self.next).await?.is_some() {
            return Ok(false);
        }
        self.record.beat += 1;
        self.directory.bucket.put(&self.key, Bytes::from(self.record.encode())).await?;
        Ok(true)
    }
}

/// What this worker saw of the jobs of others, and when it changed last.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<HashMap<(TenantId, String), Seen>>);

#[derive(Debug)]
struct Seen {
    epoch: u64,
    beat: u64,
    state: JobState,
    /// Monotonic.
    since: Duration,
}

impl Watch {
    /// Looks at a job, and gives for how long it has been as it is.
    pub(crate) fn look(
        &self,
        tenant: &TenantId,
        id: &str,
        epoch: u64,
        record: &JobRecord,
        now: Duration,
    ) -> Duration {
        let new = || Seen { epoch, beat: record.beat, state: record.state, since: now };
        let mut seen = self.0.lock();
        let known = seen.entry((tenant.clone(), id.to_owned())).or_insert_with(new);
        if (known.epoch, known.beat, known.state) != (epoch, record.beat, record.state) {
            *known = new();
        }
        now.saturating_sub(known.since)
    }

    /// Forgets jobs of a tenant that are gone.
    pub(crate) fn forget(&self, tenant: &TenantId, is_there: impl Fn(&str) -> bool) {
        self.0.lock().retain(|(of, id), _| of != tenant || is_there(id));
    }
}
