//! Simulated disk and clock, series generators, and the simplest correct store.

mod model_db;
mod rng;
mod sim_clock;
mod sim_disk;

pub use model_db::{ModelDb, ModelRules};
pub use rng::SimRng;
pub use sim_clock::SimClock;
pub use sim_disk::{DiskOp, Fault, SimDisk};
