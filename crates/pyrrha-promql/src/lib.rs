//! PromQL: lexer, parser, printer, logical plan, optimiser and vectorised operators. Sees stores
//! through [`pyrrha_model::contract`] only.

pub mod annotations;
pub mod ast;
pub mod ast_json;
mod depth;
mod engine;
pub mod error;
mod exec;
pub mod features;
pub mod function;
pub mod functions;
pub mod kernel;
pub mod labels;
mod lexer;
mod observe;
pub mod parser;
mod plan;
pub mod printer;
pub mod value;

pub use engine::{
    Engine, EngineOptions, MatrixSeries, Optimiser, QueryOptions, QueryResult, QueryValue, VectorSample,
};
pub use error::QueryError;
pub use features::Features;
pub use lexer::{raw_byte, unquote};
pub use observe::{NodeStats, PerStep, Progress, QueryStats, QueryTimes, Stopwatch};
pub use parser::{ParseError, parse};
pub use plan::ExplainNode;
