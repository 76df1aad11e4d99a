//! Time: millisecond timestamps, ranges, and Prometheus' durations.

use std::fmt;

/// Milliseconds since the Unix epoch.
pub type Timestamp = i64;

/// A closed interval of timestamps, in ms. Empty if `start > end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// First millisecond that belongs to the range.
    pub start: Timestamp,
    /// Last millisecond that belongs to the range.
    pub end: Timestamp,
}

impl TimeRange {
    /// Everything.
    pub const ALL: Self = Self { start: i64::MIN, end: i64::MAX };

    /// `[start, end]`.
    pub fn new(start: Timestamp, end: Timestamp) -> Self {
        Self { start, end }
    }

    /// Whether `t` lies in the range.
    pub fn contains(&self, t: Timestamp) -> bool {
        self.start <= t && t <= self.end
    }

    /// Whether the two have a millisecond in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// Whether no millisecond belongs to it.
    pub fn is_empty(&self) -> bool {
        self.start > self.end
    }

    /// What both have in common (maybe empty).
    pub fn intersect(&self, other: &Self) -> Self {
        Self { start: self.start.max(other.start), end: self.end.min(other.end) }
    }
}

/// Why a duration was refused. The texts are those that clients of Prometheus match on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The empty string.
    #[error("empty duration string")]
    Empty,
    /// Not of the form `1w2d3h4m5s6ms`.
    #[error("not a valid duration string: {0:?}")]
    Syntax(String),
    /// A unit that there is not.
    #[error("unknown unit {unit:?} in duration {text:?}")]
    Unit {
        /// What stands where a unit should.
        unit: String,
        /// The whole duration.
        text: String,
    },
    /// More milliseconds than fit.
    #[error("duration out of range")]
    Range,
}

const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Parses a Prometheus duration (`1y2w3d4h5m6s7ms`: integers, longest unit first, each unit once)
/// into milliseconds. A bare `0` is allowed.
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(0),
        _ => {}
    }
    let syntax = || DurationError::Syntax(text.to_owned());
    let (mut rest, mut next_unit, mut total) = (text, 0, 0i64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(|b| !b.is_ascii_digit()).count();
        let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
        let count: u64 = number.parse().map_err(|_| syntax())?;
        if unit.is_empty() {
            return Err(syntax());
        }
        let unknown = || DurationError::Unit { unit: unit.to_owned(), text: text.to_owned() };
        let index = UNITS.iter().position(|(name, _)| *name == unit).ok_or_else(unknown)?;
        if index < next_unit {
            return Err(syntax());
        }
        next_unit = index + 1;
        let count = i64::try_from(count).map_err(|_| DurationError::Range)?;
        // Prometheus holds durations as int64 nanoseconds; anything beyond is out of range there.
        total = count
            .checked_mul(UNITS[index].1)
            .and_then(|ms| total.checked_add(ms))
            .ok_or(DurationError::Range)?;
        if total > i64::MAX / 1_000_000 {
            return Err(DurationError::Range);
        }
        rest = &rest[digits + letters..];
    }
    Ok(total)
}

/// Prints milliseconds as a Prometheus duration: years and weeks only if exact, then d h m s ms;
/// zero is `0s`. A negative duration gets a leading minus.
pub struct DurationDisplay(pub i64);

impl fmt::Display for DurationDisplay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let mut left = self.0.unsigned_abs();
        for (name, size) in UNITS {
            let size = size.unsigned_abs();
            let exact_only = matches!(name, "y" | "w");
            if exact_only && !left.is_multiple_of(size) {
                continue;
            }
            if left >= size {
                write!(f, "{}{name}", left / size)?;
                left %= size;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_parse_longest_unit_first() {
        assert_eq!(parse_duration("1h30m"), Ok(5_400_000));
        assert_eq!(parse_duration("1y2w3d4h5m6s7ms"), Ok(31_536_000_000 + 1_209_600_000 + 273_906_007));
        assert_eq!(parse_duration("0"), Ok(0));
        for bad in ["1", "m", "1m1h", "1m1m", "1.5h", "-1m", "1 m", "1mm"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_duration("300y"), Err(DurationError::Range));
        let refusal = |text| parse_duration(text).map_err(|e| e.to_string());
        assert_eq!(refusal("5y1hs"), Err("unknown unit \"hs\" in duration \"5y1hs\"".to_owned()));
        assert_eq!(
            refusal("99999999999999999999s"),
            Err("not a valid duration string: \"99999999999999999999s\"".to_owned())
        );
    }

    #[test]
    fn weeks_print_only_when_exact() {
        for text in ["0s", "1w", "8d", "1h30m", "1y", "366d", "1ms", "2d1s"] {
            assert_eq!(DurationDisplay(parse_duration(text).unwrap_or(0)).to_string(), text);
        }
        assert_eq!(DurationDisplay(-300_000).to_string(), "-5m");
    }
}
