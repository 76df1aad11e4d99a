//! Parts of a date, UTC, from seconds since the epoch.

use pyrrha_model::rfc3339::{civil_from_days, days_from_civil, days_in_month};

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
        F::DayOfMonth => |v| civil_from_days(days(v)).2 as f64,
        F::DayOfYear => |v| {
            let days = days(v);
            (days - days_from_civil(civil_from_days(days).0, 1, 1) + 1) as f64
        },
        F::DaysInMonth => |v| {
            let (year, month, _) = civil_from_days(days(v));
            days_in_month(year, month) as f64
        },
        F::Month => |v| civil_from_days(days(v)).1 as f64,
        F::Year => |v| civil_from_days(days(v)).0 as f64,
        _ => return None,
    })
}

/// Whole seconds. What 64 bits cannot hold (and NaN) counts as 2^63, as Go's clock wraps it.
fn seconds(v: f64) -> i128 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&v) { i128::from(v as i64) } else { 1 << 63 }
}

fn days(v: f64) -> i64 {
    seconds(v).div_euclid(86_400) as i64
}
