//! What is asked of a bucket, counted per operation: requests are what stores bill.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The operations of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A whole object is read.
    Get,
    /// A range of an object is read.
    GetRange,
    /// An object is written.
    Put,
    /// An object is written if it does not exist.
    Create,
    /// A large object is written in parts; counted once.
    Upload,
    /// The length of an object is asked for.
    Head,
    /// Keys are listed; counted once, however many pages it takes.
    List,
    /// An object is removed.
    Delete,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 8] = [
        Self::Get,
        Self::GetRange,
        Self::Put,
        Self::Create,
        Self::Upload,
        Self::Head,
        Self::List,
        Self::Delete,
    ];

    /// Its name in metrics and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::GetRange => "get_range",
            Self::Put => "put",
            Self::Create => "create",
            Self::Upload => "upload",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Counts of one bucket since it was opened.
#[derive(Debug, Default)]
pub struct Counters {
    attempts: [AtomicU64; Operation::ALL.len()],
    failures: [AtomicU64; Operation::ALL.len()],
    received: AtomicU64,
    sent: AtomicU64,
}

impl Counters {
    /// Requests sent, those that were retried counted each time.
    pub fn attempts(&self, operation: Operation) -> u64 {
        self.attempts[operation as usize].load(Ordering::Relaxed)
    }

    /// Requests that failed or were not answered in time. An object that is not there is no
    /// failure.
    pub fn failures(&self, operation: Operation) -> u64 {
        self.failures[operation as usize].load(Ordering::Relaxed)
    }

    /// Bytes of objects read.
    pub fn received_bytes(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes of objects written.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Requests of all kinds.
    pub fn requests(&self) -> u64 {
        Operation::ALL.iter().map(|&o| self.attempts(o)).sum()
    }

    pub(super) fn attempt(&self, operation: Operation) {
        self.attempts[operation as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failure(&self, operation: Operation) {
        self.failures[operation as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
