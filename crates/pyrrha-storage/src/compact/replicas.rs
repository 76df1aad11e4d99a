//! Replicas of one series as one: the fullest is taken, the others fill what it missed, and a counter
//! never falls where one takes over from another.

use pyrrha_encoding::{DecodeError, decode_stored, encode_series, value_precedence};
use pyrrha_model::contract::{ChunkRef, SeriesEntry, Value};
use pyrrha_model::{ChunkEncoding, TimeRange, Timestamp, is_stale_nan};

/// Start timestamp or 0, time, value.
type Sample = (Timestamp, Timestamp, Value);

/// A sample and which replica it is from.
struct Taken {
    from: usize,
    sample: Sample,
}

/// Names of floats that count, by their ends.
const COUNTERS: [&str; 4] = ["_total", "_count", "_sum", "_bucket"];

/// Appends the merge of several replicas' entries of a series of this metric to `out`: the fullest is taken,
/// the others fill what it missed. Of equally full ones the first is taken. Chunks hold samples.
pub fn merge_replicas(
    metric: &str,
    entries: &[SeriesEntry],
    out: &mut Vec<ChunkRef>,
) -> Result<(), DecodeError> {
    let has_starts = |c: &ChunkRef| {
        matches!(
            c.encoding,
            ChunkEncoding::Xor2 | ChunkEncoding::HistogramSt | ChunkEncoding::FloatHistogramSt
        )
    };
    let starts = entries.iter().flat_map(|entry| &entry.chunks).any(has_starts);
    let mut replicas = Vec::with_capacity(entries.len());
    for entry in entries {
        replicas.push(decode_stored(entry, TimeRange::ALL)?);
    }
    let counts = COUNTERS.iter().any(|end| metric.ends_with(end));
    out.extend(encode_series(&merge_samples(replicas, counts), starts));
    Ok(())
}

/// One list of samples from those of several replicas, each by time.
pub(super) fn merge_samples(mut replicas: Vec<Vec<Sample>>, counts: bool) -> Vec<Sample> {
    replicas.retain(|samples| !samples.is_empty());
    // The fullest first; of equally full ones the order is given by the replicas' names.
    replicas.sort_by_key(|samples| std::cmp::Reverse(samples.len()));
    let Some((first, others)) = replicas.split_first() else { return Vec::new() };
    let interval = replicas.iter().find_map(|samples| interval(samples)).unwrap_or(0);
    let mut taken: Vec<Taken> =
        first.iter().map(|sample| Taken { from: 0, sample: sample.clone() }).collect();
    for (i, other) in others.iter().enumerate() {
        taken = fill(taken, i + 1, other, interval);
    }
    drop_markers(&mut taken, interval);
    if counts {
        never_fall(&mut taken, &replicas);
    }
    taken.into_iter().map(|taken| taken.sample).collect()
}

fn is_stale(value: &Value) -> bool {
    match value {
        Value::Float(v) => is_stale_nan(*v),
        Value::Histogram(h) => is_stale_nan(h.sum),
        Value::FloatHistogram(h) => is_stale_nan(h.sum),
    }
}

/// The median time between samples, the lower of two, if there are enough to tell.
fn interval(samples: &[Sample]) -> Option<i64> {
    let mut steps: Vec<i64> = samples.windows(2).map(|pair| pair[1].1.saturating_sub(pair[0].1)).collect();
    let middle = steps.len().saturating_sub(1) / 2;
    (steps.len() > 1).then(|| *steps.select_nth_unstable(middle).1)
}

