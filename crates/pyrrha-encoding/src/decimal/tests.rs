//! Exactness, and that short numbers are found short.

use proptest::prelude::*;

use super::*;

#[test]
fn short_numbers_have_short_mantissas() {
    for (value, mantissa, exponent) in [
        (0.0, 0, 0),
        (-3.0, -3, 0),
        (0.1, 1, 1),
        (0.25, 25, 2),
        (1234.5678, 12_345_678, 4),
        (1_790_000_000.123, 1_790_000_000_123, 3),
        (1e-9, 1, 9),
        (-0.000_001_5, -15, 7),
        (9_007_199_254_740_991.0, 9_007_199_254_740_991, 0),
    ] {
        assert_eq!(Decimal::of(value), Some(Decimal { mantissa, exponent }), "{value}");
    }
    for value in
        [-0.0, f64::NAN, f64::INFINITY, 1.0 / 3.0, f64::MIN_POSITIVE, 5e-324, 1e300, f64::MAX, 2f64.powi(53)]
    {
        assert_eq!(Decimal::of(value), None, "{value}");
    }
}

proptest! {
    #[test]
    fn exact_or_nothing(bits: u64) {
        let value = f64::from_bits(bits);
        if let Some(decimal) = Decimal::of(value) {
            prop_assert_eq!(decimal.value().to_bits(), bits);
        }
    }

    #[test]
    fn numbers_of_up_to_14_digits_are_found(mantissa in -100_000_000_000_000i64..100_000_000_000_000, exponent in 0u8..16) {
        let value = Decimal { mantissa, exponent }.value();
        let found = Decimal::of(value);
        prop_assert!(found.is_some_and(|d| d.exponent <= exponent && d.value().to_bits() == value.to_bits()), "{found:?}");
    }
}
