//! The promqltest script language: `load` samples, `eval` queries, compare. One `eval` is one case;
//! instant queries are also executed pinned by `@` at other times, and as range queries.
//!
//! ```text
//! text ──parse_script──► commands ──run_script──► Target (engine over a store, or a server)
//!                                        └──────► ScriptReport
//! ```

mod compare;
mod nhcb;
mod report;
mod runner;
pub mod script;
pub mod series;
mod target;
mod variants;

pub use report::{Failure, ScriptReport};
pub use runner::run_script;
pub use target::{Answer, EngineTarget, LoadedSeries, LoadedValue, Target, script_features, script_options};
