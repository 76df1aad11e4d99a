//! Walks over the frames of one segment, past whatever is not one.

use super::frame::{self, ALIGN, Found, FrameHeader, SegmentKey};
use super::segment::Ended;

/// Kind of a frame that covers bytes which never counted: the torn part of a group that was
/// being written when the power went.
pub(super) const VOID: u8 = 0;

/// What comes next in a segment.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// A good frame.
    Frame { header: FrameHeader, payload: &'a [u8], next: usize },
    /// No frame before `next`; `known` is the header of a frame whose payload is bad.
    Gap { next: usize, known: Option<FrameHeader> },
    /// The end of the bytes.
    End,
}

/// The step at `at`. The bytes end where the segment's records end.
pub(super) fn step(segment: &[u8], at: usize, key: SegmentKey) -> Step<'_> {
    if at >= segment.len() {
        return Step::End;
    }
    let (from, known) = match frame::read(segment, at, key) {
        Found::Frame(header, payload, next) => return Step::Frame { header, payload, next },
        Found::BadPayload(header, next) => (next, Some(header)),
        Found::Nothing => (at + ALIGN, None),
    };
    let next = frame::search(segment, from, key).unwrap_or(segment.len());
    Step::Gap { next, known }
}

/// A hole in the group that was being written last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Torn {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Records and samples that the frame after it says came before.
    pub(super) records: u32,
    pub(super) samples: u32,
}

/// What a look at a segment that nobody ended finds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Where its last good frame ends, and what is in it.
    pub(super) ended: Ended,
    /// Where the last group starts, holes that may belong to it included.
    pub(super) last_group: usize,
    /// Holes that never counted.
    pub(super) torn: Vec<Torn>,
    /// Bytes after the last good frame that are not zero.
    pub(super) torn_tail: usize,
    /// Samples in torn records, as far as their headers are readable.
    pub(super) torn_samples: u64,
}

struct Hole {
    torn: Torn,
    /// Samples in it, as far as headers are readable.
    samples: u64,
    /// Group that was last before the hole, and whether all of it is there.
    before: Option<(u16, bool)>,
    /// Group after the hole.
    after: u16,
}

/// Finds the end of a segment that was open when the process ended.
pub(super) fn scan(segment: &[u8], first: usize, key: SegmentKey) -> Scan {
    let mut scan = Scan {
        ended: Ended { number: key.number, end: first as u64, ..Ended::default() },
        last_group: first,
        ..Scan::default()
    };
    let (mut at, mut open_hole) = (first, None);
    let mut holes: Vec<Hole> = Vec::new();
    let mut before = None;
    loop {
        match step(segment, at, key) {
            Step::End => break,
            Step::Gap { next, known } => {
                let samples = known.map_or(0, |h| u64::from(h.samples));
                let (start, sum) = open_hole.unwrap_or((at, 0));
                open_hole = Some((start, sum + samples));
                at = next;
            }
            Step::Frame { header, next, .. } => {
                let (start, hole) = (at, open_hole.is_some());
                if let Some((start, samples)) = open_hole.take() {
                    let (records, before_it) = (header.records_before, header.samples_before);
                    let torn = Torn { start, end: at, records, samples: before_it };
                    holes.push(Hole { torn, samples, before, after: header.group });
                }
                scan.ended.end = next as u64;
                at = next;
                if header.kind == VOID {
                    continue;
                }
                if before.is_none_or(|(group, _)| group != header.group) {
                    scan.last_group = holes.last().map(|h| h.torn.start).filter(|_| hole).unwrap_or(start);
                }
                before = Some((header.group, header.last));
                scan.ended.records = header.records_before.wrapping_add(1);
                scan.ended.samples = header.samples_before.wrapping_add(header.samples);
            }
        }
    }
    if let Some((start, samples)) = open_hole {
        let tail = &segment[start.min(segment.len())..];
        scan.torn_tail = tail.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        scan.torn_samples = samples;
    }
    // A hole counts as torn only if it can lie wholly in the last group, which nobody may have
    // acknowledged; else it is damage.
    let last_group = before.map(|(group, _)| group);
    for hole in holes {
        let same = hole.before.is_some_and(|(group, _)| group == hole.after);
        let next = hole.before.is_none_or(|(group, whole)| whole && group.wrapping_add(1) == hole.after);
        let first = hole.before.is_some() || hole.after == 0;
        if Some(hole.after) == last_group && (same || next && first) {
            scan.last_group = scan.last_group.min(hole.torn.start);
            scan.torn.push(hole.torn);
            scan.torn_samples += hole.samples;
        }
    }
    scan
}
