//! Which blocks answer which time: raw samples, or windows where they say as much. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use pyrrha_encoding::windows::window_start;
use pyrrha_model::contract::SelectHints;
use pyrrha_model::{TimeRange, Timestamp};
use pyrrha_storage::manifest::BlockEntry;

use crate::downsample::{HOUR, Origin};

/// A block and the times that it answers for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    pub(super) entry: Arc<BlockEntry>,
    pub(super) range: TimeRange,
}

/// How a query is answered.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Segments {
    pub(super) parts: Vec<Part>,
    /// Times for which nothing as fine as asked for exists any more, and the windows that answer.
    pub(super) coarse: Vec<(TimeRange, i64)>,
}

/// A block that may answer.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) entry: Arc<BlockEntry>,
    /// What it has from before does not count: it is past retention.
    pub(super) since: Timestamp,
    /// Somebody else has its data: it says that there is some, and is not read.
    pub(super) hidden: bool,
    /// Of windows: whether they say what raw blocks say now.
    pub(super) usable: bool,
}

impl Candidate {
    fn resolution(&self) -> i64 {
        self.entry.resolution
    }

    /// The times of which it says something.
    fn range(&self) -> TimeRange {
        let own = self.entry.range();
        TimeRange::new(own.start.max(self.since), own.end)
    }

    fn covers(&self, range: TimeRange) -> bool {
        let own = self.range();
        own.start <= range.start && range.end <= own.end
    }

    /// Whether these are samples of which `windows` were made, at a time that the windows they lie in touch: a
    /// block may begin and end in the middle of one.
    fn stands_behind(&self, windows: &Self, piece: TimeRange) -> bool {
        let (own, length) = (self.entry.range(), windows.resolution());
        let start = window_start(own.start, length).max(self.since);
        let end = window_start(own.end, length).saturating_add(length - 1);
        let (ours, theirs) = (&self.entry.sources, &windows.entry.sources);
        // Who does not say what it was made from may have it all.
        let shares = || ours.is_empty() || theirs.is_empty() || ours.iter().any(|s| theirs.contains(s));
        self.resolution() == 0 && TimeRange::new(start, end).overlaps(&piece) && shares()
    }
}

/// Whether windows of this length answer as well as samples, or nearly: ranges and steps are whole
/// windows that begin where windows do, or so much longer that where they begin matters little. The
/// windows of others need ranges twice as long.
pub(super) fn is_fine_enough(resolution: i64, ours: bool, range: TimeRange, hints: &SelectHints) -> bool {
    let Some(windows) = &hints.windows else { return false };
    let (step, length) = (hints.step_ms, hints.range_ms);
    if resolution > windows.max_resolution_ms || (step == 0 && length == 0) {
        return false;
    }
    // Others' windows do not say what the first and the last sample were, only what the mean is, and how far a
    // counter went.
    if !ours && (length == 0 || windows.edges && !windows.counter) {
        return false;
    }
    let aligned = range.end.saturating_add(1).rem_euclid(resolution) <= 1;
    let whole =
        step % resolution == 0 && length % resolution == 0 && (aligned || range.end == Timestamp::MAX);
    // Of longer times, a fifth.
    let wanted = if whole { resolution } else { resolution.saturating_mul(5) };
    let foreign = if ours { resolution } else { resolution.saturating_mul(2) };
    (step == 0 || wanted <= step) && (length == 0 || wanted.max(foreign) <= length)
}

/// How far before a query's range windows are read: an instant before the end of a window looks at
/// the one before.
pub(super) fn reach(range: TimeRange) -> TimeRange {
    TimeRange::new(range.start.saturating_sub(HOUR), range.end)
}