/// `taken` with those samples of `other` that lie where it has a gap.
fn fill(taken: Vec<Taken>, from: usize, other: &[Sample], interval: i64) -> Vec<Taken> {
    let mut filled: Vec<Taken> = Vec::with_capacity(taken.len() + 8);
    let mut rest = other.iter().peekable();
    let half = interval / 2;
    let mut offer = |filled: &mut Vec<Taken>, next: Option<Timestamp>| {
        let before = filled.last().map(|t| (t.sample.1, is_stale(&t.sample.2)));
        // From the end of what is there to the beginning of what comes. Half an interval beside a
        // sample the other replica's one is the same scrape.
        let open = match before {
            None => Timestamp::MIN,
            Some((t, true)) => t.saturating_add(1),
            Some((t, false)) => t.saturating_add(half.max(1)),
        };
        let close = next.map_or(Timestamp::MAX, |t| t.saturating_sub(half.max(1)));
        let missed = match (before, next) {
            (Some((t, false)), Some(next)) => next.saturating_sub(t) > interval.saturating_add(half),
            _ => true,
        };
        while let Some(sample) = rest.next_if(|s| next.is_none_or(|next| s.1 < next)) {
            if missed && sample.1 >= open && sample.1 <= close {
                filled.push(Taken { from, sample: sample.clone() });
            }
        }
        rest.next_if(|s| Some(s.1) == next)
    };
    for mut current in taken {
        if let Some(same) = offer(&mut filled, Some(current.sample.1)) {
            // Of one time the rule is that of all merges.
            if value_precedence(&same.2, &current.sample.2).is_gt() {
                current = Taken { from, sample: same.clone() };
            }
        }
        filled.push(current);
    }
    offer(&mut filled, None);
    filled
}

/// Drops stale markers of a replica where another one goes on.
fn drop_markers(taken: &mut Vec<Taken>, interval: i64) {
    let goes_on: Vec<bool> = taken
        .windows(2)
        .map(|pair| {
            is_stale(&pair[0].sample.2)
                && !is_stale(&pair[1].sample.2)
                && pair[0].from != pair[1].from
                && pair[1].sample.1.saturating_sub(pair[0].sample.1) <= interval.saturating_add(interval / 2)
        })
        .collect();
    let mut at = 0;
    taken.retain(|_| {
        at += 1;
        !goes_on.get(at - 1).copied().unwrap_or(false)
    });
}

/// Raises what a replica counts where it takes over at a lower value than was reached: from there on
/// it adds its own increase. A reset that it saw itself stays one.
fn never_fall(taken: &mut [Taken], replicas: &[Vec<Sample>]) {
    // Replica, its own value, what was added, time, and the value that came out.
    let mut before: Option<(usize, f64, f64, Timestamp, f64)> = None;
    for Taken { from, sample: (_, t, value) } in taken {
        let Value::Float(own) = value else {
            before = None;
            continue;
        };
        if own.is_nan() {
            continue;
        }
        let added = match before {
            None => 0.0,
            Some((same, last, added, ..)) if same == *from => {
                if *own < last {
                    0.0
                } else {
                    added
                }
            }
            Some((_, _, _, _, reached)) if *own >= reached => 0.0,
            Some((_, _, _, at, reached)) => match value_at(&replicas[*from], at) {
                Some(then) if then <= *own => reached + (*own - then) - *own,
                _ => 0.0,
            },
        };
        let out = *own + added;
        before = Some((*from, *own, added, *t, out));
        *value = Value::Float(out);
    }
}

/// What a replica counted at a moment, between two of its samples in proportion; whole numbers stay
/// whole. `None` if it had not begun, or saw a reset there.
fn value_at(samples: &[Sample], at: Timestamp) -> Option<f64> {
    let float = |i: usize| match samples.get(i) {
        Some((_, t, Value::Float(v))) if !v.is_nan() => Some((*t, *v)),
        _ => None,
    };
    let after = samples.partition_point(|s| s.1 <= at);
    let (t, v) = float(after.checked_sub(1)?)?;
    let Some((next_t, next_v)) = float(after) else { return Some(v) };
    if next_v < v {
        return None;
    }
    let part = (next_v - v) * ((at - t) as f64 / (next_t - t).max(1) as f64);
    let whole = v.fract() == 0.0 && next_v.fract() == 0.0;
    Some(v + if whole { part.floor() } else { part })
}

#[cfg(test)]
mod tests {
    use pyrrha_model::stale_nan;

    use super::*;

    fn floats(samples: &[(i64, f64)]) -> Vec<Sample> {
        samples.iter().map(|&(t, v)| (0, t, Value::Float(v))).collect()
    }

