//! Which kernel computes which function. One module per family below `functions/`.
//!
//! Counting, extremes, sums and rates over ranges slide inside the engine and are not listed here.

mod date;
mod histogram;
mod info;
mod math;
mod over_time;
mod relabel;

use crate::ast::RangeMode;
use crate::function::FunctionId;
use crate::kernel::{InfoKernel, InstantKernel, RangeKernel};

/// The kernel of a range-vector function, for ranges of that mode.
pub fn range_kernel(function: FunctionId, mode: RangeMode) -> Option<RangeKernel> {
    use FunctionId as F;
    if mode != RangeMode::Classic {
        return None;
    }
    Some(match function {
        F::QuantileOverTime => over_time::quantile_over_time,
        F::MadOverTime => over_time::mad_over_time,
        F::StddevOverTime => over_time::stddev_over_time,
        F::StdvarOverTime => over_time::stdvar_over_time,
        F::Deriv => over_time::deriv,
        F::PredictLinear => over_time::predict_linear,
        F::DoubleExponentialSmoothing => over_time::double_exponential_smoothing,
        F::TsOfMaxOverTime => over_time::ts_of_max_over_time,
        F::TsOfMinOverTime => over_time::ts_of_min_over_time,
        F::TsOfFirstOverTime => over_time::ts_of_first_over_time,
        F::TsOfLastOverTime => over_time::ts_of_last_over_time,
        _ => return None,
    })
}

/// The kernel of an instant-vector function.
pub fn instant_kernel(function: FunctionId) -> Option<InstantKernel> {
    use FunctionId as F;
    use InstantKernel::{Map, Series, Vector};
    Some(match function {
        F::Round => Series(math::round),
        F::Clamp => Series(math::clamp),
        F::ClampMin => Series(math::clamp_min),
        F::ClampMax => Series(math::clamp_max),
        F::HistogramCount => Series(histogram::histogram_count),
        F::HistogramSum => Series(histogram::histogram_sum),
        F::HistogramAvg => Series(histogram::histogram_avg),
        F::HistogramStddev => Series(histogram::histogram_stddev),
        F::HistogramStdvar => Series(histogram::histogram_stdvar),
        F::HistogramQuantile => Vector(histogram::histogram_quantile),
        F::HistogramQuantiles => Vector(histogram::histogram_quantiles),
        F::HistogramFraction => Vector(histogram::histogram_fraction),
        F::LabelReplace => Vector(relabel::label_replace),
        F::LabelJoin => Vector(relabel::label_join),
        _ => return math::map(function).or_else(|| date::map(function)).map(Map),
    })
}

/// The kernel of `info()`.
pub fn info_kernel() -> Option<InfoKernel> {
    Some(info::info)
}

#[cfg(test)]
mod tests;
