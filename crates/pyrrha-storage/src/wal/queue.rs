//! Admission: batches wait here, in bounded memory per tenant, until a group takes them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use pyrrha_model::TenantId;

use super::{LogBatch, WalError};

/// Where the writer of a batch waits.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    result: Mutex<Option<Result<(), WalError>>>,
    changed: Condvar,
}

impl Outcome {
    pub(super) fn get(&self) -> Option<Result<(), WalError>> {
        self.result.lock().clone()
    }

    pub(super) fn wait(&self) -> Result<(), WalError> {
        let mut result = self.result.lock();
        loop {
            if let Some(result) = &*result {
                return result.clone();
            }
            self.changed.wait(&mut result);
        }
    }
}

/// The committer's end of an [`Outcome`]; dropped without an answer it says that the log closed.
#[derive(Debug)]
pub(super) struct Waiter(Arc<Outcome>);

impl Waiter {
    pub(super) fn new() -> (Self, Arc<Outcome>) {
        let outcome = Arc::new(Outcome::default());
        (Self(outcome.clone()), outcome)
    }

    pub(super) fn finish(self, result: Result<(), WalError>) {
        self.set(result);
    }

    fn set(&self, result: Result<(), WalError>) {
        self.0.result.lock().get_or_insert(result);
        self.0.changed.notify_all();
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.set(Err(WalError::Closed));
    }
}

#[derive(Debug, Default)]
struct TenantQueue {
    waiting: VecDeque<(LogBatch, usize, Waiter)>,
    /// Bytes that wait or are in the group being committed.
    bytes: usize,
}

/// What one group commit takes from the queue.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) batches: Vec<LogBatch>,
    pub(super) waiters: Vec<Waiter>,
    /// Bytes to give back per tenant once the group is through.
    pub(super) charged: Vec<(TenantId, usize)>,
}

/// Batches by tenant, in the order in which each tenant submitted them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    tenants: HashMap<TenantId, TenantQueue>,
    /// Tenants with waiting batches; the first is served first.
    turn: VecDeque<TenantId>,
    /// Batches and bytes that wait.
    pub(super) batches: usize,
    pub(super) bytes: usize,
    pub(super) closed: bool,
}

impl Queue {
    /// Admits a batch, unless its tenant has `limit` bytes waiting. A batch larger than the limit
    /// is admitted when nothing else of its tenant waits.
    pub(super) fn push(&mut self, batch: LogBatch, limit: usize) -> Result<Arc<Outcome>, WalError> {
        if self.closed {
            return Err(WalError::Closed);
        }
        let bytes = batch.bytes();
        let queue = self.tenants.entry(batch.tenant.clone()).or_default();
        if queue.bytes > 0 && queue.bytes + bytes > limit {
            return Err(WalError::QueueFull { tenant: batch.tenant, queued: queue.bytes, limit });
        }
        queue.bytes += bytes;
        if queue.waiting.is_empty() {
            self.turn.push_back(batch.tenant.clone());
        }
        let (waiter, outcome) = Waiter::new();
        queue.waiting.push_back((batch, bytes, waiter));
        self.batches += 1;
        self.bytes += bytes;
        Ok(outcome)
    }

    /// Takes a group of at least one batch and about `limit` bytes. While several tenants wait,
    /// none gets more than half of it before each had its turn.
    pub(super) fn take_group(&mut self, limit: usize) -> Group {
        let mut group = Group::default();
        let (mut room, share) = (limit, if self.turn.len() > 1 { limit / 2 } else { limit });
        for _ in 0..self.turn.len() {
            if room == 0 {
                break;
            }
            let Some(tenant) = self.turn.pop_front() else { break };
            room = room.saturating_sub(self.take_from(&tenant, share.min(room), &mut group));
            if self.tenants.get(&tenant).is_some_and(|q| !q.waiting.is_empty()) {
                self.turn.push_back(tenant);
            }
        }
        group
    }

    /// Takes everything that waits.
    pub(super) fn take_all(&mut self) -> Group {
        let mut group = Group::default();
        while let Some(tenant) = self.turn.pop_front() {
            self.take_from(&tenant, usize::MAX, &mut group);
        }
        group
    }

    fn take_from(&mut self, tenant: &TenantId, limit: usize, group: &mut Group) -> usize {
        let Some(queue) = self.tenants.get_mut(tenant) else { return 0 };
        let mut taken = 0;
        while taken == 0 || taken < limit {
            let Some((batch, bytes, waiter)) = queue.waiting.pop_front() else { break };
            group.batches.push(batch);
            group.waiters.push(waiter);
            taken += bytes;
            self.batches -= 1;
            self.bytes -= bytes;
        }
        group.charged.push((tenant.clone(), taken));
        taken
    }

    /// Gives back what a finished group held.
    pub(super) fn release(&mut self, charged: &[(TenantId, usize)]) {
        for (tenant, bytes) in charged {
            if let Some(queue) = self.tenants.get_mut(tenant) {
                queue.bytes = queue.bytes.saturating_sub(*bytes);
                if queue.bytes == 0 && queue.waiting.is_empty() {
                    self.tenants.remove(tenant);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
