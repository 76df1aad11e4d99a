//! Histogram chunks: golden bytes, where chunks end, hints, recoding, hostile bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use pyrrha_model::contract::ChunkRef;
use pyrrha_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use pyrrha_model::{Span, is_stale_nan, stale_nan};

use super::*;
use crate::testing::{bits_of, hex};

fn histogram(buckets: &[(i32, u64)]) -> Histogram {
    let mut spans: Vec<Span> = Vec::new();
    let (mut end, mut before, mut deltas) = (0, 0, Vec::new());
    for &(index, count) in buckets {
        match spans.last_mut() {
            Some(span) if index == end => span.length += 1,
            _ => spans.push(Span { offset: index - end, length: 1 }),
        }
        end = index + 1;
        deltas.push(count as i64 - before);
        before = count as i64;
    }
    let count = buckets.iter().map(|(_, n)| n).sum();
    Histogram {
        schema: 3,
        zero_threshold: 2f64.powi(-128),
        count,
        sum: count as f64 * 1.5,
        positive_spans: spans,
        positive_buckets: deltas,
        ..Histogram::default()
    }
}

fn all(chunk: &ChunkRef, want: Want) -> HistogramColumn {
    let mut column = HistogramColumn::default();
    decode_histograms(chunk.encoding, &chunk.bytes, TimeRange::ALL, want, &mut column).unwrap();
    column
}

fn header(chunk: &ChunkRef) -> CounterResetHint {
    counter_reset_header(chunk.encoding, &chunk.bytes).unwrap()
}

#[test]
fn golden_bytes_integer() {
    let mut a = histogram(&[(0, 1), (1, 1)]);
    (a.count, a.zero_count, a.sum) = (3, 1, 2.5);
    let mut b = histogram(&[(0, 2), (1, 2)]);
    (b.count, b.zero_count, b.sum) = (5, 1, 2.5);
    let layout = ["01110100", "10011", "10001", "10010", "0", "0"].concat();
    let sum = format!("{:064b}", 2.5f64.to_bits());
    let first = ["11110001111101000", "10011", "10001", &sum, "10001", "0"].concat();
    let second = ["110001111", "10010", "0", "0", "10001", "0"].concat();
    let expected = [hex("0002 00"), bits_of(&[&layout[..], &first, &second].concat())].concat();
    let mut appender = HistogramAppender::new(false);
    assert!(appender.append(7, 1000, &a).is_none());
    assert!(appender.append(7, 1015, &b).is_none());
    let chunk = appender.seal().unwrap();
    assert_eq!(chunk.bytes[..], expected);
    let column = all(&chunk, Want::default());
    assert_eq!(column.times, [1000, 1015]);
    b.counter_reset_hint = CounterResetHint::NotReset;
    assert_eq!(column.values, [a.to_float(), b.to_float()]);

    // With start timestamps: flags in the count, a header byte, varint(1000-7) = c20f after the
    // first sample, and at the change 1000 - 500 as varbit.
    let first = first + "1100001000001111";
    let second = second + "11110000111110100";
    let expected = [hex("0002 81"), bits_of(&[&layout[..], &first, &second].concat())].concat();
    let mut appender = HistogramAppender::new(true);
    appender.append(7, 1000, &a);
    appender.append(500, 1015, &b);
    let chunk = appender.seal().unwrap();
    assert_eq!(chunk.bytes[..], expected);
    assert_eq!(all(&chunk, Want { starts: true, ..Want::default() }).starts, [7, 500]);
}

#[test]
fn golden_bytes_float() {
    let mut a = histogram(&[(2, 4)]).to_float();
    (a.zero_threshold, a.counter_reset_hint) = (0.001, CounterResetHint::Gauge);
    let raw = |v: f64| format!("{:064b}", v.to_bits());
    let bits = ["11111111", &raw(0.001), "10011", "10001", "10001", "10010", "0"].concat()
        + &["0", &raw(4.0), &raw(0.0), &raw(6.0), &raw(4.0)].concat()
        + "1000100000";
    let expected = [hex("0002 c0"), bits_of(&bits)].concat();
    let mut appender = HistogramAppender::new(false);
    appender.append_float(0, 0, &a);
    appender.append_float(0, 1, &a);
    let chunk = appender.seal().unwrap();
    assert_eq!(chunk.bytes[..], expected);
    assert_eq!(all(&chunk, Want::default()).values, [a.clone(), a]);
}

