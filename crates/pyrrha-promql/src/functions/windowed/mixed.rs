//! Range functions over windows of which some are of floats and some of histograms.

use pyrrha_model::Timestamp;

use super::histograms::{HistogramPart, is_change, is_reset};
use super::{Found, Part};
use crate::annotations::Note;
use crate::function::FunctionId;
use crate::kernel::{KernelArgs, KernelNotes};
use crate::value::Sample;

/// The value of a function over windows of both kinds, both at least one, if both count; a function that
/// looks at floats only is left to them.
pub(crate) fn value(
    floats: &Part<'_>,
    histograms: &HistogramPart<'_>,
    function: FunctionId,
    args: &KernelArgs<'_>,
    notes: &mut KernelNotes<'_>,
) -> Option<Option<Sample>> {
    use FunctionId as F;
    let of_floats = |floats: &Part<'_>| match floats.value(function) {
        Found::Value(value) => Some(Sample::Float(value)),
        Found::Nothing | Found::FromSamples => None,
    };
    let edges = floats.windows.has_edges() && histograms.windows.has_edges();
    Some(match function {
        F::CountOverTime => Some(Sample::Float((floats.count() + histograms.count()) as f64)),
        F::PresentOverTime | F::AbsentOverTime => Some(Sample::Float(1.0)),
        F::FirstOverTime | F::TsOfFirstOverTime if edges => {
            let is_float = floats.windows.edges.first_times[floats.first()] < histograms.first().0;
            if is_float { of_floats(floats) } else { histograms.value(function, args, notes) }
        }
        F::LastOverTime | F::TsOfLastOverTime if edges => {
            let is_float = floats.windows.edges.last_times[floats.last()] > histograms.last().0;
            if is_float { of_floats(floats) } else { histograms.value(function, args, notes) }
        }
        F::Irate | F::Idelta if edges => match newest(floats, histograms) {
            Newest::Floats => of_floats(floats),
            Newest::Histograms => histograms.value(function, args, notes),
            Newest::Both => {
                notes.add(0, Note::MixedFloatsHistograms);
                None
            }
        },
        F::Resets | F::Changes if edges => Some(Sample::Float(pairs(floats, histograms, function))),
        F::Rate | F::Increase | F::Delta | F::SumOverTime | F::AvgOverTime => {
            notes.add(0, Note::MixedFloatsHistograms);
            None
        }
        _ => {
            notes.add(0, Note::HistogramIgnoredInMixedRange);
            return None;
        }
    })
}

/// Of which kind the last two samples are.
enum Newest {
    Floats,
    Histograms,
    Both,
}

fn newest(floats: &Part<'_>, histograms: &HistogramPart<'_>) -> Newest {
    let (last, edges) = (floats.last(), &floats.windows.edges);
    let (float, histogram) = (edges.last_times[last], histograms.last().0);
    if float < histogram {
        let before = histograms.before_last();
        return if before.is_some_and(|t| t > float) { Newest::Histograms } else { Newest::Both };
    }
    let before = match floats.windows.counts[last] {
        1 => floats.range.clone().rev().nth(1).map(|i| edges.last_times[i]),
        _ => Some(edges.first_times[last]),
    };
    if before.is_some_and(|t| t > histogram) { Newest::Floats } else { Newest::Both }
}

/// Pairs of samples that follow each other and are a reset, or a change: of different kinds they always
/// are. In a window that has both kinds each is looked at by itself.
fn pairs(floats: &Part<'_>, histograms: &HistogramPart<'_>, function: FunctionId) -> f64 {
    let (edges, others) = (&floats.windows.edges, &histograms.windows.edges);
    let resets = function == FunctionId::Resets;
    let (inside, also) =
        if resets { (&edges.resets, &others.resets) } else { (&edges.changes, &others.changes) };
    let total = |column: &[u32]| column.iter().map(|n| u64::from(*n)).sum::<u64>();
    let inside = total(&inside[floats.range.clone()]) + total(&also[histograms.range.clone()]);
    // By the time of the first sample: (time, whether histograms, which window).
    let mut order: Vec<(Timestamp, bool, usize)> =
        floats.range.clone().map(|i| (edges.first_times[i], false, i)).collect();
    order.extend(histograms.range.clone().map(|i| (histograms.ends(i)[0].0, true, i)));
    order.sort_unstable();
    let differ = |pair: &&[(Timestamp, bool, usize)]| match (pair[0], pair[1]) {
        ((_, false, a), (_, false, b)) => {
            let (a, b) = (edges.last_values[a], edges.first_values[b]);
            if resets { b < a } else { b != a && !(a.is_nan() && b.is_nan()) }
        }
        ((_, true, a), (_, true, b)) => {
            let (a, b) = (histograms.ends(a)[1].1, histograms.ends(b)[0].1);
            if resets { is_reset(a, b) } else { is_change(a, b) }
        }
        _ => true,
    };
    (inside + order.windows(2).filter(differ).count() as u64) as f64
}
