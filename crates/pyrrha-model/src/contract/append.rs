//! The write half of the contract.

use crate::{
    Exemplar, FloatHistogram, Histogram, Labels, Metadata, SeriesRef, StoreError, TenantId, Timestamp,
};

/// Cache key of a series as a sender spells it: a 128-bit hash of the raw label bytes with a
/// per-process secret seed (decision 8). Not an identity: a store may forget any key at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeriesKey(pub u128);

/// A sample's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A float.
    Float(f64),
    /// A native histogram with integer counts.
    Histogram(Box<Histogram>),
    /// A native histogram with float counts.
    FloatHistogram(Box<FloatHistogram>),
}

/// Why one sample, exemplar or series was not taken. It hurts nothing else in its batch.
/// The texts are those that clients of Prometheus match on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// Not newer than the series' last sample, and outside the out-of-order window.
    #[error("out of order sample")]
    OutOfOrder,
    /// A late sample where a delete hides what the head still has of the series, and would hide it too.
    #[error("sample lies in a deleted interval of its series that is not in a block yet")]
    Deleted,
    /// Older than the tenant accepts.
    #[error("too old sample")]
    TooOld,
    /// Further in the future than the wall clock allows.
    #[error("out of bounds")]
    TooFarInFuture,
    /// The stored sample of that time has another value.
    #[error("duplicate sample for timestamp")]
    Duplicate,
    /// A native histogram whose parts contradict each other.
    #[error("invalid histogram: {0}")]
    InvalidHistogram(String),
    /// An exemplar older than the newest one of its series.
    #[error("out of order exemplar")]
    OutOfOrderExemplar,
    /// An exemplar that was stored already.
    #[error("duplicate exemplar")]
    DuplicateExemplar,
    /// Labels break the data model.
    #[error("invalid labels: {0}")]
    InvalidLabels(String),
    /// A tenant's limit is reached; the text names it.
    #[error("{0}")]
    Limit(String),
}

impl Refused {
    /// Short name, as metrics count it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::OutOfOrder => "out_of_order",
            Self::Deleted => "deleted_interval",
            Self::TooOld => "too_old",
            Self::TooFarInFuture => "too_far_in_future",
            Self::Duplicate => "duplicate",
            Self::InvalidHistogram(_) => "invalid_histogram",
            Self::OutOfOrderExemplar => "out_of_order_exemplar",
            Self::DuplicateExemplar => "duplicate_exemplar",
            Self::InvalidLabels(_) => "invalid_labels",
            Self::Limit(_) => "limit",
        }
    }
}

/// What a committed batch stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AppendStats {
    /// Float samples stored, exact repetitions of stored ones included.
    pub samples: u64,
    /// Histogram samples stored.
    pub histograms: u64,
    /// Exemplars stored.
    pub exemplars: u64,
    /// Series created.
    pub new_series: u64,
}

/// Opens batches for tenants.
pub trait Ingest: Send + Sync {
    /// Starts a batch. Fails with `Unavailable` if the store cannot take writes now.
    fn appender(&self, tenant: &TenantId) -> Result<Box<dyn Appender + '_>, StoreError>;
}

/// One batch of one tenant. Nothing is visible to readers before [`Appender::commit`], then all of
/// it is; dropping the appender discards it.
///
/// The steps for a request are: one [`lookup`](Appender::lookup) of all its keys, a
/// [`resolve`](Appender::resolve) for each key that missed, appends, commit.
pub trait Appender {
    /// Looks up many cache keys in one pass. `found` is cleared and gets one entry per key.
    fn lookup(&mut self, keys: &[SeriesKey], found: &mut Vec<Option<SeriesRef>>);

    /// Finds or creates the series of valid labels (checked by the caller) and remembers `key` for
    /// it. Refuses only by a limit.
    fn resolve(&mut self, key: Option<SeriesKey>, labels: &Labels) -> Result<SeriesRef, Refused>;

    /// Appends a float sample at `t` ms. `start` is the start timestamp in ms, 0 if not known.
    fn append(&mut self, series: SeriesRef, start: Timestamp, t: Timestamp, v: f64) -> Result<(), Refused>;

    /// Appends a histogram sample; the store validates it.
    fn append_histogram(
        &mut self,
        series: SeriesRef,
        start: Timestamp,
        t: Timestamp,
        value: Value,
    ) -> Result<(), Refused>;

    /// Appends an exemplar.
    fn append_exemplar(&mut self, series: SeriesRef, exemplar: Exemplar) -> Result<(), Refused>;

    /// Sets the metadata of a metric family; the latest wins.
    fn append_metadata(&mut self, metric: &str, metadata: Metadata);

    /// Makes the batch durable and visible. When it returns `Ok` the batch survives `kill -9` and
    /// power loss. On an error nothing of it is visible.
    fn commit(self: Box<Self>) -> Result<AppendStats, StoreError>;
}