#[test]
fn layouts_round_trip() {
    for threshold in
        [0.0, 1e-128, 2f64.powi(-243), 2f64.powi(-244), 1024.0, 2048.0, 0.5, 3.0, f64::MIN_POSITIVE]
    {
        for schema in [-4, 8, CUSTOM_BUCKETS_SCHEMA] {
            let bounds = [-1.0, -0.0, 0.0, 0.005, 0.1, 1.0 / 3.0, 33_554.43, 33_554.431, 1e300];
            let custom = if schema == CUSTOM_BUCKETS_SCHEMA { Arc::from(bounds) } else { Arc::default() };
            let spans = [vec![Span { offset: -3, length: 2 }, Span { offset: 9, length: 1 }], vec![]];
            let layout = Layout { schema, zero_threshold: threshold, spans, custom_values: custom };
            let mut w = crate::bits::BitWriter::new();
            layout.put(&mut w);
            let bytes = w.finish();
            let read = Layout::read(&mut BitReader::new(&bytes), bytes.len() * 8).unwrap();
            assert_eq!(read, layout);
            assert!(read.same_bounds(&layout));
        }
    }
}

#[test]
fn chunks_end_where_samples_cannot_be_compared() {
    use CounterResetHint::{Gauge, NotReset, Reset, Unknown};
    let base = histogram(&[(0, 5), (1, 5)]);
    let with = |change: fn(&mut Histogram)| {
        let mut h = histogram(&[(0, 6), (1, 6)]);
        change(&mut h);
        h
    };
    let custom = |bound: f64| {
        let mut h = histogram(&[(0, 6), (1, 6)]);
        (h.schema, h.zero_threshold, h.custom_values) = (CUSTOM_BUCKETS_SCHEMA, 0.0, Arc::from([bound]));
        h
    };
    for (second, ends) in [
        (with(|_| {}), None),
        (with(|h| h.counter_reset_hint = NotReset), None),
        (with(|h| h.counter_reset_hint = Reset), Some(Reset)),
        (with(|h| h.counter_reset_hint = Gauge), Some(Gauge)),
        (with(|h| h.schema = 4), Some(Unknown)),
        (with(|h| h.zero_threshold = 1.0), Some(Unknown)),
        (with(|h| h.sum = stale_nan()), None),
        (histogram(&[(0, 4), (1, 100)]), Some(Reset)),
        (histogram(&[(1, 100)]), Some(Reset)),
        (histogram(&[(0, 5), (1, 5), (9, 1)]), None),
        (histogram(&[(0, 1)]), Some(Reset)),
    ] {
        let mut appender = HistogramAppender::new(false);
        appender.append(0, 1, &base);
        let ended = appender.append(0, 2, &second);
        let got = ended.map(|_| header(&appender.seal().unwrap()));
        assert_eq!(got, ends, "{second:?}");
    }
    let mut appender = HistogramAppender::new(false);
    appender.append(0, 1, &custom(1.0));
    assert!(appender.append(0, 2, &custom(1.0)).is_none());
    assert!(appender.append(0, 3, &custom(2.0)).is_some());
    assert_eq!(header(&appender.seal().unwrap()), Reset);
    // After a stale sample, only stale ones.
    let mut appender = HistogramAppender::new(false);
    appender.append(0, 1, &base);
    let stale = with(|h| h.sum = stale_nan());
    assert!(appender.append(0, 2, &stale).is_none() && appender.append(0, 3, &stale).is_none());
    let chunk = appender.append(0, 4, &base).unwrap();
    assert!(all(&chunk, Want::default()).values[1..].iter().all(|h| h.is_stale() && h.count == 0.0));
    // A full chunk is followed by one that says it goes on.
    let mut appender = HistogramAppender::new(false);
    let ended: Vec<_> = (0..150).filter_map(|t| appender.append(0, t, &base)).collect();
    assert_eq!((ended.len(), header(&appender.seal().unwrap())), (1, NotReset));
}

#[test]
fn new_buckets_recode_the_chunk_and_missing_empty_ones_are_filled() {
    let mut appender = HistogramAppender::new(true);
    assert!(appender.append(5, 1, &histogram(&[(0, 0), (4, 2)])).is_none());
    assert!(appender.append(5, 2, &histogram(&[(-3, 1), (4, 2), (5, 1)])).is_none());
    assert!(appender.append(6, 3, &histogram(&[(-3, 1), (4, 2), (5, 1)])).is_none());
    let column = all(&appender.seal().unwrap(), Want { starts: true, ..Want::default() });
    assert_eq!(column.starts, [5, 5, 6]);
    let spans =
        vec![Span { offset: -3, length: 1 }, Span { offset: 2, length: 1 }, Span { offset: 3, length: 2 }];
    assert!(column.values.iter().all(|h| h.positive_spans == spans));
    assert_eq!(column.values[0].positive_buckets, [0.0, 0.0, 2.0, 0.0]);
    assert_eq!(column.values[1].positive_buckets, [1.0, 0.0, 2.0, 1.0]);
}

