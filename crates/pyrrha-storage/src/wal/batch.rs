//! What goes into the log and comes out of it.

use pyrrha_model::contract::Value;
use pyrrha_model::{Exemplar, Labels, Metadata, TenantId, Timestamp};

use super::LogDelete;

/// A place in the log. Positions grow with time; `offset` 0 is the start of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogPosition {
    /// Number of the segment.
    pub segment: u64,
    /// Bytes from the segment's start.
    pub offset: u64,
}

/// A sample with a value of any kind: a native histogram, or a late sample.
#[derive(Debug, Clone, PartialEq)]
pub struct LogHistogram {
    /// The head's reference of its series.
    pub series: u32,
    /// Time, ms.
    pub t: Timestamp,
    /// Start timestamp, ms; 0: not known.
    pub start: Timestamp,
    /// Its value.
    pub value: Value,
}

/// What one request of one tenant stores, as columns. It is durable as a whole or not at all.
///
/// Series references are the head's. Within one run of the process a reference never stands for
/// two different label sets of a tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct LogBatch {
    /// Whose it is.
    pub tenant: TenantId,
    /// Series of each float sample.
    pub refs: Vec<u32>,
    /// Time of each float sample, ms; as long as `refs`.
    pub times: Vec<Timestamp>,
    /// Value of each float sample; as long as `refs`.
    pub values: Vec<f64>,
    /// Start timestamp of each float sample, ms, 0 if not known; empty if none is known.
    pub starts: Vec<Timestamp>,
    /// Native histogram samples.
    pub histograms: Vec<LogHistogram>,
    /// Samples of any kind that came out of order: behind a newer one of their series, or for a
    /// range that had become a block.
    pub late: Vec<LogHistogram>,
    /// Exemplars by series.
    pub exemplars: Vec<(u32, Exemplar)>,
    /// Metadata by metric family.
    pub metadata: Vec<(String, Metadata)>,
    /// What happens to deletes. It happens before the samples of the batch, which no delete of it hides.
    pub deletes: Vec<LogDelete>,
    /// Series to define in the log although no sample of them is in this batch.
    pub series: Vec<u32>,
}

impl LogBatch {
    /// A batch with nothing in it.
    pub fn new(tenant: TenantId) -> Self {
        Self {
            tenant,
            refs: Vec::new(),
            times: Vec::new(),
            values: Vec::new(),
            starts: Vec::new(),
            histograms: Vec::new(),
            late: Vec::new(),
            exemplars: Vec::new(),
            metadata: Vec::new(),
            deletes: Vec::new(),
            series: Vec::new(),
        }
    }

    /// Whether there is nothing to log.
    pub fn is_empty(&self) -> bool {
        self.refs.is_empty()
            && self.histograms.is_empty()
            && self.late.is_empty()
            && self.exemplars.is_empty()
            && self.metadata.is_empty()
            && self.deletes.is_empty()
            && self.series.is_empty()
    }

    /// Float and histogram samples, late ones included.
    pub fn samples(&self) -> usize {
        self.refs.len() + self.histograms.len() + self.late.len()
    }

    /// Bytes it takes in memory, about: what admission to the log is bounded by.
    pub fn bytes(&self) -> usize {
        let metadata: usize =
            self.metadata.iter().map(|(name, m)| name.len() + m.help.len() + m.unit.len() + 96).sum();
        256 + self.refs.len() * 20
            + self.starts.len() * 8
            + self.histograms.iter().chain(&self.late).map(histogram_bytes).sum::<usize>()
            + self.exemplars.iter().map(|(_, e)| 64 + labels_bytes(&e.labels)).sum::<usize>()
            + metadata
            + self.deletes.iter().map(LogDelete::bytes).sum::<usize>()
            + self.series.len() * 4
    }
}

fn labels_bytes(labels: &Labels) -> usize {
    labels.iter().map(|l| l.name.len() + l.value.len() + 48).sum()
}

fn histogram_bytes(h: &LogHistogram) -> usize {
    let (spans, buckets) = match &h.value {
        Value::Float(_) => (0, 0),
        Value::Histogram(h) => (
            h.positive_spans.len() + h.negative_spans.len(),
            h.positive_buckets.len() + h.negative_buckets.len() + h.custom_values.len(),
        ),
        Value::FloatHistogram(h) => (
            h.positive_spans.len() + h.negative_spans.len(),
            h.positive_buckets.len() + h.negative_buckets.len() + h.custom_values.len(),
        ),
    };
    128 + (spans + buckets) * 8
}

/// One thing that replay reads.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "it is handed on at once")]
pub enum LogEntry {
    /// From here on until it is defined anew, `series` of `tenant` means these labels. A segment
    /// defines each of its series again, at or before the first use.
    Series {
        /// Whose series it is.
        tenant: TenantId,
        /// Its reference in the log.
        series: u32,
        /// Its labels.
        labels: Labels,
    },
    /// A batch. Every series in it has been defined in the same segment before. Damage in the
    /// middle of the log may have taken a part of it (which is in the report).
    Batch {
        /// Where its record starts.
        position: LogPosition,
        /// What it stored.
        batch: LogBatch,
    },
}

/// The head side of the log.
pub trait WalSink: Send + Sync {
    /// Visits the labels of a series, sorted by name, for its definition in a new segment. Called
    /// on the committer thread, for series of batches that were submitted.
    fn labels(&self, tenant: &TenantId, series: u32, visit: &mut dyn FnMut(&str, &str));

    /// Called on the committer thread, in log order, after the fdatasync of the group that holds
    /// these batches and before they are acknowledged. Everything before `position` is in the log.
    /// Must not call back into the log except to submit.
    fn apply(&self, batches: Vec<LogBatch>, position: LogPosition);

    /// Called instead of [`apply`](Self::apply) when the group could not be made durable. After a
    /// crash the batches may be back all the same: their bytes may have reached the disk.
    fn abandon(&self, batches: Vec<LogBatch>);
}
