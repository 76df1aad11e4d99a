//! When a request is tried again, and how long it may take.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use object_store::Error;

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
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(5),
            timeout: Duration::from_secs(60),
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
            let error = match self.attempt(operation, policy.timeout, &request).await {
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
        timeout: Duration,
        request: &impl Fn() -> F,
    ) -> Result<Result<T, Error>, tokio::time::error::Elapsed>
    where
        F: Future<Output = Result<T, Error>>,
    {
        // The semaphore is never closed.
        let _slot = self.0.slots.acquire().await.ok();
        self.0.counters.attempt(operation);
        tokio::time::timeout(timeout, request()).await
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
