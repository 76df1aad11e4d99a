//! Remote write 1.0 and 2.0: negotiation, decoding, and the way into a store.
//!
//! A body is decoded once by a strict walk that copies no label; the series of the request are
//! looked up in one pass by a hash of their raw labels; only a series that is not known has its
//! labels checked, built and resolved. Good samples are committed even if others are refused
//! (decision 7). Source: Prometheus' remote write 1.0 and 2.0 specifications.

mod histogram;
mod outcome;
mod protocol;
mod request;
mod v1;
mod v2;
mod wire;
mod write;

use pyrrha_model::contract::SeriesKey;

pub use outcome::{WriteError, WriteOutcome};
pub use protocol::{NegotiationError, Protocol};
pub use write::RemoteWriter;

/// Hashes raw label bytes into cache keys, with a seed that is secret to this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyHasher {
    seed: u64,
}

impl KeyHasher {
    pub(crate) fn new() -> Self {
        use std::hash::{BuildHasher, Hasher};
        Self { seed: std::hash::RandomState::new().build_hasher().finish() }
    }

    #[inline]
    pub(crate) fn hash(self, bytes: &[u8]) -> SeriesKey {
        SeriesKey(xxhash_rust::xxh3::xxh3_128_with_seed(bytes, self.seed))
    }
}

#[cfg(test)]
mod tests;
