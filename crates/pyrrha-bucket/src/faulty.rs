//! A simulated object store: in memory, failing, slow and forgetful of replies under a seed.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

/// How often, of 100 requests, what goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Answered 503, nothing done.
    pub(crate) unavailable: u64,
    /// Done, but the reply is lost.
    pub(crate) lost_reply: u64,
    /// Not answered at all; of half of these the request is done.
    pub(crate) hangs: u64,
    /// Answered late.
    pub(crate) slow: u64,
    /// A conditional create answered 409 although nobody has won.
    pub(crate) conflict: u64,
    /// Conditions are ignored, as some servers do.
    pub(crate) ignores_conditions: bool,
    /// Conditions on what is there are never met, as some servers say.
    pub(crate) refuses_updates: bool,
}

impl Faults {
    pub(crate) const ROUGH: Self =
        Self { unavailable: 8, lost_reply: 6, hangs: 1, slow: 20, conflict: 6, ..Self::NONE };
    const NONE: Self = Self {
        unavailable: 0,
        lost_reply: 0,
        hangs: 0,
        slow: 0,
        conflict: 0,
        ignores_conditions: false,
        refuses_updates: false,
    };
}

/// The store. Clones share the objects, each request draws from the seed.
#[derive(Debug, Clone)]
pub(crate) struct FaultyStore {
    pub(crate) objects: Arc<InMemory>,
    faults: Faults,
    random: Arc<Mutex<u64>>,
    /// Requests that are still answered before the client is as good as dead.
    left: Arc<AtomicI64>,
    /// Reads after which one panics, and all that follow.
    panics_after: Arc<AtomicI64>,
    silent: Arc<AtomicBool>,
    under_way: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
}

/// Counts a request while it is under way.
struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What happens to one request.
enum Fate {
    Fine,
    Unavailable,
    LostReply,
    Hangs { done: bool },
    Conflict,
}

impl FaultyStore {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        Self::over(Arc::new(InMemory::new()), seed, faults)
    }

    /// Another connection to the same objects.
    pub(crate) fn over(objects: Arc<InMemory>, seed: u64, faults: Faults) -> Self {
        let random = Arc::new(Mutex::new(seed.wrapping_mul(2).wrapping_add(1)));
        let (silent, under_way, most_at_once) = Default::default();
        let [left, panics_after] = [(); 2].map(|()| Arc::new(AtomicI64::new(i64::MAX)));
        Self { objects, faults, random, left, panics_after, silent, under_way, most_at_once }
    }

    /// From now on it answers nothing, or again.
    pub(crate) fn is_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }

    /// How many requests were under way at once, at most, since this was asked last.
    pub(crate) fn most_at_once(&self) -> usize {
        self.most_at_once.swap(0, Ordering::Relaxed)
    }

    /// The client dies after so many requests more: nothing it sends arrives any more.
    pub(crate) fn dies_after(&self, requests: i64) {
        self.left.store(requests, Ordering::Relaxed);
    }

    /// Whoever reads an object panics after so many reads more.
    pub(crate) fn panics_after(&self, reads: i64) {
        self.panics_after.store(reads, Ordering::Relaxed);
    }

    /// Of SplitMix64.
    fn draw(&self) -> u64 {
        let mut state = self.random.lock();
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    async fn fate(&self) -> Fate {
        if self.silent.load(Ordering::Relaxed) {
            return Fate::Hangs { done: false };
        }
        if self.left.fetch_sub(1, Ordering::Relaxed) <= 0 {
            return Fate::Unavailable;
        }
        let faults = self.faults;
        if self.draw() % 100 < faults.slow {
            tokio::time::sleep(Duration::from_millis(self.draw() % 4)).await;
        }
        let mut dice = self.draw() % 100;
        let mut hits = |share: u64| {
            let hit = dice < share;
            dice = dice.wrapping_sub(share);
            hit
        };
        if hits(faults.unavailable) {
            Fate::Unavailable
        } else if hits(faults.lost_reply) {
            Fate::LostReply
        } else if hits(faults.hangs) {
            Fate::Hangs { done: self.draw().is_multiple_of(2) }
        } else if hits(faults.conflict) {
            Fate::Conflict
        } else {
            Fate::Fine
        }
    }

    async fn run<T, F: Future<Output = Result<T>>>(
        &self,
        create: bool,
        request: impl FnOnce() -> F,
    ) -> Result<T> {
        let now = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        let _counted = UnderWay(self.under_way.clone());
        self.most_at_once.fetch_max(now, Ordering::Relaxed);
        match self.fate().await {
            Fate::Fine => request().await,
            Fate::Conflict if create => {
                Err(Error::AlreadyExists { path: "race".to_owned(), source: "409 Conflict".into() })
            }
            Fate::Conflict => request().await,
            Fate::Unavailable => Err(failed("503 Slow Down")),
            Fate::LostReply => {
                let _ = request().await;
                Err(failed("connection reset by peer"))
            }
            Fate::Hangs { done } => {
                if done {
                    let _ = request().await;
                }
                std::future::pending().await
            }
        }
    }
}

fn failed(what: &str) -> Error {
    Error::Generic { store: "faulty", source: what.to_owned().into() }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, at: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let create = matches!(options.mode, PutMode::Create);
        if self.faults.refuses_updates && matches!(options.mode, PutMode::Update(_)) {
            return Err(Error::Precondition { path: at.to_string(), source: "412".into() });
        }
        if self.faults.ignores_conditions {
            options.mode = PutMode::Overwrite;
        }
        self.run(create, || self.objects.put_opts(at, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.run(false, || self.objects.put_multipart_opts(at, options)).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let left = self.panics_after.fetch_sub(1, Ordering::Relaxed);
        assert!(left > 0, "it was told to panic");
        self.run(false, || self.objects.get_opts(at, options)).await
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.run(false, || self.objects.get_ranges(at, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .then(move |path| {
                let store = store.clone();
                async move {
                    let path = path?;
                    let one = futures::stream::iter([Ok(path.clone())]).boxed();
                    store
                        .run(false, || async {
                            store.objects.delete_stream(one).next().await.unwrap_or(Ok(path))
                        })
                        .await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let begin = async move {
            store.run(false, || async { Ok(()) }).await?;
            Ok(store.objects.list(prefix.as_ref()))
        };
        futures::stream::once(begin)
            .flat_map(|begun| match begun {
                Ok(stream) => stream,
                Err(error) => futures::stream::iter([Err(error)]).boxed(),
            })
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.run(false, || self.objects.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.run(false, || self.objects.copy_opts(from, to, options)).await
    }
}
