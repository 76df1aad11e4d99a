//! The query engine's face: options, queries, results.

use std::sync::Arc;

use pyrrha_model::contract::{QueryContext, Queryable};
use pyrrha_model::{FloatHistogram, Labels, Timestamp};

use crate::annotations::Annotations;
use crate::ast::{Expr, ValueType};
use crate::depth::with_room;
use crate::error::QueryError;
use crate::exec::{Decoders, Exec, Helpers, Wanted, Watch};
use crate::features::Features;
use crate::observe::{PerStep, Progress, QueryStats, QueryTimes, Stopwatch};
use crate::plan::{self, Bounds, ExplainNode};
use crate::value::{Sample, Steps};

/// Settings of an [`Engine`].
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// How far an instant selector looks back, ms.
    pub lookback_delta_ms: i64,
    /// Most samples a query may hold at once.
    pub max_samples: usize,
    /// Step of subqueries that name none, ms.
    pub default_step_ms: i64,
    /// Threads that one query may use; 1 evaluates on the caller's.
    pub threads: usize,
    /// Chunk data (or as much other work) for which one thread more is woken, bytes.
    pub thread_worth: usize,
    /// What is switched on.
    pub features: Features,
    /// Which optimiser rules run.
    pub optimiser: Optimiser,
}

/// Kill switches of the optimiser's rules. None of them changes a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Optimiser {
    /// Constants are computed once, when planning.
    pub fold_constants: bool,
    /// What `@` makes the same at every step is evaluated once.
    pub hoist_invariant: bool,
    /// Equal sub-expressions are evaluated once.
    pub share_common: bool,
    /// Stores are told which labels are needed.
    pub project_labels: bool,
}

impl Optimiser {
    /// All rules.
    pub const ON: Self =
        Self { fold_constants: true, hoist_invariant: true, share_common: true, project_labels: true };
    /// No rule.
    pub const OFF: Self =
        Self { fold_constants: false, hoist_invariant: false, share_common: false, project_labels: false };
}

impl Default for Optimiser {
    fn default() -> Self {
        Self::ON
    }
}

impl Default for EngineOptions {
    /// Prometheus' defaults, one thread.
    fn default() -> Self {
        Self {
            lookback_delta_ms: 300_000,
            max_samples: 50_000_000,
            default_step_ms: 60_000,
            threads: 1,
            // Some 0.1 ms of reading; waking a thread takes a quarter of it.
            thread_worth: 48 << 10,
            features: Features::default(),
            optimiser: Optimiser::ON,
        }
    }
}

/// What one query may set for itself.
#[derive(Debug, Clone, Default)]
pub struct QueryOptions {
    /// Instead of the engine's lookback, ms, if it is positive.
    pub lookback_delta_ms: Option<i64>,
    /// The query's text, for whoever lists it.
    pub text: String,
    /// Where to follow the query.
    pub progress: Arc<Progress>,
    /// Tells the time; without one, none is measured.
    pub stopwatch: Option<Stopwatch>,
    /// Whether samples are counted by step.
    pub per_step: bool,
    /// Longest windows of downsampled samples that may answer where finer data exists, ms; 0: samples.
    /// `None`: as long as step and range allow.
    pub max_source_resolution_ms: Option<i64>,
    /// Whether the plan is told with what each operator did (which needs a stopwatch).
    pub explain: bool,
}

/// A query's result.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryResult {
    /// The value.
    pub value: QueryValue,
    /// Warnings and infos.
    pub annotations: Annotations,
    /// What it took.
    pub stats: QueryStats,
    /// Where the time went.
    pub times: QueryTimes,
    /// Samples by step, if asked for.
    pub per_step: Option<PerStep>,
    /// What each operator did, if asked for.
    pub explain: Option<ExplainNode>,
}

/// The value of an expression.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryValue {
    /// A number.
    Scalar {
        /// Evaluation time, ms.
        t: Timestamp,
        /// The number.
        v: f64,
    },
    /// A text.
    String {
        /// Evaluation time, ms.
        t: Timestamp,
        /// The text.
        text: String,
    },
    /// One sample per series. The order is that of the sorting function or of `topk`/`bottomk`
    /// where one of them is the outermost.
    Vector(Vec<VectorSample>),
    /// Series over time, sorted by labels.
    Matrix(Vec<MatrixSeries>),
}

/// An element of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    /// Its labels.
    pub labels: Labels,
    /// Evaluation time, ms.
    pub t: Timestamp,
    /// Its value.
    pub value: Sample,
}

/// A series of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSeries {
    /// Its labels.
    pub labels: Labels,
    /// Floats by time (ms).
    pub floats: Vec<(Timestamp, f64)>,
    /// Histograms by time (ms); no time is among the floats'.
    pub histograms: Vec<(Timestamp, Arc<FloatHistogram>)>,
}

/// Evaluates expressions. Holds no data of queries, but remembers the times of chunks, which makes reading
/// chunks of the same targets faster, and keeps threads; share one.
#[derive(Debug, Clone, Default)]
pub struct Engine {
    options: EngineOptions,
    decoders: Arc<Decoders>,
    helpers: Arc<Helpers>,
}

#[cfg(test)]
mod tests;

