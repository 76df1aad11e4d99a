//! Decoders that wait for a thread with something to read: what they know of times outlives a query.

use parking_lot::Mutex;
use pyrrha_encoding::SeriesDecoder;

/// Most decoders that wait; each may keep some megabytes.
const WAITING_MAX: usize = 16;

/// Decoders that nobody uses, the one used last on top.
#[derive(Debug, Default)]
pub(crate) struct Decoders(Mutex<Vec<SeriesDecoder>>);

impl Decoders {
    /// One that has read before, or a new one.
    pub(crate) fn take(&self) -> SeriesDecoder {
        self.0.lock().pop().unwrap_or_default()
    }

    /// Gives one back.
    pub(crate) fn put(&self, decoder: SeriesDecoder) {
        let mut waiting = self.0.lock();
        if waiting.len() < WAITING_MAX {
            waiting.push(decoder);
        }
    }
}