#[test]
fn hostile_layouts_allocate_nothing_big() {
    // 2^60 spans; a span of 2^60 buckets; spans that go backwards; schema 9.
    let spans = |bits: &str| ["00000000", "0", bits].concat() + &"0".repeat(2000);
    for bits in [
        spans(&format!("11111111{:064b}", 1u64 << 60)),
        spans(&format!("1000111111111{:064b}0", 1u64 << 60)),
        spans("1001010001010001110111000"),
        format!("00000000110001001{}", "0".repeat(2000)),
    ] {
        let bytes = [hex("0001 00"), bits_of(&bits)].concat();
        let mut column = HistogramColumn::default();
        for encoding in [ChunkEncoding::Histogram, ChunkEncoding::FloatHistogram] {
            let read = decode_histograms(encoding, &bytes, TimeRange::ALL, Want::default(), &mut column);
            assert!(read.is_err(), "{bits}");
        }
    }
}

/// A sample without regard to how its empty buckets are laid out.
fn meaning(h: &FloatHistogram) -> (i32, u64, u64, u64, u64, [BTreeMap<i64, u64>; 2]) {
    if is_stale_nan(h.sum) {
        return (0, 0, 0, 0, h.sum.to_bits(), Default::default());
    }
    let buckets = |spans: &[Span], counts: &[f64]| {
        let mut out = BTreeMap::new();
        let (mut index, mut counts) = (0i64, counts.iter());
        for span in spans {
            index += i64::from(span.offset);
            for _ in 0..span.length {
                let count = counts.next().unwrap();
                if *count != 0.0 {
                    out.insert(index, count.to_bits());
                }
                index += 1;
            }
        }
        out
    };
    let sides =
        [buckets(&h.positive_spans, &h.positive_buckets), buckets(&h.negative_spans, &h.negative_buckets)];
    (h.schema, h.zero_threshold.to_bits(), h.zero_count.to_bits(), h.count.to_bits(), h.sum.to_bits(), sides)
}

#[derive(Debug, Clone)]
enum Step {
    Add(i32, u64),
    Same,
    Restart,
    Stale,
    Gauge,
    Schema(i32),
    Threshold,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (-8i32..8, 1u64..1000).prop_map(|(i, n)| Step::Add(i, n)),
        10 => Just(Step::Same),
        1 => Just(Step::Restart),
        1 => Just(Step::Stale),
        1 => Just(Step::Gauge),
        1 => (-4i32..=8).prop_map(Step::Schema),
        1 => Just(Step::Threshold),
    ];
    proptest::collection::vec(step, 1..200)
}

fn play(steps: &[Step]) -> Vec<Histogram> {
    let (mut buckets, mut gauge, mut schema, mut threshold) = (BTreeMap::new(), false, 0, 0.0);
    let play = |step: &Step| {
        let mut stale = false;
        match *step {
            Step::Add(index, n) => *buckets.entry(index).or_insert(0) += n,
            Step::Same => {}
            Step::Restart => buckets.clear(),
            Step::Stale => stale = true,
            Step::Gauge => gauge = !gauge,
            Step::Schema(to) => schema = to,
            Step::Threshold => threshold += 0.25,
        }
        let mut h = histogram(&buckets.iter().map(|(i, n)| (*i, *n)).collect::<Vec<_>>());
        (h.negative_spans, h.negative_buckets) = (h.positive_spans.clone(), h.positive_buckets.clone());
        (h.schema, h.zero_threshold) = (schema, threshold);
        if gauge {
            h.counter_reset_hint = CounterResetHint::Gauge;
        }
        if stale {
            h.sum = stale_nan();
        }
        h
    };
    steps.iter().map(play).collect()
}

