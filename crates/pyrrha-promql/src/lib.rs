//! PromQL: lexer, parser, printer, logical plan, optimiser and vectorised operators. Sees stores
//! through [`pyrrha_model::contract`] only.

pub mod ast;
pub mod function;