    fn plain(samples: Vec<Sample>) -> Vec<(i64, f64)> {
        samples
            .into_iter()
            .map(|(_, t, v)| match v {
                Value::Float(v) => (t, v),
                _ => panic!("a float"),
            })
            .collect()
    }

    #[test]
    fn gaps_are_filled_and_the_same_scrape_counts_once() {
        let a = floats(&[(0, 1.0), (100, 2.0), (200, 3.0), (500, 6.0), (600, 7.0), (700, 8.0)]);
        let b = floats(&[(40, 1.5), (140, 2.5), (240, 3.5), (340, 4.5), (440, 5.5), (640, 7.5)]);
        let expected =
            [(0, 1.0), (100, 2.0), (200, 3.0), (340, 4.5), (440, 5.5), (500, 6.0), (600, 7.0), (700, 8.0)];
        assert_eq!(plain(merge_samples(vec![a.clone(), b.clone()], false)), expected);
        // Which one is called the first does not matter while one is fuller.
        let mut more = a.clone();
        more.extend(floats(&[(800, 9.0)]));
        let one = merge_samples(vec![more.clone(), b.clone()], false);
        assert_eq!(plain(one), plain(merge_samples(vec![b, more], false)));
    }

    #[test]
    fn both_ends_and_a_single_missed_scrape_are_filled() {
        let a = floats(&[(300, 3.0), (400, 4.0), (600, 6.0), (700, 7.0), (800, 8.0)]);
        let b = floats(&[(110, 1.0), (210, 2.0), (510, 5.0), (910, 9.0)]);
        let times: Vec<i64> = plain(merge_samples(vec![a, b], false)).iter().map(|s| s.0).collect();
        assert_eq!(times, [110, 210, 300, 400, 510, 600, 700, 800, 910]);
    }

    #[test]
    fn counters_go_on_by_increase() {
        // The second replica counts from its own beginning.
        let a = floats(&[(0, 1000.0), (100, 1010.0), (200, 1020.0), (500, 1050.0), (600, 1060.0)]);
        let b = floats(&[(50, 5.0), (250, 25.0), (350, 35.0), (450, 45.0)]);
        let merged = plain(merge_samples(vec![a, b], true));
        assert_eq!(merged[..3], [(0, 1000.0), (100, 1010.0), (200, 1020.0)]);
        let values: Vec<f64> = merged.iter().map(|s| s.1).collect();
        assert!(values.windows(2).all(|pair| pair[0] <= pair[1]), "{merged:?}");
        assert_eq!(merged.iter().find(|s| s.0 == 350), Some(&(350, 1035.0)));
        assert_eq!(merged.last(), Some(&(600, 1060.0)));
        // A gauge is left as it is.
        let a = floats(&[(0, 1000.0), (100, 1010.0), (400, 1020.0)]);
        let b = floats(&[(200, 25.0)]);
        assert_eq!(plain(merge_samples(vec![a, b], false))[2], (200, 25.0));
    }

    #[test]
    fn a_reset_stays_one() {
        let a = floats(&[(0, 100.0), (100, 110.0), (200, 5.0), (300, 10.0)]);
        let b = floats(&[(10, 101.0), (110, 111.0)]);
        let merged = plain(merge_samples(vec![a, b], true));
        assert_eq!(merged, [(0, 100.0), (100, 110.0), (200, 5.0), (300, 10.0)]);
    }

    #[test]
    fn a_marker_goes_where_another_replica_goes_on() {
        let stale = stale_nan();
        let a = floats(&[(0, 1.0), (100, 2.0), (200, stale), (600, 7.0), (700, 8.0)]);
        let b = floats(&[(240, 3.0), (340, 4.0), (440, 5.0)]);
        let merged = plain(merge_samples(vec![a, b], false));
        assert_eq!(merged.iter().map(|s| s.0).collect::<Vec<_>>(), [0, 100, 240, 340, 440, 600, 700]);
        // Where nobody goes on it stays.
        let a = floats(&[(0, 1.0), (100, 2.0), (200, stale)]);
        let merged = merge_samples(vec![a, floats(&[(50, 1.0)])], false);
        assert!(is_stale(&merged[2].2));
    }
}
