//! What is made here reads as what it was made of.

use pyrrha_encoding::chunk::decode_floats;
use pyrrha_encoding::{Aggregate, AggregateChunk, FloatColumn};
use pyrrha_model::{ChunkEncoding, TimeRange};

use super::*;

fn column(encoding: ChunkEncoding, data: &[u8]) -> Vec<(i64, f64)> {
    let mut column = FloatColumn::default();
    decode_floats(encoding, data, TimeRange::ALL, &mut column, false).expect("a sound chunk");
    column.times.into_iter().zip(column.values).collect()
}

#[test]
fn checksums_are_the_known_ones() {
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    assert_eq!(reflected(0xEDB8_8320, b"123456789"), 0xCBF4_3926);
}

#[test]
fn chunks_read_as_they_were_made() {
    let steps = [15_000i64, 15_000, 15_001, 8_000, 90_000, 600_000, 90_000_000, 1];
    let (mut t, mut samples) = (-5_000, Vec::new());
    for i in 0..100usize {
        t += steps[i % steps.len()];
        samples.push((t, [1.0, 1.0, -2.5, 1e300, f64::INFINITY, 0.1][i % 6]));
    }
    for len in 1..=samples.len() {
        let chunk = xor_chunk(&samples[..len]);
        assert_eq!(column(ChunkEncoding::Xor, &chunk.data), samples[..len]);
    }
}

#[test]
fn windows_are_aggregates_of_their_samples() {
    let samples = [(0, 10.0), (60_000, 12.0), (299_000, 1.0), (300_000, 4.0), (420_000, 9.0)];
    let chunk = aggregate_chunk(&samples, 300_000);
    let parsed = AggregateChunk::parse(&chunk.data).expect("five slots");
    let slot = |aggregate| {
        let (encoding, data) = parsed.get(aggregate).expect("a slot");
        column(encoding, data)
    };
    assert_eq!(slot(Aggregate::Count), [(299_999, 3.0), (420_000, 2.0)]);
    assert_eq!(slot(Aggregate::Sum), [(299_999, 23.0), (420_000, 13.0)]);
    assert_eq!(slot(Aggregate::Min), [(299_999, 1.0), (420_000, 4.0)]);
    assert_eq!(slot(Aggregate::Max), [(299_999, 12.0), (420_000, 9.0)]);
    // The counter: first raw value, 12 and then 1 after a reset, 8 more, and the last raw value.
    assert_eq!(slot(Aggregate::Counter), [(0, 10.0), (299_999, 13.0), (420_000, 21.0), (420_000, 9.0)]);
}
