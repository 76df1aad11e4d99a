//! PromQL: lexer, parser, printer, logical plan, optimiser and vectorised operators. Sees stores
//! through [`pyrrha_model::contract`] only.

pub mod annotations;
pub mod ast;
pub mod error;
pub mod function;
pub mod functions;
pub mod kernel;
pub mod labels;
pub mod value;
