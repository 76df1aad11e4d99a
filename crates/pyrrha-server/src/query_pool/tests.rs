//! Tests of the query pool: order, deadlines, bounds, panics.

use std::sync::mpsc;

use pyrrha_env::SystemClock;

use super::*;

fn pool(threads: usize, waiting_max: usize) -> QueryPool {
    QueryPool::new(threads, waiting_max, Arc::new(SystemClock::new()))
}

impl QueryPool {
    /// [`QueryPool::run_until`] for a job that nobody else cancels.
    async fn run<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        deadline: Duration,
        cancel: CancelToken,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, Duration), PoolError> {
        self.run_until(tenant, deadline, cancel, std::future::pending(), job).await
    }
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_job_runs_and_tells_how_long_it_waited() {
    let pool = pool(2, 10);
    let (value, waited) =
        pool.run(&TenantId::anonymous(), LONG, CancelToken::default(), || 42).await.expect("runs");
    assert_eq!(value, 42);
    assert!(waited < LONG);
    assert_eq!((pool.waiting(), pool.running()), (0, 0));
}

#[tokio::test]
async fn a_job_that_no_thread_took_in_time_is_never_run() {
    let pool = pool(1, 10);
    let (release, blocked) = mpsc::channel::<()>();
    let tenant = TenantId::anonymous();
    let blocker = pool.run(&tenant, LONG, CancelToken::default(), move || {
        let _ = blocked.recv();
    });
    let late = async {
        let cancel = CancelToken::default();
        let result = pool
            .run(&tenant, Duration::from_millis(20), cancel.clone(), || panic!("must not run"))
            .await
            .map(|((), _)| ());
        assert_eq!(result, Err(PoolError::TimedOut));
        assert_eq!(cancel.reason(), Some(CancelReason::TimedOut));
        assert_eq!(pool.waiting(), 0, "it leaves its place to others");
        drop(release);
    };
    let (first, ()) = tokio::join!(blocker, late);
    assert!(first.is_ok());
}

#[tokio::test]
async fn a_running_job_sees_its_deadline() {
    let pool = pool(1, 10);
    let cancel = CancelToken::default();
    let seen = cancel.clone();
    let clock = SystemClock::new();
    let (reason, _) = pool
        .run(&TenantId::anonymous(), Duration::from_secs(1), cancel, move || {
            while seen.reason().is_none() {
                clock.sleep(Duration::from_millis(1));
            }
            seen.reason()
        })
        .await
        .expect("ends by itself");
    assert_eq!(reason, Some(CancelReason::TimedOut));
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels() {
    let pool = pool(1, 10);
    let cancel = CancelToken::default();
    let seen = cancel.clone();
    let clock = SystemClock::new();
    let (done, ended) = mpsc::channel();
    let (begin, begun) = oneshot::channel();
    let tenant = TenantId::anonymous();
    let job = pool.run(&tenant, LONG, cancel, move || {
        let _ = begin.send(());
        while seen.reason().is_none() {
            clock.sleep(Duration::from_millis(1));
        }
        let _ = done.send(seen.reason());
    });
    tokio::select! {
        _ = job => panic!("it ends when it is cancelled"),
        begun = begun => begun.expect("it begins"),
    }
    let reason = ended.recv_timeout(LONG).expect("the job noticed");
    assert_eq!(reason, Some(CancelReason::Canceled));
}

#[tokio::test]
async fn a_job_that_is_cancelled_in_the_queue_ends_at_once() {
    let pool = pool(1, 10);
    let (release, blocked) = mpsc::channel::<()>();
    let tenant = TenantId::anonymous();
    let blocker = pool.run(&tenant, LONG, CancelToken::default(), move || {
        let _ = blocked.recv();
    });
    let cancelled = async {
        let token = CancelToken::default();
        let stop = async { token.cancel(CancelReason::Canceled) };
        let result = pool.run_until(&tenant, LONG, token.clone(), stop, || panic!("must not run")).await;
        assert_eq!(result.map(|((), _)| ()), Err(PoolError::Canceled));
        drop(release);
    };
    let (first, ()) = tokio::join!(blocker, cancelled);
    assert!(first.is_ok());
    assert_eq!(PoolError::Canceled.to_string(), "query was canceled in query queue");
}

#[tokio::test]
async fn without_time_nothing_is_run() {
    let result = pool(1, 1).run(&TenantId::anonymous(), Duration::ZERO, CancelToken::default(), || ()).await;
    assert_eq!(result.map(|((), _)| ()), Err(PoolError::TimedOut));
}

#[tokio::test]
async fn threads_come_when_they_are_needed() {
    let pool = pool(3, 10);
    let tenant = TenantId::anonymous();
    let both = Arc::new(std::sync::Barrier::new(2));
    let job = || {
        let both = both.clone();
        pool.run(&tenant, LONG, CancelToken::default(), move || {
            both.wait();
        })
    };
    // Each waits for the other: one thread would not do.
    let (one, two) = tokio::join!(job(), job());
    assert!(one.is_ok() && two.is_ok());
    for _ in 0..10 {
        let _ = pool.run(&tenant, LONG, CancelToken::default(), || ()).await;
    }
    // A thread that is not back yet may cost a third.
    let threads = pool.shared.queue.lock().threads;
    assert!((2..=3).contains(&threads), "never more than may be: {threads}");
}

#[tokio::test]
async fn the_queue_is_bounded_and_a_panic_is_contained() {
    let pool = pool(1, 0);
    let tenant = TenantId::anonymous();
    let full = pool.run(&tenant, LONG, CancelToken::default(), || ()).await.map(|_| ());
    assert_eq!(full, Err(PoolError::Full(0)));
    let pool = super::tests::pool(1, 1);
    let result = pool.run(&tenant, LONG, CancelToken::default(), || panic!("on purpose")).await;
    assert_eq!(result.map(|((), _)| ()), Err(PoolError::Panicked));
    assert!(pool.run(&tenant, LONG, CancelToken::default(), || ()).await.is_ok(), "the thread lives on");
}

#[test]
fn tenants_take_turns_and_keep_their_order() {
    let mut queue = Queue::default();
    let (a, b) = (TenantId::new("a").expect("valid"), TenantId::new("b").expect("valid"));
    let order = Arc::new(Mutex::new(Vec::new()));
    for (tenant, name) in [(&a, "a1"), (&a, "a2"), (&a, "a3"), (&b, "b1"), (&b, "b2")] {
        let order = order.clone();
        let run = Box::new(move || order.lock().push(name));
        queue.push(tenant, Job { claimed: Arc::default(), run });
    }
    while let Some(job) = queue.pop() {
        (job.run)();
    }
    assert_eq!(*order.lock(), ["a1", "b1", "a2", "b2", "a3"]);
}

#[tokio::test]
async fn a_job_that_waits_for_something_else_gives_its_slot_away() {
    let pool = pool(1, 10);
    let (release, blocked) = mpsc::channel::<()>();
    let tenant = TenantId::anonymous();
    let waits = pool.run(&tenant, LONG, CancelToken::default(), move || {
        waiting_elsewhere(|| blocked.recv_timeout(LONG).is_ok())
    });
    // Behind it in the queue of one thread, and what it waits for.
    let frees = pool.run(&tenant, LONG, CancelToken::default(), move || release.send(()).is_ok());
    let (waited, freed) = tokio::join!(waits, frees);
    assert!(waited.expect("runs").0 && freed.expect("runs").0);
    let after = pool.run(&tenant, LONG, CancelToken::default(), || 1).await;
    assert_eq!(after.expect("runs").0, 1);
}
