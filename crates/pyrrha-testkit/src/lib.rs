//! Simulated disk and clock, seeds, the simplest correct store, and buckets as other systems leave them.

pub mod foreign_bucket;
mod model_db;
mod rng;
mod seeds;
mod sim_clock;
mod sim_disk;

pub use model_db::{ModelDb, ModelRules};
pub use rng::SimRng;
pub use seeds::run_seeds;
pub use sim_clock::SimClock;
pub use sim_disk::{DiskOp, Fault, SimDisk};
