//! Which kernel computes which function. One module per family below `functions/`.
//!
//! Counting, extremes, sums and rates over ranges slide inside the engine and are not listed here.

use crate::ast::RangeMode;
use crate::function::FunctionId;
use crate::kernel::{InfoKernel, InstantKernel, RangeKernel};

/// The kernel of a range-vector function, for ranges of that mode.
pub fn range_kernel(_function: FunctionId, _mode: RangeMode) -> Option<RangeKernel> {
    None
}

/// The kernel of an instant-vector function.
pub fn instant_kernel(_function: FunctionId) -> Option<InstantKernel> {
    None
}

/// The kernel of `info()`.
pub fn info_kernel() -> Option<InfoKernel> {
    None
}
