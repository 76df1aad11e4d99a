//! The storage contract: what a store takes ([`Appender`]) and gives ([`Queryable`]). PromQL,
//! ingest, rules, compaction and remote read see stores only through it.
//!
//! ```text
//! ingest ─► Appender ─► log + head          head, block, bucket, ModelDb
//!                                                     │ Queryable::select
//!                                       SeriesSet ─► SeriesBatch ─► PromQL operators
//! ```

mod append;
mod context;
mod delete;
mod fetched;
mod label_query;
mod select;

pub use append::{AppendStats, Appender, Ingest, Refused, SeriesKey, Value};
pub use context::{CancelReason, CancelToken, MemoryBudget, Notices, QueryContext};
pub use delete::{Delete, DeleteId, Deletes, NotADeleteId};
pub use fetched::{Fetched, FetchedCounts};
pub use label_query::LabelQuery;
pub use select::{
    ChunkRef, Exemplars, Projection, Queryable, SelectHints, SeriesBatch, SeriesEntry, SeriesSet, Timestamps,
    WindowHints,
};
