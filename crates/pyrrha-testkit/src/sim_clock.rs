//! A clock that a test moves by hand.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use pyrrha_env::Clock;
use pyrrha_model::Timestamp;

/// Wall time may be set and jump; monotonic time only advances. Sleeping advances both at once.
#[derive(Debug)]
pub struct SimClock {
    wall_ms: AtomicI64,
    monotonic_ns: AtomicU64,
}

impl SimClock {
    /// A clock that shows `wall_ms`.
    pub fn new(wall_ms: Timestamp) -> Self {
        Self { wall_ms: AtomicI64::new(wall_ms), monotonic_ns: AtomicU64::new(0) }
    }

    /// Lets time pass.
    pub fn advance(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let before = self.monotonic_ns.fetch_add(ns, Ordering::SeqCst);
        let ms = (before.wrapping_add(ns) / 1_000_000).wrapping_sub(before / 1_000_000);
        self.wall_ms.fetch_add(ms as i64, Ordering::SeqCst);
    }

    /// Sets the wall clock; no time passes.
    pub fn set_wall(&self, wall_ms: Timestamp) {
        self.wall_ms.store(wall_ms, Ordering::SeqCst);
    }

    /// Moves the wall clock; no time passes.
    pub fn jump_wall(&self, by_ms: i64) {
        self.wall_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> Timestamp {
        self.wall_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic_ns.load(Ordering::SeqCst))
    }

    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_jumps_and_the_monotonic_clock_does_not() {
        let clock = SimClock::new(1_000);
        clock.sleep(Duration::from_micros(1_500));
        clock.sleep(Duration::from_micros(500));
        assert_eq!((clock.now_ms(), clock.monotonic()), (1_002, Duration::from_millis(2)));
        clock.jump_wall(-5_000);
        assert_eq!((clock.now_ms(), clock.monotonic()), (-3_998, Duration::from_millis(2)));
        clock.set_wall(7);
        assert_eq!(clock.now_ms(), 7);
    }
}
