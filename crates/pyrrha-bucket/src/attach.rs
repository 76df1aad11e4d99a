//! Buckets of Thanos, Mimir and Cortex, read in place: nothing is written there, not even the probe, and
//! no manifest is kept (decision 17).
//!
//! ```text
//! LIST ─► directories, marks, metas ─► rules of visibility ─► tenants ─► streams, by external labels
//!         (listing)                     (rules)               (ownership)     │
//! query ─► matchers on external labels ─► blocks, or windows ─► labels injected ─► replicas as one
//!          (streams)                       (gateway)             (crate::external)
//! ```
//!
//! What a bucket has is looked at again now and then; a query keeps the blocks that it began with.

mod again;
mod listing;
mod ownership;
mod queryable;
mod rules;
mod streams;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard, RwLock};
use pyrrha_env::{Clock, Disk};
use pyrrha_model::contract::CancelToken;
use pyrrha_model::{StoreError, TenantId, Timestamp};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::BlockEntry;

use crate::block_files;
use crate::door::Bucket;
use crate::error::BucketError;
use crate::gateway::{ForeignReader, GatewayConfig, GatewayStats};
use crate::runtime::BucketRuntime;
pub(crate) use listing::Metas;
use listing::{Found, Listing};

pub use ownership::{OwnershipError, TenantRule, TenantRules};
pub use queryable::WithBuckets;
pub use rules::Why;
pub(crate) use rules::{Candidate, have};
use streams::{ForeignStream, streams_of};

/// How often a query that waits for a look of another looks at its cancel flag.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How the blocks of a bucket lie in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BucketLayout {
    /// As the bucket looks: flat if there are blocks at its root.
    #[default]
    Auto,
    /// Thanos' way: `<ULID>/`, told apart by external labels.
    Flat,
    /// Mimir's and Cortex' way: `<tenant>/<ULID>/`, with a bucket index and markers.
    Tenants,
}

/// How an attached bucket is read.
#[derive(Debug, Clone)]
pub struct AttachConfig {
    /// How its blocks lie in it.
    pub layout: BucketLayout,
    /// Whose the blocks of a flat bucket are.
    pub tenants: TenantRules,
    /// Labels that tell replicas of one series apart: they are taken away, and replicas are one.
    pub replica_labels: Vec<String>,
    /// Blocks that are younger are not seen yet, but for those of a compactor. `None`: 30 minutes in a
    /// flat bucket, no time in one with tenants.
    pub consistency_delay: Option<Duration>,
    /// Blocks that were marked for deletion are seen for so long. `None`: 24 hours in a flat bucket, 1
    /// hour in one with tenants.
    pub ignore_deletion_marks_delay: Option<Duration>,
    /// A bucket index that is older is not believed; the tenant's directory is listed. `None`: 1 hour.
    pub index_max_age: Option<Duration>,
    /// Where headers are kept, and how much of the bucket's data.
    pub reading: GatewayConfig,
}

impl AttachConfig {
    /// Everything as usual.
    pub fn new(reading: GatewayConfig) -> Self {
        Self {
            layout: BucketLayout::Auto,
            tenants: TenantRules::default(),
            replica_labels: Vec::new(),
            consistency_delay: None,
            ignore_deletion_marks_delay: None,
            index_max_age: None,
            reading,
        }
    }
}

/// A block of an attached bucket that queries do not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiddenBlock {
    /// Whose it is, if that is known.
    pub tenant: Option<TenantId>,
    /// Its directory in the bucket.
    pub dir: String,
    /// Its id.
    pub block: BlockId,
    /// Why it is not read.
    pub why: Why,
}

/// A block of an attached bucket that queries read.
#[derive(Debug, Clone)]
pub struct SeenBlock {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its directory in the bucket.
    pub dir: String,
    /// What is known of it.
    pub entry: Arc<BlockEntry>,
    /// Its external labels, all of them.
    pub labels: BTreeMap<String, String>,
    /// Why a mark says that nobody should merge it, if one does.
    pub no_compact: Option<String>,
    /// When it was marked for deletion, ms: it will go.
    pub deletion: Option<Timestamp>,
}

