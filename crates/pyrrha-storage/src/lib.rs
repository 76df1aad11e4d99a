//! Write log, head, blocks, block merge, the per-tenant database.

pub mod block;
mod durable;
pub mod wal;
