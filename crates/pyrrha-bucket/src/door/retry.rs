//! When a request is tried again, and how long it may take.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use object_store::Error;
use tokio::time::Instant;

use super::{Bucket, Operation};
use crate::error::BucketError;

/// How persistent requests are. Waits between attempts double, and are drawn between half and the
/// whole of that, so that many clients do not come back at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a request is tried, at least once.
    pub attempts: u32,
    /// Wait before the second attempt.
    pub first_wait: Duration,
    /// Longest wait.
    pub longest_wait: Duration,
    /// Time that one attempt may take.
    pub timeout: Duration,
    /// When an attempt has taken so long, it is told that the bucket is waited for.
    pub slow: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(5),
            timeout: Duration::from_secs(60),
            slow: Duration::from_secs(5),
        }
    }
}

impl RetryPolicy {
    fn wait(&self, attempt: u32) -> Duration {
        let full = self.first_wait.saturating_mul(1 << attempt.min(16)).min(self.longest_wait);
        let half = u64::try_from(full.as_millis() / 2).unwrap_or(0);
        // Each state is keyed with fresh randomness of the operating system.
        Duration::from_millis(half + RandomState::new().hash_one(attempt) % (half + 1))
    }
}

impl Bucket {
    /// Runs a request until it succeeds, cannot succeed, or has been tried often enough.
    pub(super) async fn run<T, F>(
        &self,
        operation: Operation,
        key: &str,
        request: impl Fn() -> F,
    ) -> Result<T, BucketError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let policy = &self.0.policy;
        let mut attempt = 1;
        loop {
            let tell = || self.tell_slow(operation, key, attempt);
            let error = match self.attempt(operation, &request, tell).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(Error::NotFound { .. })) => return Err(BucketError::NotFound { key: key.to_owned() }),
                Ok(Err(source)) => Some(source),
                Err(_) => None,
            };
            self.0.counters.failure(operation);
            let again = error.as_ref().is_none_or(is_transient) && attempt < policy.attempts;
            if !again {
                return Err(self.blame(operation, key, attempt, error));
            }
            tracing::debug!(%operation, key, attempt, ?error, "bucket request is tried again");
            tokio::time::sleep(policy.wait(attempt - 1)).await;
            attempt += 1;
        }
    }

    async fn attempt<T, F>(
        &self,
        operation: Operation,
        request: &impl Fn() -> F,
        tell_slow: impl Fn(),
    ) -> Result<Result<T, Error>, tokio::time::error::Elapsed>
    where
        F: Future<Output = Result<T, Error>>,
    {
        // The semaphore is never closed.
        let _slot = self.0.slots.acquire().await.ok();
        self.0.counters.attempt(operation);
        let RetryPolicy { timeout, slow, .. } = self.0.policy;
        let request = tokio::time::timeout(timeout, request());
        tokio::pin!(request);
        tokio::select! {
            answer = &mut request => return answer,
            () = tokio::time::sleep(slow) => tell_slow(),
        }
        request.await
    }

    /// Says what is waited for, and how long yet: whoever asked may have nobody else to tell why nothing comes. Of
    /// many requests that hang one is told.
    fn tell_slow(&self, operation: Operation, key: &str, attempt: u32) {
        let RetryPolicy { attempts, timeout, slow, .. } = self.0.policy;
        let now = Instant::now();
        let mut told = self.0.told_slow.lock();
        if told.is_some_and(|told| now.saturating_duration_since(told) < slow) {
            return;
        }
        *told = Some(now);
        drop(told);
        tracing::warn!(
            bucket = self.name(), %operation, key, waited_s = slow.as_secs_f64(), timeout_s = timeout.as_secs_f64(),
            attempt, attempts, "the bucket does not answer yet, it is waited for"
        );
    }

    fn blame(&self, operation: Operation, key: &str, attempts: u32, error: Option<Error>) -> BucketError {
        let key = key.to_owned();
        match error {
            None => BucketError::TimedOut {
                operation,
                key,
                attempts,
                timeout_ms: u64::try_from(self.0.policy.timeout.as_millis()).unwrap_or(u64::MAX),
            },
            Some(source @ (Error::PermissionDenied { .. } | Error::Unauthenticated { .. })) => {
                BucketError::Denied { operation, key, source }
            }
            Some(source) => BucketError::Failed { operation, key, attempts, source },
        }
    }
}

/// Whether another attempt may succeed.
fn is_transient(error: &Error) -> bool {
    matches!(error, Error::Generic { .. } | Error::JoinError { .. })
}
