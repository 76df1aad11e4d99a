//! Threads that help queries and stay between them: waking one takes a third of what starting one does, and
//! what it knows of the heap is still there.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon_core::{ThreadPool, ThreadPoolBuilder};

/// The helpers of an engine, started when the first query wants one.
#[derive(Debug, Default)]
pub(crate) struct Helpers {
    /// How many there may be.
    most: usize,
    busy: AtomicUsize,
    pool: OnceLock<Option<ThreadPool>>,
}

/// Helpers that nobody else has.
pub(crate) struct Taken<'h> {
    helpers: &'h Helpers,
    pool: Option<&'h ThreadPool>,
    count: usize,
}

impl Helpers {
    /// For an engine whose queries may use so many threads. Queries that begin share them as they then are,
    /// so that all together want at most about twice as many.
    pub(crate) fn new(threads: usize) -> Self {
        Self { most: if threads > 1 { 2 * threads } else { 0 }, ..Self::default() }
    }

    /// Up to `wanted` helpers, as many as are free: what is handed to them begins at once.
    pub(crate) fn take(&self, wanted: usize) -> Taken<'_> {
        let mut taken = Taken { helpers: self, pool: None, count: 0 };
        if wanted == 0 || self.most == 0 {
            return taken;
        }
        taken.pool = self.pool.get_or_init(|| start(self.most)).as_ref();
        if taken.pool.is_some() {
            let all = |busy: usize| busy + wanted.min(self.most.saturating_sub(busy));
            let before = self.busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |busy| Some(all(busy)));
            let (Ok(before) | Err(before)) = before;
            taken.count = all(before) - before;
        }
        taken
    }
}

/// Where no thread can be started, queries do without.
fn start(threads: usize) -> Option<ThreadPool> {
    ThreadPoolBuilder::new().num_threads(threads).thread_name(|_| "query".to_owned()).build().ok()
}

impl Taken<'_> {
    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Runs `own` on this thread and `help` with its number on each of the helpers. Returns when all are
    /// done; a panic of one of them goes on here.
    pub(crate) fn run(&self, help: impl Fn(usize) + Sync, own: impl FnOnce()) {
        let Some(pool) = self.pool else { return own() };
        pool.in_place_scope(|scope| {
            for number in 0..self.count {
                let help = &help;
                scope.spawn(move |_| help(number));
            }
            own();
        });
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.helpers.busy.fetch_sub(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
