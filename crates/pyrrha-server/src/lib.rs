//! Configuration, HTTP faces and wiring of the `pyrrha` binary.
//!
//! ```text
//! listener ─► http (routes, parameters, envelope) ─► query_pool ─► engine ─► Store
//!                                      └► write ──► remote write decoder ──► Store
//! ```

mod active;
pub mod app;
mod budgets;
pub mod cli;
pub mod config;
pub mod features;
pub mod http;
mod json;
mod listener;
mod logging;
mod query_log;
mod query_pool;
mod self_scrape;
mod server;
mod store;
mod telemetry;
