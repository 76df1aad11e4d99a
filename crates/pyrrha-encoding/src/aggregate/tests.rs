//! Aggregate chunks: golden bytes and hostile ones.

use bytes::Bytes;

use super::*;

#[test]
fn five_slots() {
    let bytes = Bytes::from_static(&[2, 1, 8, 9, 0, 1, 3, 7, 0, 0]);
    let chunk = AggregateChunk::parse(&bytes).unwrap();
    assert_eq!(chunk.get(Aggregate::Count), Some((ChunkEncoding::Xor, &[8, 9][..])));
    assert_eq!(chunk.get(Aggregate::Min), Some((ChunkEncoding::FloatHistogram, &[7][..])));
    assert!([Aggregate::Sum, Aggregate::Max, Aggregate::Counter].iter().all(|&a| chunk.get(a).is_none()));
    assert_eq!(chunk.encode(), bytes);
    let mut again = AggregateChunk::default();
    for aggregate in Aggregate::ALL {
        if let Some((encoding, data)) = chunk.get(aggregate) {
            again.set(aggregate, encoding, data);
        }
    }
    assert_eq!(again, chunk);
    let whole = ChunkRef {
        min_time: 1,
        max_time: 2,
        encoding: ChunkEncoding::Aggregate,
        timestamps: Timestamps::Own,
        bytes,
    };
    let inner = AggregateChunk::split(&whole, Aggregate::Min).unwrap().unwrap();
    assert_eq!((inner.encoding, &inner.bytes[..]), (ChunkEncoding::FloatHistogram, &[7][..]));
    assert!(AggregateChunk::split(&inner, Aggregate::Min).is_err());
}

#[test]
fn hostile_bytes_are_errors() {
    for bytes in
        [&[][..], &[0, 0, 0, 0], &[5, 1, 2], &[1, 99, 0, 0, 0, 0, 0], &[1, 0xff, 0, 0, 0, 0, 0], &[0xff; 9]]
    {
        assert!(AggregateChunk::parse(bytes).is_err(), "{bytes:?}");
    }
}
