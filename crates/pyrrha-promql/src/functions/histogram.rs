//! Functions over histograms, native and classic.

mod classic;
mod quantile;

use pyrrha_model::FloatHistogram;

use crate::kernel::{KernelArgs, KernelNotes};
use crate::value::Column;

pub(super) use quantile::{histogram_fraction, histogram_quantile, histogram_quantiles};

/// `histogram_count(v)`
pub(super) fn histogram_count(column: &mut Column, _: &KernelArgs<'_>, _: &mut KernelNotes<'_>) {
    each(column, |h| h.count);
}

/// `histogram_sum(v)`
pub(super) fn histogram_sum(column: &mut Column, _: &KernelArgs<'_>, _: &mut KernelNotes<'_>) {
    each(column, |h| h.sum);
}

/// `histogram_avg(v)`
pub(super) fn histogram_avg(column: &mut Column, _: &KernelArgs<'_>, _: &mut KernelNotes<'_>) {
    each(column, |h| h.sum / h.count);
}

/// `histogram_stdvar(v)`
pub(super) fn histogram_stdvar(column: &mut Column, _: &KernelArgs<'_>, _: &mut KernelNotes<'_>) {
    each(column, FloatHistogram::variance);
}

/// `histogram_stddev(v)`
pub(super) fn histogram_stddev(column: &mut Column, _: &KernelArgs<'_>, _: &mut KernelNotes<'_>) {
    each(column, |h| h.variance().sqrt());
}

/// Floats from histograms; floats are dropped.
fn each(column: &mut Column, number: impl Fn(&FloatHistogram) -> f64) {
    let histograms = std::mem::take(column.histograms_mut());
    *column = Column::new(column.steps());
    for (step, histogram) in histograms {
        column.set_float(step as usize, number(&histogram));
    }
}
