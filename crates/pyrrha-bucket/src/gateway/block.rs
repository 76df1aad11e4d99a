//! A block in the bucket: its objects, its header, and which series match.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use pyrrha_env::Disk;
use pyrrha_index::{IndexError, IndexHeader, KnownLists, LabelIndex, RoaringBitmap, postings_for_matchers};
use pyrrha_model::contract::QueryContext;
use pyrrha_model::{ErrorKind, Matcher, StoreError, TenantId, TimeRange};
use pyrrha_storage::block::{BlockDeletes, BlockId, HAVING_FILE, Tombstones, WINDOWS_FILE};
use pyrrha_storage::manifest::BlockEntry;
use tokio::sync::OnceCell;

use super::budget::Reserved;
use super::open_blocks::Lease;
use super::pages::Caches;
use super::ranges::RangedObject;
use super::stored_lists::StoredLists;
use super::windows::WindowFiles;
use super::{Gateway, header};
use crate::block_files::{self, BlockFile, external_labels, files};
use crate::door::Bucket;
use crate::error::BucketError;
use crate::external::External;

/// Largest tombstones file that is read.
const TOMBSTONES_MAX: u64 = 256 << 20;
/// What an opened block takes beside its tables: the map of its header's file, and what leads to it.
const OPENED_BYTES: usize = 4096;
/// A label name in the table of stored lists.
const NAME_BYTES: usize = 96;

/// A block that is read by ranges. Nothing is fetched before a query asks.
#[derive(Debug)]
pub(crate) struct BucketBlock {
    pub(super) entry: Arc<BlockEntry>,
    /// Labels that its series have beside those in the block, as far as its entry says.
    pub(super) external: External,
    bucket: Bucket,
    disk: Arc<dyn Disk>,
    caches: Arc<Caches>,
    /// Its directory in the bucket.
    key: String,
    kept: PathBuf,
    files: Vec<BlockFile>,
    /// Its number in this process.
    number: u64,
    /// Held by whoever opens it.
    opening: tokio::sync::Mutex<()>,
    index: OnceLock<Arc<RangedObject>>,
    segments: Mutex<HashMap<u32, Arc<RangedObject>>>,
    sidecars: Mutex<HashMap<&'static str, Arc<RangedObject>>>,
}

/// What is known of a block once its header is here.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) header: Arc<IndexHeader>,
    pub(super) index: Arc<RangedObject>,
    pub(super) tombstones: Tombstones,
    pub(super) deletes: BlockDeletes,
    windows: OnceCell<Option<WindowFiles>>,
    having: OnceCell<Option<StoredLists>>,
    bytes: usize,
}

impl Opened {
    /// Memory that it takes, with what is read into it later, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Where a block is, and what reading it shares with others.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) bucket: Bucket,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) caches: Arc<Caches>,
    /// Its directory in the bucket.
    pub(super) key: String,
    /// Where its header is kept.
    pub(super) kept: PathBuf,
}

impl BucketBlock {
    pub(super) fn new(gateway: &Gateway, tenant: &TenantId, entry: Arc<BlockEntry>) -> Self {
        let kept = gateway.config.cache_dir.join(tenant.as_str()).join(format!("{}.header", entry.ulid));
        let place = Place {
            bucket: gateway.tenants.bucket().clone(),
            disk: gateway.disk.clone(),
            caches: gateway.caches.clone(),
            key: block_files::dir(tenant, &entry),
            kept,
        };
        let external = External::of_listed(external_labels(&entry), &gateway.replica_labels);
        Self::at(place, entry, external)
    }

