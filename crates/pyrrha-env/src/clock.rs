//! The clock door.

use std::time::Duration;

use pyrrha_model::Timestamp;

/// Wall-clock and monotonic time.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Wall-clock time, ms since the Unix epoch. May jump.
    fn now_ms(&self) -> Timestamp;

    /// Time since some fixed moment. Never goes back.
    fn monotonic(&self) -> Duration;

    /// Blocks the calling thread.
    fn sleep(&self, duration: Duration);
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    started: std::time::Instant,
}

#[allow(clippy::disallowed_methods, reason = "this is the door")]
impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> Self {
        Self { started: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the door")]
impl Clock for SystemClock {
    fn now_ms(&self) -> Timestamp {
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => Timestamp::try_from(since.as_millis()).unwrap_or(Timestamp::MAX),
            Err(before) => {
                Timestamp::try_from(before.duration().as_millis()).map_or(Timestamp::MIN, |ms| -ms)
            }
        }
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}
