//! What travels with a read: tenant, budget, cancellation, symbols, notices, counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::Fetched;
use crate::{ErrorKind, StoreError, SymbolTable, TenantId, TimeRange};

/// Why a query was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelReason {
    /// The client left, or an operator cancelled it.
    Canceled,
    /// Its deadline passed.
    TimedOut,
}

/// A flag that every loop over series, chunks or output looks at. Whoever watches the clock or the
/// connection sets it; loops need no clock of their own.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<AtomicU8>);

impl CancelToken {
    /// Asks the query to stop. The first reason stays.
    pub fn cancel(&self, reason: CancelReason) {
        let code = match reason {
            CancelReason::Canceled => 1,
            CancelReason::TimedOut => 2,
        };
        let _ = self.0.compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Why the query should stop, if it should.
    pub fn reason(&self) -> Option<CancelReason> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(CancelReason::Canceled),
            _ => Some(CancelReason::TimedOut),
        }
    }

    /// An error if the query should stop.
    pub fn check(&self) -> Result<(), StoreError> {
        match self.reason() {
            None => Ok(()),
            Some(CancelReason::Canceled) => {
                Err(StoreError::new(ErrorKind::Canceled, "query was canceled in query execution"))
            }
            Some(CancelReason::TimedOut) => {
                Err(StoreError::new(ErrorKind::Timeout, "query timed out in query execution"))
            }
        }
    }
}

/// A budget of bytes with an optional parent: query under tenant under process. A reservation
/// counts in the whole chain, and is made before memory is allocated.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    name: &'static str,
    limit: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
    parent: Option<MemoryBudget>,
}

impl MemoryBudget {
    /// A budget of `limit` bytes; `name` is the limit's name in errors ("query", "tenant",
    /// "process").
    pub fn new(name: &'static str, limit: usize, parent: Option<&MemoryBudget>) -> Self {
        Self(Arc::new(Budget {
            name,
            limit,
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            parent: parent.cloned(),
        }))
    }

    /// A budget that never refuses, for tests and tools.
    pub fn unlimited() -> Self {
        Self::new("unlimited", usize::MAX, None)
    }

    /// Counts `bytes` as used, or fails with `Limit` and leaves everything as it was.
    pub fn reserve(&self, bytes: usize) -> Result<(), StoreError> {
        let budget = &*self.0;
        let before = budget.used.fetch_add(bytes, Ordering::Relaxed);
        let wanted = before.saturating_add(bytes);
        if wanted > budget.limit {
            budget.used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(StoreError::new(
                ErrorKind::Limit,
                format!(
                    "{} memory budget exceeded: limit={} bytes, in use={before} bytes, wanted={bytes} bytes more",
                    budget.name, budget.limit
                ),
            ));
        }
        if let Some(parent) = &budget.parent
            && let Err(error) = parent.reserve(bytes)
        {
            budget.used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(error);
        }
        budget.peak.fetch_max(wanted, Ordering::Relaxed);
        Ok(())
    }

    /// Gives back what was reserved.
    pub fn release(&self, bytes: usize) {
        let before = self.0.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "released more than was reserved");
        if let Some(parent) = &self.0.parent {
            parent.release(bytes);
        }
    }

    /// Bytes in use now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Bytes that could be reserved now, by the limits of the whole chain.
    pub fn available(&self) -> usize {
        let own = self.0.limit.saturating_sub(self.used());
        self.0.parent.as_ref().map_or(own, |parent| own.min(parent.available()))
    }

    /// Most bytes ever in use at once.
    pub fn peak(&self) -> usize {
        self.0.peak.load(Ordering::Relaxed)
    }
}

/// Where sources leave what the answer has to say about itself.
#[derive(Debug, Default)]
pub struct Notices {
    warnings: Mutex<Vec<String>>,
    gaps: Mutex<Vec<(TimeRange, String)>>,
}

impl Notices {
    /// Adds a warning, once.
    pub fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        let mut warnings = self.warnings.lock();
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// Says that data of `range` is missing from the answer, and why.
    pub fn gap(&self, range: TimeRange, why: impl Into<String>) {
        self.gaps.lock().push((range, why.into()));
    }

    /// Warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }

    /// Gaps so far.
    pub fn gaps(&self) -> Vec<(TimeRange, String)> {
        self.gaps.lock().clone()
    }

    /// How many gaps there are so far.
    pub fn gap_count(&self) -> usize {
        self.gaps.lock().len()
    }
}

/// What travels with a read. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct QueryContext {
    /// Whose data.
    pub tenant: TenantId,
    /// Bytes this query may hold.
    pub budget: MemoryBudget,
    /// Looked at by every loop.
    pub cancel: CancelToken,
    /// Symbols of this query: all label ids in its batches are ids of this table.
    pub symbols: Arc<SymbolTable>,
    /// Warnings and gaps of the answer.
    pub notices: Arc<Notices>,
    /// What was fetched from an object store.
    pub fetched: Arc<Fetched>,
    /// Whether an answer with gaps is wanted instead of an error.
    pub partial_response: bool,
}

impl QueryContext {
    /// A context with its own symbol table.
    pub fn new(tenant: TenantId, budget: MemoryBudget, cancel: CancelToken) -> Self {
        Self {
            tenant,
            budget,
            cancel,
            symbols: Arc::new(SymbolTable::new()),
            notices: Arc::default(),
            fetched: Arc::default(),
            partial_response: false,
        }
    }

    /// An anonymous, unlimited context, for tests and tools.
    pub fn unlimited() -> Self {
        Self::new(TenantId::anonymous(), MemoryBudget::unlimited(), CancelToken::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_reservation_changes_nothing_in_the_chain() {
        let process = MemoryBudget::new("process", 100, None);
        let query = MemoryBudget::new("query", 1000, Some(&process));
        query.reserve(60).expect("fits both");
        let error = query.reserve(50).expect_err("over the process limit");
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.to_string().starts_with("process memory budget exceeded"), "{error}");
        assert_eq!((query.used(), process.used()), (60, 60));
        assert_eq!(query.available(), 40);
        query.release(60);
        assert_eq!((query.used(), process.used(), query.peak()), (0, 0, 60));
    }

    #[test]
    fn the_first_cancel_reason_stays() {
        let token = CancelToken::default();
        assert!(token.check().is_ok());
        token.cancel(CancelReason::TimedOut);
        token.clone().cancel(CancelReason::Canceled);
        assert_eq!(token.reason(), Some(CancelReason::TimedOut));
    }
}
