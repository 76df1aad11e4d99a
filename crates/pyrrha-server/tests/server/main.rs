//! The real binary, from outside: start and stop, API, bad input, tenants.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod adopt;
mod api;
mod attach;
mod bad_input;
mod bucket;
mod compactor;
mod downsample;
#[path = "../support/http.rs"]
mod http;
mod memory;
mod process;
mod remote_write;
mod rough_s3;
mod serving;
mod start;
mod storage;
