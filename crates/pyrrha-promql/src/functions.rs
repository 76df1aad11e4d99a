//! Which kernel computes which function. One module per family below `functions/`.

mod date;
pub(crate) mod extended;
pub(crate) mod float_sum;
mod histogram;
mod info;
mod math;
pub(crate) mod over_time;
pub(crate) mod rate;
pub(crate) mod relabel;
pub(crate) mod slide;
mod starts;
pub(crate) mod totals;
pub(crate) mod windowed;

use crate::ast::RangeMode;
use crate::function::FunctionId;
use crate::kernel::{InfoKernel, InstantKernel, RangeKernel};
use slide::Slide;

/// The kernel of a range-vector function, for ranges of that mode.
pub fn range_kernel(function: FunctionId, mode: RangeMode) -> Option<RangeKernel> {
    use FunctionId as F;
    if mode != RangeMode::Classic {
        return extended::kernel(function, mode);
    }
    Some(match function {
        F::Rate => rate::rate,
        F::Increase => rate::increase,
        F::Delta => rate::delta,
        F::Irate => rate::irate,
        F::Idelta => rate::idelta,
        F::Resets => rate::resets,
        F::Changes => rate::changes,
        F::SumOverTime => totals::sum,
        F::AvgOverTime => totals::avg,
        F::MinOverTime => totals::min,
        F::MaxOverTime => totals::max,
        F::CountOverTime => totals::count,
        F::FirstOverTime => totals::first,
        F::LastOverTime => totals::last,
        F::PresentOverTime | F::AbsentOverTime => totals::present,
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

/// How a function slides over series that hold floats only, if it does.
pub(crate) fn slide(function: FunctionId) -> Option<Slide> {
    use FunctionId as F;
    Some(match function {
        F::Rate => Slide::Rate,
        F::Increase => Slide::Increase,
        F::Delta => Slide::Delta,
        F::Irate => Slide::Irate,
        F::Idelta => Slide::Idelta,
        F::Resets => Slide::Resets,
        F::Changes => Slide::Changes,
        F::SumOverTime => Slide::Sum,
        F::AvgOverTime => Slide::Avg,
        F::MinOverTime => Slide::Min,
        F::MaxOverTime => Slide::Max,
        F::CountOverTime => Slide::Count,
        F::FirstOverTime => Slide::First,
        F::LastOverTime => Slide::Last,
        F::PresentOverTime | F::AbsentOverTime => Slide::Present,
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
