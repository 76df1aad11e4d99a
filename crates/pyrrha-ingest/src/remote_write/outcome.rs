//! What became of a request.

use std::collections::BTreeMap;
use std::fmt::Write;

use pyrrha_model::contract::{AppendStats, Refused};
use pyrrha_model::{ErrorKind, StoreError};

use super::wire::WireError;

/// A request of which nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The body is not snappy.
    #[error("body is not valid snappy block data: {0}")]
    Snappy(snap::Error),
    /// The body claims a size that snappy cannot reach.
    #[error("body of {compressed} bytes declares {declared} bytes, more than snappy can expand to")]
    Bomb {
        /// Size that the body declares.
        declared: usize,
        /// Size of the body.
        compressed: usize,
    },
    /// The body declares more than a request may hold.
    #[error("decompressed body of {bytes} bytes is over the limit of {limit} bytes; send smaller requests")]
    TooLarge {
        /// Size that the body declares.
        bytes: usize,
        /// Most that is accepted.
        limit: usize,
    },
    /// The body is not the protobuf message that its headers announce.
    #[error("body is not a valid {message} message: {source}")]
    Protobuf {
        /// Name of the message.
        message: &'static str,
        /// What is wrong with it.
        source: ProtobufError,
    },
    /// The store cannot take it now.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is wrong with a protobuf message.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ProtobufError(#[from] WireError);

impl WriteError {
    /// What the sender should do next.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Snappy(_) | Self::Bomb { .. } | Self::TooLarge { .. } | Self::Protobuf { .. } => {
                ErrorKind::Invalid
            }
            Self::Store(error) => error.kind(),
        }
    }
}

/// A request whose good part is stored durably.
#[derive(Debug, Default)]
pub struct WriteOutcome {
    /// What was stored.
    pub stats: AppendStats,
    reasons: BTreeMap<&'static str, Reason>,
}

#[derive(Debug)]
struct Reason {
    count: u64,
    examples: Vec<String>,
}

/// Examples that a message quotes for each reason.
const EXAMPLES_MAX: usize = 3;

impl WriteOutcome {
    /// Counts of what was refused, by reason (the names of [`Refused::reason`], and
    /// `invalid_series`).
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.reasons.iter().map(|(reason, r)| (*reason, r.count))
    }

    /// The text of the 400 answer; `None` if all was stored.
    pub fn error_text(&self) -> Option<String> {
        if self.reasons.is_empty() {
            return None;
        }
        let mut text = String::new();
        for (reason, Reason { count, examples }) in &self.reasons {
            for example in examples {
                let _ = writeln!(text, "{example}");
            }
            if *count > examples.len() as u64 {
                let _ = writeln!(text, "{} more refused: reason={reason}", count - examples.len() as u64);
            }
        }
        let AppendStats { samples, histograms, exemplars, .. } = self.stats;
        let _ = write!(
            text,
            "the rest of the request is stored: samples={samples} histograms={histograms} exemplars={exemplars}"
        );
        Some(text)
    }

    /// Counts a refusal; `place` names the series (and time) and is only called for the first few.
    pub(crate) fn refuse(&mut self, refused: &Refused, place: impl FnOnce() -> String) {
        self.note(refused.reason(), || format!("{refused}: {}", place()));
    }

    /// Counts a series that is malformed.
    pub(crate) fn refuse_series(&mut self, why: &str) {
        self.note("invalid_series", || format!("invalid series: {why}"));
    }

    fn note(&mut self, reason: &'static str, text: impl FnOnce() -> String) {
        let entry = self.reasons.entry(reason).or_insert(Reason { count: 0, examples: Vec::new() });
        entry.count += 1;
        if entry.examples.len() < EXAMPLES_MAX {
            entry.examples.push(text());
        }
    }
}