impl Engine {
    /// An engine with these settings.
    pub fn new(options: EngineOptions) -> Self {
        let helpers = Arc::new(Helpers::new(options.threads));
        Self { options, decoders: Arc::default(), helpers }
    }

    /// This engine with other settings. Both share what is remembered and the threads, of which there are as
    /// many as this one's settings ask for.
    pub fn with(&self, options: EngineOptions) -> Self {
        Self { options, decoders: self.decoders.clone(), helpers: self.helpers.clone() }
    }

    /// Its settings.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Evaluates `expr` at `t` ms.
    pub fn instant(
        &self,
        ctx: &QueryContext,
        store: &dyn Queryable,
        expr: &Expr,
        t: Timestamp,
    ) -> Result<QueryResult, QueryError> {
        self.instant_with(ctx, store, expr, t, &QueryOptions::default())
    }

    /// Evaluates `expr` at the times `start`, `start + step_ms` and so on up to `end` (ms).
    pub fn range(
        &self,
        ctx: &QueryContext,
        store: &dyn Queryable,
        expr: &Expr,
        start: Timestamp,
        end: Timestamp,
        step_ms: i64,
    ) -> Result<QueryResult, QueryError> {
        self.range_with(ctx, store, expr, start, end, step_ms, &QueryOptions::default())
    }

    /// [`Engine::instant`] with settings of this query.
    pub fn instant_with(
        &self,
        ctx: &QueryContext,
        store: &dyn Queryable,
        expr: &Expr,
        t: Timestamp,
        options: &QueryOptions,
    ) -> Result<QueryResult, QueryError> {
        let bounds = self.bounds(t, t, 0);
        deep(expr, || self.run(ctx, store, expr, Steps::instant(t), bounds, options))
    }

    /// [`Engine::range`] with settings of this query.
    #[allow(clippy::too_many_arguments, reason = "the parameters of a range query")]
    pub fn range_with(
        &self,
        ctx: &QueryContext,
        store: &dyn Queryable,
        expr: &Expr,
        start: Timestamp,
        end: Timestamp,
        step_ms: i64,
        options: &QueryOptions,
    ) -> Result<QueryResult, QueryError> {
        let ty = expr.value_type();
        if !matches!(ty, ValueType::Scalar | ValueType::Vector) {
            return Err(QueryError::Invalid(format!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                ty.describe()
            )));
        }
        let bounds = self.bounds(start, end, step_ms.max(1));
        let steps = Steps::between(start, end, step_ms);
        deep(expr, || self.run(ctx, store, expr, steps, bounds, options))
    }

    /// The plan of a range query (`step_ms` 0 and `end` = `start`: of an instant query).
    pub fn explain(
        &self,
        expr: &Expr,
        start: Timestamp,
        end: Timestamp,
        step_ms: i64,
    ) -> Result<ExplainNode, QueryError> {
        deep(expr, || {
            let plan = plan::build(expr, &self.bounds(start, end, step_ms))?;
            Ok(ExplainNode::of(&plan, None))
        })
    }

    pub(crate) fn decoders(&self) -> &Decoders {
        &self.decoders
    }

    pub(crate) fn helpers(&self) -> &Helpers {
        &self.helpers
    }

    fn bounds(&self, start: Timestamp, end: Timestamp, step: i64) -> Bounds {
        Bounds {
            start,
            end,
            step,
            default_step: self.options.default_step_ms,
            optimiser: self.options.optimiser,
            delayed_name_removal: self.options.features.delayed_name_removal,
        }
    }

    fn run(
        &self,
        ctx: &QueryContext,
        store: &dyn Queryable,
        expr: &Expr,
        steps: Steps,
        bounds: Bounds,
        options: &QueryOptions,
    ) -> Result<QueryResult, QueryError> {
        let began = options.stopwatch.as_ref().map(Stopwatch::elapsed).unwrap_or_default();
        let plan = plan::build(expr, &bounds)?;
        let wanted = Wanted {
            progress: options.progress.clone(),
            stopwatch: options.stopwatch.clone(),
            explain: options.explain,
            per_step: options.per_step,
        };
        let watch = Watch::new(wanted, plan.count(), steps);
        let prepared = watch.now();
        let own = options.lookback_delta_ms.filter(|ms| *ms > 0);
        let lookback = own.unwrap_or(self.options.lookback_delta_ms);
        let exec = Exec::new(ctx, store, self, lookback, bounds.step != 0, watch)
            .with_max_resolution(options.max_source_resolution_ms);
        let value = exec.evaluate(&plan, steps);
        let (annotations, watch) = exec.finish();
        let value = value.map_err(|e| e.name_dearest(|| plan::dearest(&plan, &watch)))?;
        Ok(QueryResult {
            value,
            annotations,
            stats: watch.progress.stats(),
            times: watch.times(began, prepared),
            per_step: watch.per_step(),
            explain: options.explain.then(|| ExplainNode::of(&plan, Some(&watch))),
        })
    }
}

/// Runs what walks the plan of `expr`, where there is the stack for it.
fn deep<T: Send>(expr: &Expr, walk: impl FnOnce() -> Result<T, QueryError> + Send) -> Result<T, QueryError> {
    with_room(expr.height(), walk)
        .map_err(|e| QueryError::Execution(format!("no thread starts for a deep expression: {e}")))?
}
