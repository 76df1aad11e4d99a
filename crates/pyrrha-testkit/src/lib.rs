//! Simulated disk and clock, series generators, and the simplest correct store.
