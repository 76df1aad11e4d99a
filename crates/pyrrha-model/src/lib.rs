//! What every other crate speaks: labels, matchers, samples, native histograms, time, and the
//! storage contract. No I/O, no clock, no threads.
//!
//! ```
//! use pyrrha_model::{Labels, MatchOp, Matcher};
//! let labels = Labels::from_pairs([("__name__", "up"), ("job", "node")]);
//! let matcher = Matcher::new(MatchOp::Regex, "job", "n.*").expect("a valid regex");
//! assert!(matcher.matches(labels.get("job").unwrap_or("")));
//! assert_eq!(labels.to_string(), r#"up{job="node"}"#);
//! ```

pub mod contract;
mod error;
pub mod go_fmt;
pub mod go_regex;
pub mod histogram;
pub mod labels;
mod matcher;
mod metadata;
pub mod rfc3339;
mod sample;
mod symbols;
mod tenant;
pub mod time;

pub use error::{ErrorKind, StoreError};
pub use histogram::{CounterResetHint, FloatHistogram, Histogram, Span};
pub use labels::{Label, Labels, LabelsBuilder, METRIC_NAME};
pub use matcher::{MatchOp, Matcher};
pub use metadata::{Exemplar, Metadata, MetricType};
pub use sample::{ChunkEncoding, STALE_NAN_BITS, SeriesRef, is_stale_nan, stale_nan};
pub use symbols::{SymbolId, SymbolTable};
pub use tenant::{TenantId, TenantIdError};
pub use time::{TimeRange, Timestamp};
