//! The pool of all queries: threads for as many as may run at once, a bounded queue before them,
//! first in first out per tenant, tenants in turn (decision 39; ADR 5 says why there may be more
//! threads than cores).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pyrrha_env::Clock;
use pyrrha_model::contract::{CancelReason, CancelToken};
use pyrrha_model::{ErrorKind, TenantId};
use tokio::sync::oneshot;

/// Why a job gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PoolError {
    /// Its deadline passed before a thread was free.
    #[error("query timed out in query queue")]
    TimedOut,
    /// It was cancelled before a thread was free.
    #[error("query was canceled in query queue")]
    Canceled,
    /// More jobs wait than the queue holds.
    #[error("too many queries are waiting: limit={0}")]
    Full(usize),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopped,
    /// The job panicked: a bug, contained.
    #[error("the query failed unexpectedly, see the server's log")]
    Panicked,
}

impl PoolError {
    /// What the caller should do next.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::TimedOut => ErrorKind::Timeout,
            Self::Canceled => ErrorKind::Canceled,
            Self::Full(_) | Self::Stopped => ErrorKind::Unavailable,
            Self::Panicked => ErrorKind::Internal,
        }
    }
}

/// How long a thread waits for another job.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Most threads that wait for something other than a processor while others have their slots.
const LENT_MAX: usize = 64;

thread_local! {
    /// The pool that the thread works for.
    static POOL: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
}

/// Does what waits for something other than a processor. If that is a part of a job of a pool, another
/// job has its slot meanwhile.
pub(crate) fn waiting_elsewhere<T>(wait: impl FnOnce() -> T) -> T {
    let pool = POOL.with(|pool| pool.borrow().clone());
    let _lent = pool.and_then(Lent::of);
    wait()
}

/// A slot that another job has.
struct Lent(Arc<Shared>);

impl Lent {
    fn of(shared: Arc<Shared>) -> Option<Self> {
        let mut queue = shared.queue.lock();
        if queue.lent >= LENT_MAX {
            return None;
        }
        queue.lent += 1;
        queue.threads = queue.threads.saturating_sub(1);
        if !queue.lanes.is_empty() {
            shared.start_thread(&mut queue);
        }
        drop(queue);
        Some(Self(shared))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // For a moment there may be a thread too many: it goes when it has nothing to do.
        let mut queue = self.0.queue.lock();
        queue.lent -= 1;
        queue.threads += 1;
    }
}

type Run = Box<dyn FnOnce() + Send>;

struct Job {
    /// Taken by whoever comes first: a thread that runs it, or the waiter that gives it up.
    claimed: Arc<AtomicBool>,
    run: Run,
}

#[derive(Default)]
struct Queue {
    /// Tenants that have jobs, next one first.
    lanes: VecDeque<(TenantId, VecDeque<Job>)>,
    stopping: bool,
    /// Threads there are.
    threads: usize,
    /// How to wake the threads that wait for a job, the one that came last on top: its caches are warm.
    idle: Vec<Arc<Condvar>>,
    /// Threads that are not counted because they wait for something else.
    lent: usize,
}

impl Queue {
    fn push(&mut self, tenant: &TenantId, job: Job) {
        match self.lanes.iter_mut().find(|(t, _)| t == tenant) {
            Some((_, jobs)) => jobs.push_back(job),
            None => self.lanes.push_back((tenant.clone(), VecDeque::from([job]))),
        }
    }

    /// Takes a job out that nobody waits for any more, if it is still there.
    fn remove(&mut self, tenant: &TenantId, claimed: &Arc<AtomicBool>) -> Option<Job> {
        let lane = self.lanes.iter().position(|(t, _)| t == tenant)?;
        let jobs = &mut self.lanes[lane].1;
        let place = jobs.iter().position(|job| Arc::ptr_eq(&job.claimed, claimed))?;
        let job = jobs.remove(place);
        if jobs.is_empty() {
            self.lanes.remove(lane);
        }
        job
    }

    /// The oldest job of the tenant whose turn it is; the tenant goes to the end of the line.
    fn pop(&mut self) -> Option<Job> {
        let (tenant, mut jobs) = self.lanes.pop_front()?;
        let job = jobs.pop_front();
        if !jobs.is_empty() {
            self.lanes.push_back((tenant, jobs));
        }
        job
    }
}

struct Shared {
    queue: Mutex<Queue>,
    waiting: AtomicUsize,
    running: AtomicUsize,
    waiting_max: usize,
    threads_max: usize,
}