fn chunks_of(samples: &[Histogram], floats: bool, starts: bool, restore_at: usize) -> Vec<ChunkRef> {
    let mut appender = HistogramAppender::new(starts);
    let mut chunks = Vec::new();
    for (i, h) in samples.iter().enumerate() {
        if i == restore_at
            && let Some(open) = appender.snapshot()
        {
            appender = HistogramAppender::restore(open.encoding, &open.bytes).unwrap();
        }
        let (start, time) = (i as i64 / 7, i as i64 * 15);
        chunks.extend(if floats {
            appender.append_float(start, time, &h.to_float())
        } else {
            appender.append(start, time, h)
        });
    }
    chunks.extend(appender.seal());
    chunks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn round_trip(steps in steps(), floats: bool, starts: bool, restore_at in 0usize..200) {
        let samples = play(&steps);
        let chunks = chunks_of(&samples, floats, starts, restore_at);
        let mut column = HistogramColumn::default();
        for chunk in &chunks {
            let before = column.times.len();
            let want = Want { starts: true, ..Want::default() };
            decode_histograms(chunk.encoding, &chunk.bytes, TimeRange::ALL, want, &mut column).unwrap();
            prop_assert_eq!(column.times[before], chunk.min_time);
            prop_assert_eq!(column.times.last(), Some(&chunk.max_time));
            prop_assert!(column.times.len() - before <= 120);
            // Statistics are those of the whole, and neighbours of other chunks keep buckets.
            let mut stats = HistogramColumn::default();
            let want = Want { histogram_stats_only: true, ..Want::default() };
            decode_histograms(chunk.encoding, &chunk.bytes, TimeRange::ALL, want, &mut stats).unwrap();
            let whole = &column.values[before..];
            for (i, (a, b)) in whole.iter().zip(&stats.values).enumerate() {
                prop_assert_eq!(a.count, b.count);
                prop_assert_eq!(a.sum.to_bits(), b.sum.to_bits());
                prop_assert_eq!(a.counter_reset_hint, b.counter_reset_hint);
                let before_marker = whole.get(i + 1).is_some_and(FloatHistogram::is_stale);
                if i == 0 || i == whole.len() - 1 || before_marker {
                    prop_assert_eq!(meaning(a), meaning(b));
                }
            }
        }
        // What is stored, stored again, is the same samples of the same kind (not always the same
        // chunks: spread over all buckets from the beginning, they may be full earlier).
        let stored: Vec<_> = chunks.iter().flat_map(|c| decode_values(c.encoding, &c.bytes).unwrap()).collect();
        let mut again = HistogramColumn::default();
        for chunk in crate::encode_series(&stored, starts) {
            prop_assert_eq!(chunk.encoding, chunks[0].encoding);
            let want = Want { starts: true, ..Want::default() };
            decode_histograms(chunk.encoding, &chunk.bytes, TimeRange::ALL, want, &mut again).unwrap();
        }
        prop_assert_eq!((&again.times, &again.starts), (&column.times, &column.starts));
        for (a, b) in again.values.iter().zip(&column.values) {
            prop_assert_eq!(meaning(a), meaning(b));
            let gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
            prop_assert!(gauge(a) == gauge(b) || a.is_stale());
        }
        let expected: Vec<i64> = (0..samples.len() as i64).map(|i| i * 15).collect();
        prop_assert_eq!(&column.times, &expected);
        if starts {
            prop_assert!(column.starts.iter().enumerate().all(|(i, &s)| s == i as i64 / 7));
        }
        for (i, (read, written)) in column.values.iter().zip(&samples).enumerate() {
            prop_assert_eq!(meaning(read), meaning(&written.to_float()), "sample {}", i);
            let gauge = written.counter_reset_hint == CounterResetHint::Gauge && !written.is_stale();
            prop_assert!(!gauge || read.counter_reset_hint == CounterResetHint::Gauge);
            if read.counter_reset_hint == CounterResetHint::NotReset && !read.is_stale() {
                let (a, b) = (meaning(&column.values[i - 1]), meaning(read));
                prop_assert!(a.0 == b.0 && a.1 == b.1 && f64::from_bits(a.3) <= f64::from_bits(b.3));
                for (index, count) in &a.5[0] {
                    prop_assert!(b.5[0].get(index).is_some_and(|c| f64::from_bits(*c) >= f64::from_bits(*count)));
                }
            }
        }
    }

    #[test]
    fn cut_or_damaged_bytes_never_panic(steps in steps(), floats: bool, starts: bool, cut: usize, bit: usize) {
        let chunk = chunks_of(&play(&steps), floats, starts, usize::MAX).remove(0);
        let mut column = HistogramColumn::default();
        let mut read = |bytes: &[u8]| {
            let want = Want { starts: true, ..Want::default() };
            decode_histograms(chunk.encoding, bytes, TimeRange::ALL, want, &mut column)
        };
        prop_assert!(read(&chunk.bytes[..cut % chunk.bytes.len()]).is_err());
        let mut bad = chunk.bytes.to_vec();
        bad[bit / 8 % chunk.bytes.len()] ^= 1 << (bit % 8);
        let _ = read(&bad);
        let _ = HistogramAppender::restore(chunk.encoding, &bad);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), pick in 0usize..4) {
        use ChunkEncoding::*;
        let encoding = [Histogram, FloatHistogram, HistogramSt, FloatHistogramSt][pick];
        let mut column = HistogramColumn::default();
        let _ = decode_histograms(encoding, &bytes, TimeRange::ALL, Want::default(), &mut column);
        let _ = HistogramAppender::restore(encoding, &bytes);
    }
}