/// Chooses for every time in `range`.
pub(super) fn choose(candidates: &[Candidate], range: TimeRange, hints: &SelectHints) -> Segments {
    let mut segments = Segments::default();
    // Without windows there is nothing to choose.
    if candidates.iter().all(|c| c.resolution() == 0) {
        let raw = candidates.iter().filter(|c| !c.hidden && c.range().overlaps(&range));
        let since = |c: &Candidate| TimeRange::new(range.start.max(c.since), range.end);
        segments.parts = raw.map(|c| Part { entry: c.entry.clone(), range: since(c) }).collect();
        return segments;
    }
    let reads_windows = hints.windows.is_some();
    let wide = if reads_windows { reach(range) } else { range };
    let mut edges = BTreeSet::from([wide.start, wide.end.saturating_add(1)]);
    for block in candidates {
        let own = block.range();
        edges.extend([own.start, own.end.saturating_add(1)].map(|t| t.clamp(wide.start, wide.end)));
    }
    let edges: Vec<Timestamp> = edges.into_iter().collect();
    // By block of windows, the times it answers for; and the hull of the times that samples do.
    let mut windows: Vec<(usize, TimeRange)> = Vec::new();
    let mut samples: Vec<TimeRange> = Vec::new();
    // Times whose samples are gone: those that are there came late.
    let mut late: Vec<TimeRange> = Vec::new();
    for pair in edges.windows(2) {
        let piece = TimeRange::new(pair[0], pair[1] - 1);
        match best(candidates, piece, range, hints) {
            Some(Best { block: i, samples_gone, is_fine }) => {
                match windows.last_mut() {
                    Some((last, known)) if *last == i && known.end + 1 == piece.start => {
                        known.end = piece.end
                    }
                    _ => windows.push((i, piece)),
                }
                if samples_gone {
                    late.push(piece);
                }
                if !is_fine {
                    note(&mut segments.coarse, piece, candidates[i].resolution());
                }
            }
            None => samples.push(piece),
        }
    }
    for (i, part) in windows.into_iter().filter(|_| reads_windows) {
        segments.parts.push(Part { entry: candidates[i].entry.clone(), range: part });
    }
    samples.extend(late);
    for raw in candidates.iter().filter(|c| c.resolution() == 0 && !c.hidden) {
        let within = samples.iter().map(|piece| piece.intersect(&raw.range()).intersect(&range));
        let hull = within.filter(|r| !r.is_empty());
        let hull = hull.reduce(|a, b| TimeRange::new(a.start.min(b.start), a.end.max(b.end)));
        segments.parts.extend(hull.map(|range| Part { entry: raw.entry.clone(), range }));
    }
    segments.coarse.retain(|(piece, _)| piece.overlaps(&range));
    segments
}

/// The block of windows that answers for a piece of time.
struct Best {
    block: usize,
    /// Nothing has the samples that they were made of.
    samples_gone: bool,
    /// Whether they answer as well as samples.
    is_fine: bool,
}

/// What of windows answers for a piece of time; `None`: samples do.
fn best(candidates: &[Candidate], piece: TimeRange, range: TimeRange, hints: &SelectHints) -> Option<Best> {
    let windows = |i: &usize| {
        let c = &candidates[*i];
        c.resolution() > 0 && !c.hidden && c.covers(piece)
    };
    let all = (0..candidates.len()).filter(windows);
    let ours = |c: &Candidate| Origin::of(&c.entry).is_some();
    let fine = all.clone().filter(|&i| {
        let c = &candidates[i];
        is_fine_enough(c.resolution(), ours(c), range, hints)
    });
    let order = |i: &usize| {
        let c = &candidates[*i];
        (c.resolution(), ours(c), c.entry.max_time.saturating_sub(c.entry.min_time), c.entry.ulid)
    };
    if let Some(block) = fine.clone().filter(|&i| candidates[i].usable).max_by_key(order) {
        return Some(Best { block, samples_gone: false, is_fine: true });
    }
    let finest = all.min_by_key(|i| {
        let c = &candidates[*i];
        (c.resolution(), !ours(c), std::cmp::Reverse(c.entry.ulid))
    })?;
    // Others, which came late, do not stand for samples that are gone.
    if candidates.iter().any(|c| c.stands_behind(&candidates[finest], piece)) {
        return None;
    }
    let fine = fine.max_by_key(order);
    Some(Best { block: fine.unwrap_or(finest), samples_gone: true, is_fine: fine.is_some() })
}

fn note(coarse: &mut Vec<(TimeRange, i64)>, piece: TimeRange, resolution: i64) {
    match coarse.last_mut() {
        Some((known, r)) if *r == resolution && known.end + 1 == piece.start => known.end = piece.end,
        _ => coarse.push((piece, resolution)),
    }
}

/// What a query is told of times that only windows longer than it asked for answer.
pub(super) fn warning(range: TimeRange, resolution: i64, hints: &SelectHints) -> String {
    let (from, to) = (range.start.div_euclid(1000), range.end.saturating_add(1).div_euclid(1000));
    let windows = duration(resolution);
    if hints.windows.is_none() {
        return format!(
            "only windows of {windows} are kept of this time, and no samples: from={from} to={to}"
        );
    }
    let what = match hints.range_ms {
        0 => "values are as of the end of each window".to_owned(),
        length if length < resolution => format!("range [{}] was widened to {windows}", duration(length)),
        _ => "ranges begin and end with windows".to_owned(),
    };
    format!("only windows of {windows} are kept of this time: {what} from={from} to={to}")
}

fn duration(ms: i64) -> String {
    match ms {
        ms if ms % HOUR == 0 => format!("{}h", ms / HOUR),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests;