/// The pool. Threads come when they are needed and go when they are not. Dropping it stops its threads after the jobs that run now.
pub(crate) struct QueryPool {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

impl QueryPool {
    /// A pool of at most `threads_max` threads before which `waiting_max` jobs may wait.
    pub(crate) fn new(threads_max: usize, waiting_max: usize, clock: Arc<dyn Clock>) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            waiting: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            waiting_max,
            threads_max: threads_max.max(1),
        });
        Self { shared, clock }
    }

    /// Jobs that wait for a thread.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Jobs that run.
    pub(crate) fn running(&self) -> usize {
        self.shared.running.load(Ordering::Relaxed)
    }

    /// Runs `job` on a thread of the pool and returns its result and how long it waited. `cancel`
    /// is set when the deadline passes or the caller stops polling, or by others: `cancelled` ends after
    /// that. A job that has not begun by then is not run.
    pub(crate) async fn run_until<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        deadline: Duration,
        cancel: CancelToken,
        cancelled: impl Future<Output = ()>,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, Duration), PoolError> {
        if deadline.is_zero() {
            return Err(PoolError::TimedOut);
        }
        let claimed = Arc::new(AtomicBool::new(false));
        let mut guard = Guard {
            cancel: Some(cancel.clone()),
            claimed: claimed.clone(),
            shared: self.shared.clone(),
            tenant: tenant.clone(),
        };
        let (sender, mut receiver) = oneshot::channel();
        let (clock, submitted, shared) = (self.clock.clone(), self.clock.monotonic(), self.shared.clone());
        let run = Box::new(move || {
            let waited = clock.monotonic().saturating_sub(submitted);
            shared.running.fetch_add(1, Ordering::Relaxed);
            let result = catch_unwind(AssertUnwindSafe(job)).map(|value| (value, waited));
            shared.running.fetch_sub(1, Ordering::Relaxed);
            // Nobody listens any more: the client is gone.
            let _ = sender.send(result.map_err(|_| PoolError::Panicked));
        });
        self.submit(tenant, Job { claimed: claimed.clone(), run })?;
        let early = tokio::select! {
            biased;
            result = &mut receiver => {
                guard.cancel = None;
                return result.unwrap_or(Err(PoolError::Stopped));
            }
            () = cancelled => PoolError::Canceled,
            () = tokio::time::sleep(deadline) => PoolError::TimedOut,
        };
        if early == PoolError::TimedOut {
            cancel.cancel(CancelReason::TimedOut);
        }
        if guard.give_up() {
            guard.cancel = None;
            return Err(early);
        }
        // It runs, and will notice.
        let result = (&mut receiver).await;
        guard.cancel = None;
        result.unwrap_or(Err(PoolError::Stopped))
    }

    fn submit(&self, tenant: &TenantId, job: Job) -> Result<(), PoolError> {
        let mut queue = self.shared.queue.lock();
        if queue.stopping {
            return Err(PoolError::Stopped);
        }
        if self.shared.waiting.load(Ordering::Relaxed) >= self.shared.waiting_max {
            return Err(PoolError::Full(self.shared.waiting_max));
        }
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        queue.push(tenant, job);
        let woken = queue.idle.pop();
        if woken.is_none() && queue.threads < self.shared.threads_max {
            self.shared.start_thread(&mut queue);
        }
        drop(queue);
        if let Some(wake) = woken {
            wake.notify_one();
        }
        Ok(())
    }
}

impl Shared {
    fn start_thread(self: &Arc<Self>, queue: &mut Queue) {
        let shared = self.clone();
        let started = std::thread::Builder::new()
            .name("query".into())
            // Expressions may nest as deep as the parser allows.
            .stack_size(16 << 20)
            .spawn(move || work(&shared));
        match started {
            Ok(_) => queue.threads += 1,
            // The job waits for one of the others, or for its deadline.
            Err(error) => tracing::warn!(%error, threads = queue.threads, "no further query thread starts"),
        }
    }
}

impl Drop for QueryPool {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        queue.stopping = true;
        for wake in queue.idle.drain(..) {
            wake.notify_one();
        }
    }
}

/// Cancels the job if the caller goes away before there is a result.
struct Guard {
    cancel: Option<CancelToken>,
    claimed: Arc<AtomicBool>,
    shared: Arc<Shared>,
    tenant: TenantId,
}

impl Guard {
    /// Takes the job out of the queue; false if it runs already.
    fn give_up(&self) -> bool {
        let waits = claim(&self.claimed);
        if waits {
            let job = self.shared.queue.lock().remove(&self.tenant, &self.claimed);
            if job.is_some() {
                self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            }
            // What it holds goes without the lock.
            drop(job);
        }
        waits
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(cancel) = self.cancel.take() {
            self.give_up();
            cancel.cancel(CancelReason::Canceled);
        }
    }
}

fn claim(claimed: &AtomicBool) -> bool {
    claimed.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

fn work(shared: &Arc<Shared>) {
    POOL.with(|pool| *pool.borrow_mut() = Some(shared.clone()));
    let wake = Arc::new(Condvar::new());
    loop {
        let mut queue = shared.queue.lock();
        let job = loop {
            if let Some(job) = queue.pop() {
                break job;
            }
            if queue.stopping {
                return;
            }
            queue.idle.push(wake.clone());
            wake.wait_for(&mut queue, IDLE_MAX);
            // Still there: nobody has woken it.
            let place = queue.idle.iter().position(|other| Arc::ptr_eq(other, &wake));
            if let Some(place) = place {
                queue.idle.remove(place);
                if queue.lanes.is_empty() {
                    queue.threads -= 1;
                    return;
                }
            }
        };
        shared.waiting.fetch_sub(1, Ordering::Relaxed);
        drop(queue);
        if claim(&job.claimed) {
            (job.run)();
        }
    }
}

#[cfg(test)]
mod tests;
