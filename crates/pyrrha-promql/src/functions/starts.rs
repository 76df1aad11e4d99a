//! What start timestamps say about counters (feature `use-start-timestamps`).

use pyrrha_model::Timestamp;

use crate::annotations::Note;
use crate::kernel::KernelNotes;

/// Times and start timestamps of consecutive samples. Without start timestamps nothing is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Starts<'a> {
    pub(super) times: &'a [Timestamp],
    pub(super) starts: &'a [Timestamp],
}

/// Time and start timestamp (0: not known) of a sample.
pub(super) type Stamp = (Timestamp, Timestamp);

impl Starts<'_> {
    fn stamp(&self, i: usize) -> Stamp {
        (self.times[i], self.starts.get(i).copied().unwrap_or(0))
    }

    /// Whether the counter started anew between samples `i - 1` and `i`.
    #[inline]
    pub(super) fn is_reset(&self, i: usize) -> bool {
        !self.starts.is_empty() && is_reset(self.stamp(i - 1), self.stamp(i))
    }

    /// When the counter started at zero, if that was between `from` and the first sample.
    pub(super) fn zero_after(&self, from: Timestamp) -> Option<Timestamp> {
        let (start, first) = (*self.starts.first()?, *self.times.first()?);
        (start != 0 && from < start && start < first).then_some(start)
    }

    /// Warns where a sample claims to have started before the sample before it.
    pub(super) fn note_overlaps(&self, notes: &mut KernelNotes<'_>) {
        let overlaps = |i: usize| overlaps(self.stamp(i - 1), self.stamp(i));
        if !self.starts.is_empty() && (1..self.times.len()).any(overlaps) {
            notes.add(0, Note::StartTimeOverlap);
        }
    }
}

/// Whether a counter started anew between two samples: it started after the first, or right at it
/// where the first has a credible start of its own (so that both are deltas).
pub(super) fn is_reset((before, before_start): Stamp, (time, start): Stamp) -> bool {
    start != 0
        && start < time
        && (start > before || (start == before && before_start != 0 && before_start < before))
}

fn overlaps((before, before_start): Stamp, (_, start): Stamp) -> bool {
    start != 0 && start < before && start != before_start
}
