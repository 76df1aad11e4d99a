//! What is known of blocks that were opened, in memory within a hard budget: what was not asked for the
//! longest time goes first. What queries hold beyond it is charged to them.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;
use pyrrha_model::StoreError;
use pyrrha_model::contract::QueryContext;

use super::block::Opened;
use super::budget::Reserved;
use super::pages::CacheStats;

/// Blocks that are looked at for one that nobody reads, before a query is charged instead.
const LOOKS: usize = 64;

/// Opened blocks by their number in this process.
#[derive(Debug)]
pub(super) struct OpenBlocks {
    limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    blocks: HashMap<u64, Held>,
    /// Numbers by when they were asked for last.
    order: BTreeMap<u64, u64>,
    clock: u64,
    stats: CacheStats,
}

#[derive(Debug)]
struct Held {
    opened: Arc<Opened>,
    bytes: usize,
    asked: u64,
}

/// An opened block while somebody reads it.
#[derive(Debug)]
pub(super) struct Lease {
    opened: Arc<Opened>,
    _beyond: Option<Reserved>,
}

impl Deref for Lease {
    type Target = Opened;

    fn deref(&self) -> &Opened {
        &self.opened
    }
}

impl OpenBlocks {
    /// At most so many bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, inner: Mutex::default() }
    }

    /// What is held, and what became of what was asked for.
    pub(super) fn stats(&self) -> CacheStats {
        self.inner.lock().stats
    }

    /// A block that is here.
    pub(super) fn get(&self, number: u64) -> Option<Lease> {
        let inner = &mut *self.inner.lock();
        let held = inner.blocks.get_mut(&number)?;
        inner.stats.hits += 1;
        inner.clock += 1;
        inner.order.remove(&held.asked);
        held.asked = inner.clock;
        inner.order.insert(held.asked, number);
        Some(Lease { opened: held.opened.clone(), _beyond: None })
    }

    /// Keeps a block that was opened, if there is room or can be made; if not, its memory is the query's.
    pub(super) fn put(&self, number: u64, opened: Opened, ctx: &QueryContext) -> Result<Lease, StoreError> {
        let (bytes, opened) = (opened.bytes(), Arc::new(opened));
        let inner = &mut *self.inner.lock();
        inner.stats.misses += 1;
        inner.remove(number);
        if bytes > self.limit || !inner.make_room(self.limit, bytes) {
            return Ok(Lease { opened, _beyond: Some(Reserved::new(ctx, bytes as u64)?) });
        }
        inner.clock += 1;
        let asked = inner.clock;
        inner.blocks.insert(number, Held { opened: opened.clone(), bytes, asked });
        inner.order.insert(asked, number);
        inner.stats.bytes += bytes;
        Ok(Lease { opened, _beyond: None })
    }

    /// Forgets a block.
    pub(super) fn remove(&self, number: u64) {
        self.inner.lock().remove(number);
    }
}

impl Inner {
    fn remove(&mut self, number: u64) -> bool {
        let Some(held) = self.blocks.remove(&number) else { return false };
        self.order.remove(&held.asked);
        self.stats.bytes -= held.bytes;
        true
    }

    /// Removes what nobody reads, the oldest first, until there is room.
    fn make_room(&mut self, limit: usize, bytes: usize) -> bool {
        let mut looks = 0;
        while self.stats.bytes.saturating_add(bytes) > limit {
            let Some((asked, number)) = self.order.pop_first() else { return false };
            let Some(held) = self.blocks.get_mut(&number) else { continue };
            if Arc::strong_count(&held.opened) == 1 {
                held.asked = asked;
                self.stats.evicted += u64::from(self.remove(number));
                continue;
            }
            // Somebody reads it, so it is asked for now.
            self.clock += 1;
            held.asked = self.clock;
            self.order.insert(held.asked, number);
            looks += 1;
            if looks == LOOKS {
                return false;
            }
        }
        true
    }
}