/// What a look at a bucket found.
#[derive(Debug, Default)]
pub struct BucketView {
    /// When it was looked at, by the wall clock, ms; 0 if it never was.
    pub looked_at: Timestamp,
    /// What is read.
    pub seen: Vec<SeenBlock>,
    /// What is not.
    pub hidden: Vec<HiddenBlock>,
    /// Tenants whose bucket index answered, so that nothing was listed.
    pub indexed: usize,
    streams: BTreeMap<TenantId, Vec<ForeignStream>>,
}

impl BucketView {
    /// The tenants that have a block.
    pub fn tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.streams.keys()
    }

    /// How many blocks are not read, by the word of why.
    pub fn hidden_by_reason(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for hidden in &self.hidden {
            *counts.entry(hidden.why.word()).or_default() += 1;
        }
        counts
    }
}

/// What a look at a bucket changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    /// Blocks that are read from now on.
    pub added: usize,
    /// Blocks that are not read any more.
    pub removed: usize,
}

/// How looks at a bucket went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looks {
    /// Looks so far, those that failed among them.
    pub done: u64,
    /// Looks that failed.
    pub failed: u64,
    /// Why the last one failed, if it did.
    pub last_error: Option<String>,
}

/// A bucket that somebody else writes.
#[derive(Debug)]
pub struct AttachedBucket {
    reader: ForeignReader,
    config: AttachConfig,
    clock: Arc<dyn Clock>,
    view: RwLock<Arc<BucketView>>,
    /// Metas and marks that were read before.
    metas: Arc<Mutex<Metas>>,
    looks: Mutex<Looks>,
    /// Held while it is looked at.
    looking: Mutex<()>,
    /// Objects that were gone when a query asked for them, since the last look that nobody asked for.
    gone: Mutex<HashSet<String>>,
}

impl AttachedBucket {
    /// Attaches a bucket. Nothing is asked of it before [`look`](Self::look).
    pub fn new(
        bucket: Bucket,
        runtime: Arc<BucketRuntime>,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        config: AttachConfig,
    ) -> Self {
        let reader = ForeignReader::new(bucket, runtime, disk, config.reading.clone());
        Self {
            reader,
            config,
            clock,
            view: RwLock::default(),
            metas: Arc::default(),
            looks: Mutex::default(),
            looking: Mutex::default(),
            gone: Mutex::default(),
        }
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        self.reader.bucket().name()
    }

    /// The bucket.
    pub fn bucket(&self) -> &Bucket {
        self.reader.bucket()
    }

    /// What the last look found.
    pub fn view(&self) -> Arc<BucketView> {
        self.view.read().clone()
    }

    /// What the caches hold and did.
    pub fn stats(&self) -> GatewayStats {
        self.reader.stats()
    }

    /// Looks at the bucket. Waits for requests, so it must not be called on a thread of a runtime. After
    /// an error everything stays as it was.
    pub fn look(&self) -> Result<Looked, StoreError> {
        let one = self.looking.lock();
        self.gone.lock().clear();
        self.look_now(&one, &CancelToken::default())
    }

    /// How looks went so far.
    pub fn looks(&self) -> Looks {
        self.looks.lock().clone()
    }

    /// Looks at the bucket because an object is gone that a query of `view` needs, unless somebody has looked
    /// since, or has looked because of it before: then it is still gone. Fails only if the query is stopped,
    /// which ends the look.
    fn look_for(&self, key: &str, view: &Arc<BucketView>, cancel: &CancelToken) -> Result<(), StoreError> {
        let one = loop {
            cancel.check()?;
            if let Some(one) = self.looking.try_lock_for(LOOK_EVERY) {
                break one;
            }
        };
        if !Arc::ptr_eq(&self.view(), view) || !self.gone.lock().insert(key.to_owned()) {
            return Ok(());
        }
        tracing::info!(
            bucket = self.name(),
            key,
            "object is gone from an attached bucket, which is looked at again"
        );
        if let Err(error) = self.look_now(&one, cancel) {
            if cancel.reason().is_some() {
                // It was not looked for to the end.
                self.gone.lock().remove(key);
                return Err(error);
            }
            tracing::warn!(bucket = self.name(), %error, "attached bucket cannot be looked at, its blocks stay as they are");
        }
        Ok(())
    }

