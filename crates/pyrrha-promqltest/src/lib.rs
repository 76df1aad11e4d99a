//! The promqltest script language and its comparisons.
