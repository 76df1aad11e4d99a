//! RFC 3339 times, read and written, and the calendar behind them. Source: RFC 3339 §5.6; calendar by
//! days-from-civil.

use crate::Timestamp;

/// Reads `2006-01-02T15:04:05.999999999Z` or with an offset; what is finer than ms is cut off.
pub fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let shape = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if bytes.len() < 20 || shape.iter().any(|&(at, b)| bytes[at] != b) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut at = 19;
    let mut ms = 0;
    if bytes[at] == b'.' {
        let digits = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        let padded: String = text[at + 1..at + 1 + digits].chars().chain("00".chars()).take(3).collect();
        ms = padded.parse().ok()?;
        at += 1 + digits;
    }
    let offset_s = match bytes.get(at)? {
        b'Z' if bytes.len() == at + 1 => 0,
        sign @ (b'+' | b'-') if bytes.len() == at + 6 && bytes[at + 3] == b':' => {
            let (hours, minutes) = (number(at + 1..at + 3)?, number(at + 4..at + 6)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 3600 + minutes * 60) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset_s;
    Some(seconds * 1000 + ms)
}

/// Writes a time of the years 0 to 9999 as UTC, with ms.
pub fn format(ms: Timestamp) -> String {
    format!("{}.{:03}Z", to_seconds(ms), ms.rem_euclid(1000))
}

/// Writes a time as UTC, in whole seconds; what is finer is cut off.
pub fn format_seconds(ms: Timestamp) -> String {
    format!("{}Z", to_seconds(ms))
}

fn to_seconds(ms: Timestamp) -> String {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days of a month (1 to 12) of the Gregorian calendar.
pub fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a day of the Gregorian calendar, whose month is 1 to 12. Years are counted from
/// March, so that the leap day is last.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a day since 1970-01-01. Years of days up to some 2^60 are exact.
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for ms in [0, 951_782_400_000, 1_709_164_800_123, -62_135_596_800_000, 253_402_300_799_999] {
            assert_eq!(parse(&format(ms)), Some(ms), "{}", format(ms));
        }
        assert_eq!(format(1_435_781_451_781), "2015-07-01T20:10:51.781Z");
    }

    #[test]
    fn offsets_and_fractions_are_read() {
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse("2024-02-29T12:30:15.25Z"), Some(1_709_209_815_250));
        assert_eq!(parse("2024-02-29T12:30:15.123456789+02:30"), Some(1_709_200_815_123));
        assert_eq!(parse("2001-01-01T00:00:00-01:00"), Some(978_310_800_000));
        for bad in ["", "now", "2024-02-29", "2024-13-01T00:00:00Z", "2024-01-01T00:00Z", "é-1-1T1:1:1Z"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn whole_seconds_are_cut_towards_the_past() {
        assert_eq!(format_seconds(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(format_seconds(-1000), "1969-12-31T23:59:59Z");
        assert_eq!(format_seconds(-1), "1969-12-31T23:59:59Z");
    }
}
