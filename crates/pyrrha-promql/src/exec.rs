//! The operators: evaluation of a plan over the steps of a query, series by series.
//!
//! ```text
//! selector ─► per-series stages (window, functions, scalar operators) ─► fold (aggregate) or table
//!   256 series a batch, batches on all threads, folded in order
//! ```

mod aggregate;
mod binary;
mod call;
mod decoders;
mod helpers;
mod names;
mod natural;
mod operator;
mod pipeline;
mod result;
pub(crate) mod samples;
mod scalar;
mod select;
mod shared;
mod stages;
mod table;
mod watch;
mod whole;
mod window;

use parking_lot::Mutex;
use pyrrha_model::SymbolId;
use pyrrha_model::contract::{QueryContext, Queryable};

use crate::annotations::{Annotation, Annotations};
use crate::ast::ValueType;
use crate::engine::{Engine, EngineOptions, QueryValue};
use crate::error::QueryError;
use crate::plan::{Kind, Node};
use crate::value::Steps;

pub(crate) use decoders::Decoders;
pub(crate) use helpers::Helpers;
pub(crate) use scalar::{arithmetic, compare, mismatch, scalar_binary};
pub(crate) use table::{Charge, Table};
pub(crate) use watch::{Wanted, Watch};

/// The evaluation of one query.
pub(crate) struct Exec<'a> {
    pub(crate) ctx: &'a QueryContext,
    pub(crate) store: &'a dyn Queryable,
    pub(crate) options: &'a EngineOptions,
    pub(crate) decoders: &'a Decoders,
    helpers: &'a Helpers,
    /// ms
    pub(crate) lookback: i64,
    pub(crate) range_query: bool,
    /// Longest windows of downsampled samples, ms.
    max_resolution: i64,
    /// `__name__`, `__type__`, `__unit__`.
    pub(crate) name_labels: [SymbolId; 3],
    notes: Mutex<Annotations>,
    shared: shared::Shared,
    pub(crate) watch: Watch,
}

impl<'a> Exec<'a> {
    pub(crate) fn new(
        ctx: &'a QueryContext,
        store: &'a dyn Queryable,
        engine: &'a Engine,
        lookback: i64,
        range_query: bool,
        watch: Watch,
    ) -> Self {
        Self {
            ctx,
            store,
            options: engine.options(),
            decoders: engine.decoders(),
            helpers: engine.helpers(),
            lookback,
            range_query,
            max_resolution: i64::MAX,
            name_labels: names::name_labels(&ctx.symbols),
            notes: Mutex::default(),
            shared: shared::Shared::new(&ctx.budget),
            watch,
        }
    }

    /// With windows of at most this length, ms, where finer data exists.
    pub(crate) fn with_max_resolution(self, max_resolution: Option<i64>) -> Self {
        Self { max_resolution: max_resolution.unwrap_or(i64::MAX), ..self }
    }

    /// Longest windows of downsampled samples that may answer where finer data exists, ms.
    pub(crate) fn max_resolution(&self) -> i64 {
        self.max_resolution
    }

    /// The value of the whole plan.
    pub(crate) fn evaluate(&'a self, plan: &'a Node, steps: Steps) -> Result<QueryValue, QueryError> {
        self.ctx.cancel.check().map_err(QueryError::Stopped)?;
        match plan.ty {
            ValueType::Scalar => self.scalar_result(plan, steps),
            ValueType::String => match &plan.kind {
                Kind::Text(text) => Ok(QueryValue::String { t: steps.start, text: text.clone() }),
                _ => Err(mismatch(plan.ty)),
            },
            ValueType::Vector => self.vector_result(plan, steps),
            ValueType::Matrix => self.matrix_result(plan, steps),
        }
    }

    /// What the evaluation found out besides the value.
    pub(crate) fn finish(self) -> (Annotations, Watch) {
        (self.notes.into_inner(), self.watch)
    }

    /// Adds annotations, in the order of evaluation.
    pub(crate) fn annotate(&self, notes: impl IntoIterator<Item = Annotation>) {
        self.notes.lock().extend(notes);
    }

    /// Counts samples as held, or fails by the limit.
    pub(crate) fn hold(&self, samples: usize) -> Result<(), QueryError> {
        if self.watch.progress.hold(samples, self.options.max_samples) {
            Ok(())
        } else {
            Err(QueryError::TooManySamples)
        }
    }

    /// Fails if a column with a value at each step cannot be afforded: asked before one is made.
    pub(crate) fn afford_dense(&'a self, steps: Steps) -> Result<(), QueryError> {
        let mut charge = Charge::new(self);
        charge.grow(steps.count.saturating_mul(9), steps.count)
    }

    /// Gives back held samples.
    pub(crate) fn let_go(&self, samples: usize) {
        self.watch.progress.let_go(samples);
    }
}