    /// Looks while nobody else does.
    fn look_now(&self, _one: &MutexGuard<'_, ()>, cancel: &CancelToken) -> Result<Looked, StoreError> {
        let looked = self.try_look(cancel);
        let mut looks = self.looks.lock();
        if looked.is_err() && cancel.reason().is_some() {
            // The query was stopped, which says nothing of the bucket.
            return looked;
        }
        looks.done += 1;
        looks.failed += u64::from(looked.is_err());
        looks.last_error = looked.as_ref().err().map(ToString::to_string);
        looked
    }

    fn try_look(&self, cancel: &CancelToken) -> Result<Looked, StoreError> {
        let listing = Listing {
            bucket: self.reader.bucket().clone(),
            config: self.config.clone(),
            now: self.clock.now_ms(),
            by_index: true,
            known: self.metas.clone(),
        };
        let found = self.reader.runtime().wait_while(cancel, listing.run())?;
        Ok(self.show(found))
    }

    /// Makes what was found what queries read.
    fn show(&self, found: Found) -> Looked {
        let now = self.clock.now_ms();
        let before = self.view();
        let was: HashMap<(&str, BlockId), &SeenBlock> =
            before.seen.iter().map(|b| ((b.dir.as_str(), b.entry.ulid), b)).collect();
        let (mut seen, mut hidden) = (Vec::new(), Vec::new());
        let rules = rules::Rules::of(&self.config, found.layout, now);
        for (block, why) in rules.sort_out(found.blocks, &self.config.tenants) {
            let Candidate { tenant, dir, entry, labels, deletion, no_compact, .. } = block;
            match (why, tenant) {
                (None, Some(tenant)) => {
                    seen.push(SeenBlock { tenant, dir, entry, labels, no_compact, deletion });
                }
                (why, tenant) => {
                    let why = why.unwrap_or(Why::NoTenant);
                    hidden.push(HiddenBlock { tenant, dir, block: entry.ulid, why });
                }
            }
        }
        let kept = |b: &&SeenBlock| was.contains_key(&(b.dir.as_str(), b.entry.ulid));
        let stay = seen.iter().filter(kept).count();
        let looked = Looked { added: seen.len() - stay, removed: before.seen.len().saturating_sub(stay) };
        self.complain(&before.hidden, &hidden);
        let streams = {
            let owner = self.config.tenants.label.as_deref();
            streams_of(&self.reader, &seen, &before.streams, &self.config.replica_labels, owner)
        };
        if looked != Looked::default() {
            let (bucket, blocks) = (self.name(), seen.len());
            tracing::info!(%bucket, blocks, added = looked.added, removed = looked.removed, "attached bucket changed");
        }
        let view = Arc::new(BucketView { looked_at: now, seen, hidden, indexed: found.indexed, streams });
        *self.view.write() = view.clone();
        if looked.removed > 0 || before.looked_at == 0 {
            self.reader.sweep(view.seen.iter().map(|block| block.dir.as_str()));
        }
        looked
    }

    /// Warns of what cannot be read and was not hidden for that before.
    fn complain(&self, before: &[HiddenBlock], hidden: &[HiddenBlock]) {
        let said: HashMap<&str, &Why> = before.iter().map(|b| (b.dir.as_str(), &b.why)).collect();
        let bad = hidden.iter().filter(|b| matches!(b.why, Why::Damaged(_) | Why::NoTenant));
        for HiddenBlock { dir, why, .. } in bad.filter(|b| said.get(b.dir.as_str()) != Some(&&b.why)) {
            tracing::warn!(bucket = self.name(), %dir, %why, "block of an attached bucket is left out");
        }
    }
}

/// All blocks of a bucket by listing it, whether there is a bucket index or not, each with the reason for
/// which an attached bucket would not read it. Small objects that are `known` are not read again.
pub(crate) async fn survey(
    bucket: Bucket,
    config: AttachConfig,
    now: Timestamp,
    known: Arc<Mutex<Metas>>,
) -> Result<Vec<(Candidate, Option<Why>)>, BucketError> {
    let found = Listing { bucket, config: config.clone(), now, by_index: false, known }.run().await?;
    Ok(rules::Rules::of(&config, found.layout, now).sort_out(found.blocks, &config.tenants))
}

/// The entry of a block of which only the files are known.
fn entry_without_meta(block: BlockId) -> BlockEntry {
    block_files::entry(&pyrrha_storage::block::BlockMeta::of_head(block, 0, 0), Vec::new())
}

#[cfg(test)]
pub(crate) mod tests;
