//! Parts of a date, UTC, from seconds since the epoch.

use crate::function::FunctionId;
use crate::kernel::MapKernel;

/// The function that computes a part of a date.
pub(super) fn map(function: FunctionId) -> Option<MapKernel> {
    use FunctionId as F;
    Some(match function {
        F::Minute => |v| seconds(v).div_euclid(60).rem_euclid(60) as f64,
        F::Hour => |v| seconds(v).div_euclid(3600).rem_euclid(24) as f64,
        // 1 January 1970 was a Thursday; Sunday is 0.
        F::DayOfWeek => |v| (days(v) + 4).rem_euclid(7) as f64,
        F::DayOfMonth => |v| civil(days(v)).day as f64,
        F::DayOfYear => |v| {
            let days = days(v);
            (days - first_of_january(civil(days).year) + 1) as f64
        },
        F::DaysInMonth => |v| {
            let date = civil(days(v));
            days_in_month(date.year, date.month) as f64
        },
        F::Month => |v| civil(days(v)).month as f64,
        F::Year => |v| civil(days(v)).year as f64,
        _ => return None,
    })
}

struct Date {
    year: i64,
    month: i64,
    day: i64,
}

/// Whole seconds. What 64 bits cannot hold (and NaN) counts as 2^63, as Go's clock wraps it.
fn seconds(v: f64) -> i128 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&v) { i128::from(v as i64) } else { 1 << 63 }
}

fn days(v: f64) -> i64 {
    seconds(v).div_euclid(86_400) as i64
}

/// The civil date of a day since the epoch, counted in eras of 400 years that begin on 1 March, so
/// that a leap day is the last of its year.
fn civil(days: i64) -> Date {
    const ERA: i64 = 146_097;
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(ERA), shifted.rem_euclid(ERA));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    Date {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month,
        day: of_year - (153 * from_march + 2) / 5 + 1,
    }
}

/// The day since the epoch on which a year begins.
fn first_of_january(year: i64) -> i64 {
    let before = year - 1;
    365 * year + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400) - 719_527
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}
