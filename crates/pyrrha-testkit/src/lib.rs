//! Simulated disk and clock, seeds, the simplest correct store, buckets as other systems leave them, and a
//! real S3 server.

pub mod foreign_bucket;
mod model_db;
pub mod object_stores;
mod rng;
mod seeds;
mod sim_clock;
mod sim_disk;

pub use model_db::{ModelDb, ModelRules};
pub use rng::SimRng;
pub use seeds::run_seeds;
pub use sim_clock::SimClock;
pub use sim_disk::{DiskOp, Fault, SimDisk};
