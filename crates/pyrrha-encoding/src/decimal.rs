//! Doubles as decimal numbers, where that is exact: most measured values have few digits.

/// Powers of ten that a double holds exactly.
pub(crate) const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// Mantissas are at most so many bits (and a sign), which leaves room for the rounding errors of
/// one multiplication and one division.
const MANTISSA_BITS: i32 = 51;

/// `mantissa / 10^exponent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decimal {
    pub(crate) mantissa: i64,
    /// Below 23.
    pub(crate) exponent: u8,
}

impl Decimal {
    /// `value` as an integer, if that is it, bit for bit.
    #[inline]
    pub(crate) fn integer(value: f64) -> Option<i64> {
        let integer = value as i64;
        let exact = (integer as f64).to_bits() == value.to_bits() && integer.unsigned_abs() < 1 << 53;
        exact.then_some(integer)
    }

    /// `value` with as few digits as possible, if it is a decimal, bit for bit. Trailing zeros of
    /// integers stay.
    #[inline]
    pub(crate) fn of(value: f64) -> Option<Self> {
        match Self::integer(value) {
            Some(mantissa) => Some(Self { mantissa, exponent: 0 }),
            None => Self::search(value),
        }
    }

    /// `value` with this exponent, if that is exact.
    #[inline]
    pub(crate) fn at(value: f64, exponent: u8) -> Option<i64> {
        let power = POWERS[usize::from(exponent)];
        let scaled = value * power;
        // `round` without a library call; for the numbers accepted below it is the same.
        let mantissa = (scaled + f64::copysign(0.5, scaled)) as i64;
        let exact = mantissa.unsigned_abs() < 1 << MANTISSA_BITS
            && (mantissa as f64 / power).to_bits() == value.to_bits();
        exact.then_some(mantissa)
    }

    /// Looks once, at the greatest exponent that may do: a number that has fewer digits is exact
    /// there too, with zeros at the end.
    fn search(value: f64) -> Option<Self> {
        let power = (value.to_bits() >> 52 & 0x7ff) as i32 - 1022;
        // 1233 / 4096 is log10(2), rounded down.
        let digits = ((MANTISSA_BITS - power) * 1233) >> 12;
        if digits < 0 {
            return None;
        }
        let exponent = digits.min(POWERS.len() as i32 - 1) as u8;
        let mantissa = Self::at(value, exponent)?;
        Some(Self { mantissa, exponent }.stripped())
    }

    /// Without zeros at the end of the fraction.
    #[inline]
    pub(crate) fn stripped(mut self) -> Self {
        for (zeros, power) in [(16, 10_000_000_000_000_000), (8, 100_000_000), (4, 10_000), (2, 100), (1, 10)]
        {
            if self.exponent >= zeros && self.mantissa % power == 0 {
                self.mantissa /= power;
                self.exponent -= zeros;
            }
        }
        self
    }

    /// The double. Exponents beyond the greatest give that of the greatest.
    #[inline]
    pub(crate) fn value(self) -> f64 {
        self.mantissa as f64 / POWERS[usize::from(self.exponent).min(POWERS.len() - 1)]
    }
}

#[cfg(test)]
mod tests;
