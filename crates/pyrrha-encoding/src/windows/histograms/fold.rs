//! From histograms to windows, and from windows to longer ones.

use pyrrha_model::histogram::KahanHistogram;
use pyrrha_model::{FloatHistogram, Timestamp};

use super::{HistogramEdges, HistogramWindows, Layouts, alike, forget, is_gauge};
use crate::HistogramColumn;
use crate::windows::window_start;

/// Appends the windows of a series of histograms to `out`. Times ascend. `markers`: times of stale
/// markers beside those among the histograms, ascending.
pub fn fold_histograms(
    column: &HistogramColumn,
    markers: &[Timestamp],
    resolution: i64,
    out: &mut HistogramWindows,
) {
    let HistogramColumn { times, values, .. } = column;
    let mut from = 0;
    while let Some(&t) = times.get(from) {
        let start = window_start(t, resolution);
        let end = start.saturating_add(resolution - 1);
        let to = from + times[from..].iter().take_while(|t| **t <= end).count();
        let marker = markers[..markers.partition_point(|t| *t <= end)].last();
        let samples = times[from..to].iter().copied().zip(&values[from..to.min(values.len())]);
        fold_window(samples, marker.copied(), (start, end), out);
        from = to;
    }
}

fn fold_window<'a>(
    samples: impl Iterator<Item = (Timestamp, &'a FloatHistogram)>,
    marker: Option<Timestamp>,
    (start, end): (Timestamp, Timestamp),
    out: &mut HistogramWindows,
) {
    let (mut thin, mut total, mut count) = (Thin::default(), Total::default(), 0u32);
    let mut marker = marker.unwrap_or(Timestamp::MIN);
    for (t, h) in samples {
        if h.is_stale() {
            marker = marker.max(t);
            continue;
        }
        let steps = thin.add(t, h, &mut out.edges);
        thin.count(steps);
        total.add(h, Layouts::Compatible);
        count += 1;
    }
    let Some((last, _)) = thin.last else { return };
    out.starts.push(start);
    out.ends.push(end);
    out.counts.push(count);
    thin.finish(&mut out.edges);
    out.edges.stale.push(u32::from(marker > last));
    total.finish(out);
}

/// Makes windows of `resolution` from shorter ones that divide it. Both parts must be known.
pub fn coarsen_histograms(fine: &HistogramWindows, resolution: i64, out: &mut HistogramWindows) {
    let mut from = 0;
    while let Some(&start) = fine.starts.get(from) {
        let start = window_start(start, resolution);
        let end = start.saturating_add(resolution - 1);
        let to = from + fine.ends[from..].iter().take_while(|e| **e <= end).count().max(1);
        let (mut thin, mut total, mut count) = (Thin::default(), Total::default(), 0u32);
        for i in from..to {
            let kept = fine.kept(i..i + 1);
            for at in kept.clone() {
                let steps = thin.add(fine.edges.times[at], &fine.edges.samples[at], &mut out.edges);
                // Those inside of a window are known.
                if at == kept.start {
                    thin.count(steps);
                }
            }
            thin.count((fine.edges.resets[i], fine.edges.changes[i]));
            total.add(&fine.values.sums[i], fine.values.layouts[i]);
            count = count.saturating_add(fine.counts[i]);
        }
        out.starts.push(start);
        out.ends.push(end);
        out.counts.push(count);
        thin.finish(&mut out.edges);
        out.edges.stale.push(fine.edges.stale[to - 1]);
        total.finish(out);
        from = to;
    }
}

/// Keeps some samples of a window as they come.
#[derive(Default)]
struct Thin<'a> {
    last: Option<(Timestamp, &'a FloatHistogram)>,
    /// Whether the last one was kept.
    kept: bool,
    resets: u32,
    changes: u32,
}

impl<'a> Thin<'a> {
    /// Takes a sample. Gives 1 or 0 for a reset before it, and for a change.
    fn add(&mut self, t: Timestamp, h: &'a FloatHistogram, edges: &mut HistogramEdges) -> (u32, u32) {
        let before = self.last.replace((t, h));
        let Some((before_t, before)) = before else {
            self.kept = true;
            keep(t, h, edges);
            return (0, 0);
        };
        let reset = h.is_reset_after(before);
        // Gauges go up and down; of them first and last are all that anybody asks for.
        let gauges = is_gauge(h) && is_gauge(before);
        let tells = !gauges && (reset || !alike(before, h));
        if tells {
            if !self.kept {
                keep(before_t, before, edges);
            }
            keep(t, h, edges);
        }
        self.kept = tells;
        (u32::from(reset), u32::from(!h.same_distribution(before)))
    }

    fn count(&mut self, (resets, changes): (u32, u32)) {
        self.resets = self.resets.saturating_add(resets);
        self.changes = self.changes.saturating_add(changes);
    }

    fn finish(self, edges: &mut HistogramEdges) {
        if let Some((t, h)) = self.last.filter(|_| !self.kept) {
            keep(t, h, edges);
        }
        edges.upto.push(edges.times.len());
        edges.resets.push(self.resets);
        edges.changes.push(self.changes);
    }
}

fn keep(t: Timestamp, h: &FloatHistogram, edges: &mut HistogramEdges) {
    let mut h = h.clone();
    forget(&mut h);
    edges.times.push(t);
    edges.samples.push(h);
}

/// A sum that may turn out not to exist.
#[derive(Default)]
struct Total {
    sum: Option<KahanHistogram>,
    layouts: Layouts,
}

impl Total {
    fn add(&mut self, h: &FloatHistogram, layouts: Layouts) {
        self.layouts = self.layouts.max(layouts);
        if self.layouts == Layouts::Mixed {
            return;
        }
        let Some(sum) = &mut self.sum else {
            self.sum = Some(KahanHistogram::new(h.clone()));
            return;
        };
        self.layouts = self.layouts.max(match sum.add(h) {
            Ok(combined) if combined.reconciled_bounds => Layouts::Intersected,
            Ok(_) => Layouts::Compatible,
            Err(_) => Layouts::Mixed,
        });
    }

    fn finish(self, out: &mut HistogramWindows) {
        let sum = self.sum.filter(|_| self.layouts != Layouts::Mixed).map(KahanHistogram::finish);
        let mut sum = sum.unwrap_or_default();
        forget(&mut sum);
        sum.compact(0);
        out.values.sums.push(sum);
        out.values.layouts.push(self.layouts);
    }
}