    /// A block at a place.
    pub(super) fn at(place: Place, entry: Arc<BlockEntry>, external: External) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let Place { bucket, disk, caches, key, kept } = place;
        Self {
            bucket,
            disk,
            caches,
            key,
            kept,
            files: files(&entry),
            external,
            entry,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            opening: tokio::sync::Mutex::default(),
            index: OnceLock::new(),
            segments: Mutex::default(),
            sidecars: Mutex::default(),
        }
    }

    /// Its id.
    pub(super) fn id(&self) -> BlockId {
        self.entry.ulid
    }

    /// Its range.
    pub(super) fn range(&self) -> TimeRange {
        self.entry.range()
    }

    /// An error of its index, with the block's name.
    pub(super) fn blame(&self, error: IndexError) -> StoreError {
        match error {
            IndexError::Stopped(stopped) => stopped,
            error => StoreError::new(error.kind(), format!("block={} file=index: {error}", self.id())),
        }
    }

    /// An error of another file.
    pub(super) fn corrupt(&self, what: String) -> StoreError {
        StoreError::new(ErrorKind::Corrupt, format!("block is corrupt: {what} block={}", self.id()))
    }

    fn file_bytes(&self, name: &str) -> Option<u64> {
        self.files.iter().find(|f| f.name == name).map(|f| f.bytes)
    }

    /// What is known of it, from memory, from the local file, or from the bucket.
    pub(super) async fn open(&self, ctx: &QueryContext) -> Result<Lease, StoreError> {
        if let Some(open) = self.caches.open.get(self.number) {
            return Ok(open);
        }
        let _one = self.opening.lock().await;
        match self.caches.open.get(self.number) {
            Some(open) => Ok(open),
            None => self.caches.open.put(self.number, self.open_now(ctx).await?, ctx),
        }
    }

    async fn open_now(&self, ctx: &QueryContext) -> Result<Opened, StoreError> {
        let key = format!("{}/index", self.key);
        let bytes = match self.file_bytes("index") {
            Some(bytes) => bytes,
            None => {
                let found = self.bucket.head(&key).await?;
                ctx.fetched.request(0);
                found.ok_or_else(|| BucketError::NotFound { key: key.clone() })?.bytes
            }
        };
        let index =
            || Arc::new(RangedObject::new(self.bucket.clone(), key.clone(), self.caches.clone(), bytes));
        let index = self.index.get_or_init(index).clone();
        let (header, in_memory) = match header::load(&*self.disk, &self.kept, bytes) {
            Some(header) => (header, 0),
            None => self.fetch_header(ctx, &index, &key, bytes).await?,
        };
        let (tombstones, listed) = self.fetch_tombstones(ctx).await?;
        let (deletes, hidden) = self.fetch_deletes(ctx).await?;
        let beside = |name: &str, bytes| if self.file_bytes(name).is_some() { bytes } else { 0 };
        let names = header.label_value_counts().count();
        let bytes = OPENED_BYTES
            + in_memory
            + header.table_bytes()
            + 2 * (listed + hidden)
            + beside(HAVING_FILE, names * NAME_BYTES)
            + beside(WINDOWS_FILE, (self.entry.series / 32) as usize);
        Ok(Opened {
            header: Arc::new(header),
            index,
            tombstones,
            deletes,
            windows: OnceCell::new(),
            having: OnceCell::new(),
            bytes,
        })
    }

    /// The header and what it holds in memory beside its tables.
    async fn fetch_header(
        &self,
        ctx: &QueryContext,
        index: &RangedObject,
        key: &str,
        bytes: u64,
    ) -> Result<(IndexHeader, usize), StoreError> {
        let mut reserved = Reserved::new(ctx, 0)?;
        let (parts, whole) = header::fetch(&self.bucket, key, bytes, &mut reserved).await?;
        if let Some(whole) = whole {
            index.keep(0, whole).await;
        }
        let fetched = IndexHeader::open(&parts, bytes).map_err(|e| self.blame(e))?;
        if let Err(error) = header::keep(&*self.disk, &self.kept, &parts, bytes) {
            tracing::warn!(path = %self.kept.display(), %error, "header cannot be kept and is fetched again at the next start");
            return Ok((fetched, parts.len()));
        }
        // From the file it is memory that the system may take back.
        match header::load(&*self.disk, &self.kept, bytes) {
            Some(kept) => Ok((kept, 0)),
            None => Ok((fetched, parts.len())),
        }
    }

    /// The tombstones, and how long their file is.
    async fn fetch_tombstones(&self, ctx: &QueryContext) -> Result<(Tombstones, usize), StoreError> {
        // An entry that names its files says whether there are any.
        if !self.files.is_empty() && self.file_bytes("tombstones").is_none() {
            return Ok((Tombstones::default(), 0));
        }
        let found = self.bucket.get(&format!("{}/tombstones", self.key), TOMBSTONES_MAX).await?;
        ctx.fetched.request(found.as_ref().map_or(0, |bytes| bytes.len() as u64));
        match found {
            Some(bytes) => Ok((Tombstones::parse(&self.id().to_string(), &bytes)?, bytes.len())),
            None => Ok((Tombstones::default(), 0)),
        }
    }

    /// What it lists of deletes, and how long that file is.
    async fn fetch_deletes(&self, ctx: &QueryContext) -> Result<(BlockDeletes, usize), StoreError> {
        // Only we write it, and our entries name it.
        if self.file_bytes("deletes").is_none() {
            return Ok((BlockDeletes::default(), 0));
        }
        let found = self.bucket.get(&format!("{}/deletes", self.key), TOMBSTONES_MAX).await?;
        ctx.fetched.request(found.as_ref().map_or(0, |bytes| bytes.len() as u64));
        // Without it what is deleted would be there again.
        let bytes = found.ok_or_else(|| self.corrupt("deletes are gone".to_owned()))?;
        let length = bytes.len();
        Ok((BlockDeletes::parse(&self.id().to_string(), bytes)?, length))
    }

    /// A chunk segment, numbered from 0.
    pub(super) fn segment(&self, number: u32) -> Arc<RangedObject> {
        let open = || {
            let name = format!("chunks/{:06}", u64::from(number) + 1);
            let bytes = self.file_bytes(&name).unwrap_or(u64::MAX);
            let key = format!("{}/{name}", self.key);
            Arc::new(RangedObject::new(self.bucket.clone(), key, self.caches.clone(), bytes))
        };
        self.segments.lock().entry(number).or_insert_with(open).clone()
    }

    /// A file beside the standard ones with its length, if the manifest names it.
    pub(super) fn beside(&self, name: &str) -> Option<(RangedObject, u64)> {
        let bytes = self.file_bytes(name)?;
        let key = format!("{}/{name}", self.key);
        Some((RangedObject::new(self.bucket.clone(), key, self.caches.clone(), bytes), bytes))
    }

    /// The same for a file that is read again and again: its pages are found in the caches.
    pub(super) fn sidecar(&self, name: &'static str) -> Option<(Arc<RangedObject>, u64)> {
        let bytes = self.file_bytes(name)?;
        let open = || {
            let key = format!("{}/{name}", self.key);
            Arc::new(RangedObject::new(self.bucket.clone(), key, self.caches.clone(), bytes))
        };
        Some((self.sidecars.lock().entry(name).or_insert_with(open).clone(), bytes))
    }

    /// The files of its windows, if it has them.
    pub(super) async fn windows<'o>(
        &self,
        ctx: &QueryContext,
        opened: &'o Opened,
    ) -> Result<Option<&'o WindowFiles>, StoreError> {
        Ok(opened.windows.get_or_try_init(|| WindowFiles::open(self, ctx)).await?.as_ref())
    }

    /// The lists that are kept beside its index, if it has them.
    async fn having<'o>(
        &self,
        ctx: &QueryContext,
        opened: &'o Opened,
    ) -> Result<Option<&'o StoredLists>, StoreError> {
        Ok(opened.having.get_or_try_init(|| StoredLists::open(self, ctx)).await?.as_ref())
    }

    /// The series that satisfy all matchers.
    pub(super) async fn matching(
        &self,
        ctx: &QueryContext,
        opened: &Opened,
        matchers: &[Matcher],
    ) -> Result<RoaringBitmap, StoreError> {
        self.with_lists(
            ctx,
            opened,
            |lists| lists.want_each(matchers, &ctx.cancel),
            |lists| postings_for_matchers(lists, matchers, &ctx.cancel),
        )
        .await
    }

    /// The values of a label that the series of `within` have, `most` at most.
    pub(super) async fn values_within(
        &self,
        ctx: &QueryContext,
        opened: &Opened,
        name: &str,
        within: &RoaringBitmap,
        most: usize,
    ) -> Result<BTreeSet<String>, StoreError> {
        let ask = |lists: &KnownLists<'_>| {
            lists.values_of(name, Some(within), most, &mut |_| Ok(ctx.cancel.check().map(|()| true)?))
        };
        let values = self.with_lists(ctx, opened, |lists| ask(lists).map(|_| ()), ask).await?;
        Ok(values.into_iter().collect())
    }

    /// Answers a question over postings lists. What is missing of them is fetched in rounds,
    /// usually one: `prepare` notes as much as it can at once.
    async fn with_lists<T>(
        &self,
        ctx: &QueryContext,
        opened: &Opened,
        prepare: impl Fn(&KnownLists<'_>) -> Result<(), IndexError>,
        ask: impl Fn(&KnownLists<'_>) -> Result<T, IndexError>,
    ) -> Result<T, StoreError> {
        let mut reserved = Reserved::new(ctx, 0)?;
        let mut fetched: HashMap<u64, (Range<u64>, Bytes)> = HashMap::new();
        let mut having = self.beside(HAVING_FILE).map(|_| HashMap::new());
        let (mut first, mut unusable) = (true, false);
        loop {
            ctx.cancel.check()?;
            // Made anew each round: what looks at the lists may not live across a wait.
            let (wanted, names) = {
                let mut lists = KnownLists::new(&opened.header);
                if let Some(having) = having.take() {
                    lists = lists.with_having(having);
                }
                for (range, bytes) in fetched.values() {
                    lists.add(range, bytes).map_err(|e| self.blame(e))?;
                }
                let (mut wanted, mut names) = (lists.take_wanted(), Vec::new());
                if wanted.is_empty() && first {
                    prepare(&lists).map_err(|e| self.blame(e))?;
                    (wanted, names) = (lists.take_wanted(), lists.take_wanted_names());
                }
                if wanted.is_empty() && names.is_empty() {
                    let answer = ask(&lists).map_err(|e| self.blame(e))?;
                    (wanted, names) = (lists.take_wanted(), lists.take_wanted_names());
                    if wanted.is_empty() && names.is_empty() {
                        return Ok(answer);
                    }
                }
                having = lists.take_having();
                (wanted, names)
            };
            first = false;
            if let Some(having) = &mut having
                && !names.is_empty()
            {
                let read = match self.having(ctx, opened).await {
                    Ok(Some(stored)) => stored.read(self, &names, having, &mut reserved).await.map(|()| true),
                    other => other.map(|_| false),
                };
                // The index has the lists, too.
                if !usable(read)? {
                    unusable = true;
                }
            }
            if unusable {
                having = None;
            }
            let bytes = opened.index.read(&wanted, &mut reserved).await?;
            for (range, bytes) in wanted.into_iter().zip(bytes) {
                fetched.insert(range.start, (range, bytes));
            }
        }
    }
}

impl Drop for BucketBlock {
    fn drop(&mut self) {
        self.caches.open.remove(self.number);
    }
}

/// Whether lists beside the index were read; damage there is no reason to fail.
fn usable(read: Result<bool, StoreError>) -> Result<bool, StoreError> {
    match read {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::warn!(%error, "lists beside an index cannot be used, its own are read");
            Ok(false)
        }
        read => read,
    }
}
