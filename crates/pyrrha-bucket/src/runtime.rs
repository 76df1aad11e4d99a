//! The bucket's own threads, and how synchronous callers wait for them.

use std::future::Future;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use pyrrha_model::contract::{CancelReason, CancelToken};
use tokio::runtime::{Handle, Runtime};

use crate::error::BucketError;

/// How often a waiting query looks at its cancel flag.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Threads that read and write local files, for each of the others. Each keeps buffers of what it read last.
const BLOCKING: usize = 4;

/// A runtime for requests to object stores. They never run on the threads that serve HTTP or
/// evaluate queries, and callers wait on a channel: nothing blocks on a runtime's thread.
#[derive(Debug)]
pub struct BucketRuntime {
    /// Taken when this drops.
    runtime: Option<Runtime>,
    handle: Handle,
    /// Says that nobody waits any more.
    closed: CancelToken,
}

impl BucketRuntime {
    /// Starts so many threads.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .max_blocking_threads(BLOCKING * threads.max(1))
            .enable_all()
            .thread_name("bucket")
            .build()?;
        let (handle, closed) = (runtime.handle().clone(), CancelToken::default());
        Ok(Self { handle, runtime: Some(runtime), closed })
    }

    /// Where tasks are started.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Whoever waits is told that it is over, and nobody waits again: the process ends. Tasks that were waited for
    /// are stopped as if it had been killed.
    pub fn close(&self) {
        self.closed.cancel(CancelReason::Canceled);
    }

    /// Waits for a task. Must not be called on a thread of a runtime.
    pub fn wait<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, BucketError>> + Send + 'static,
    ) -> Result<T, BucketError> {
        self.wait_while(&CancelToken::default(), task)
    }

    /// Waits for a task until `cancel` says stop, which stops the task too: what it did is done when
    /// this returns, and it does nothing afterwards, but for cache writes under way.
    pub fn wait_while<T: Send + 'static>(
        &self,
        cancel: &CancelToken,
        task: impl Future<Output = Result<T, BucketError>> + Send + 'static,
    ) -> Result<T, BucketError> {
        debug_assert!(Handle::try_current().is_err(), "waiting on a runtime's thread");
        let (send, receive) = sync_channel(1);
        let running = self.handle.spawn(async move {
            let _ = send.send(task.await);
        });
        loop {
            match receive.recv_timeout(LOOK_EVERY) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => return Err(BucketError::Closed),
                Err(RecvTimeoutError::Timeout) => {
                    let stopped = match self.closed.reason() {
                        Some(_) => Some(BucketError::Closed),
                        None => cancel.check().err().map(BucketError::from),
                    };
                    if let Some(stopped) = stopped {
                        running.abort();
                        let _ = self.handle.block_on(running);
                        return Err(stopped);
                    }
                }
            }
        }
    }
}

impl Drop for BucketRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Requests under way are given up; it may be dropped on a runtime's thread.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;

    use super::*;

    /// Tells that it is over, after a while.
    struct Slow(Arc<AtomicBool>);

    impl Drop for Slow {
        fn drop(&mut self) {
            let (_open, never) = channel::<()>();
            let _ = never.recv_timeout(Duration::from_millis(100));
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn nobody_waits_once_it_is_closed() {
        let runtime = Arc::new(BucketRuntime::start(1).expect("a thread"));
        let (waiting, (begun, begins)) = (runtime.clone(), channel());
        let thread = std::thread::spawn(move || {
            waiting.wait(async move {
                let _ = begun.send(());
                std::future::pending::<Result<(), BucketError>>().await
            })
        });
        begins.recv().expect("it waits");
        runtime.close();
        assert!(matches!(thread.join().expect("no panic"), Err(BucketError::Closed)));
        let hangs = std::future::pending::<Result<(), BucketError>>();
        assert!(matches!(runtime.wait(hangs), Err(BucketError::Closed)));
    }

    #[test]
    fn a_task_that_is_stopped_is_over_when_the_wait_is() {
        let runtime = BucketRuntime::start(1).expect("a thread");
        let (over, cancel) = (Arc::new(AtomicBool::new(false)), CancelToken::default());
        let (slow, stop) = (Slow(over.clone()), cancel.clone());
        let task = async move {
            let _slow = slow;
            stop.cancel(pyrrha_model::contract::CancelReason::Canceled);
            std::future::pending::<()>().await;
            Ok(())
        };
        runtime.wait_while(&cancel, task).expect_err("it was stopped");
        assert!(over.load(Ordering::SeqCst), "what it held is dropped");
    }
}
