//! Golden bits and round trips.

use proptest::prelude::*;

use super::*;
use crate::bits::BitWriter;

fn bits_of(put: impl Fn(&mut BitWriter)) -> String {
    let mut w = BitWriter::new();
    put(&mut w);
    let len = w.bit_len();
    let text: String = w.finish().iter().map(|b| format!("{b:08b}")).collect();
    text[..len].to_owned()
}

#[test]
fn golden_bits() {
    for (value, bits) in [
        (0, "0"),
        (1, "10001"),
        (-1, "10111"),
        (4, "10100"),
        (-3, "10101"),
        (-4, "110111100"),
        (32, "110100000"),
        (33, "1110000100001"),
    ] {
        assert_eq!(bits_of(|w| put_varbit_int(w, value)), bits, "{value}");
    }
    for (value, bits) in [(0, "0"), (7, "10111"), (8, "110001000"), (63, "110111111")] {
        assert_eq!(bits_of(|w| put_varbit_uint(w, value)), bits, "{value}");
    }
    assert_eq!(bits_of(|w| put_varbit_uint(w, 1 << 56)), format!("11111111{:064b}", 1u64 << 56));
}

proptest! {
    #[test]
    fn round_trip(values in proptest::collection::vec((any::<u64>(), 0u32..64), 0..50)) {
        let mut w = BitWriter::new();
        for &(value, shift) in &values {
            put_varbit_uint(&mut w, value >> shift);
            put_varbit_int(&mut w, value as i64 >> shift);
        }
        let len = w.bit_len();
        let bytes = w.finish();
        let mut r = BitReader::new(&bytes);
        for (value, shift) in values {
            prop_assert_eq!(read_varbit_uint(&mut r), value >> shift);
            prop_assert_eq!(read_varbit_int(&mut r), value as i64 >> shift);
        }
        prop_assert_eq!(r.position(), len);
    }
}
