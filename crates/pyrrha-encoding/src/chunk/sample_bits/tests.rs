//! Sample bits in a buffer against one long bit stream.

use proptest::prelude::*;

use super::*;
use crate::bits::BitWriter;

proptest! {
    #[test]
    fn as_one_long_stream(samples in proptest::collection::vec(
        proptest::collection::vec((any::<u64>(), 0u32..=62), 0..5), 0..50,
    )) {
        let (mut stream, mut buffer, mut at) = (BitWriter::new(), vec![0xffu8; 7], 0);
        for fields in samples {
            let mut bits = SampleBits::new(at);
            for (value, n) in fields {
                stream.put(value, n);
                bits.put(value, n);
            }
            at = bits.write(&mut buffer);
            prop_assert_eq!(at as usize, stream.bit_len());
        }
        let expected = stream.finish();
        prop_assert_eq!(&buffer[..expected.len()], &expected[..]);
    }
}
