//! What scripts run against: anything that can be cleared, loaded and queried.

use pyrrha_model::contract::{Ingest, QueryContext, Queryable, Value};
use pyrrha_model::{FloatHistogram, Labels, TenantId, Timestamp};
use pyrrha_promql::ast::Expr;
use pyrrha_promql::{Engine, EngineOptions, Features, QueryResult, QueryValue};

/// A series of a `load`.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedSeries {
    /// Its labels.
    pub labels: Labels,
    /// (start timestamp or 0, time, value), by time (ms).
    pub samples: Vec<(Timestamp, Timestamp, LoadedValue)>,
}

/// The value of a loaded sample.
#[derive(Debug, Clone, PartialEq)]
pub enum LoadedValue {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Box<FloatHistogram>),
}

/// What a query answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The value.
    pub value: QueryValue,
    /// Warnings, with positions.
    pub warnings: Vec<String>,
    /// Infos, with positions.
    pub infos: Vec<String>,
}

/// A system under test. Errors are the texts that a client would see.
pub trait Target {
    /// Forgets all series.
    fn clear(&mut self) -> Result<(), String>;

    /// Adds samples, in one batch.
    fn load(&mut self, series: &[LoadedSeries]) -> Result<(), String>;

    /// Evaluates `expr`, whose text is `query`, at `t` ms.
    fn instant(&mut self, query: &str, expr: &Expr, t: Timestamp) -> Result<Answer, String>;

    /// Evaluates `expr`, whose text is `query`, at `start`, `start + step` and so on (ms).
    fn range(
        &mut self,
        query: &str,
        expr: &Expr,
        start: Timestamp,
        end: Timestamp,
        step: i64,
    ) -> Result<Answer, String>;
}

/// What is switched on when scripts run.
pub fn script_features() -> Features {
    Features { type_and_unit_labels: false, per_step_stats: false, ..Features::all() }
}

/// The engine's settings under which scripts hold.
pub fn script_options() -> EngineOptions {
    EngineOptions { max_samples: 10_000, features: script_features(), ..EngineOptions::default() }
}

/// An engine over a store; `clear` makes a new store.
pub struct EngineTarget<S, F> {
    engine: Engine,
    fresh: F,
    store: S,
}

impl<S: Ingest + Queryable, F: FnMut() -> S> EngineTarget<S, F> {
    /// `fresh` makes an empty store.
    pub fn new(engine: Engine, mut fresh: F) -> Self {
        let store = fresh();
        Self { engine, fresh, store }
    }

    fn options(query: &str) -> pyrrha_promql::QueryOptions {
        pyrrha_promql::QueryOptions { text: query.to_owned(), ..Default::default() }
    }
}

fn answer(query: &str, result: QueryResult) -> Answer {
    Answer {
        value: result.value,
        warnings: result.annotations.warnings(query),
        infos: result.annotations.infos(query),
    }
}

impl<S: Ingest + Queryable, F: FnMut() -> S> Target for EngineTarget<S, F> {
    fn clear(&mut self) -> Result<(), String> {
        self.store = (self.fresh)();
        Ok(())
    }

    fn load(&mut self, series: &[LoadedSeries]) -> Result<(), String> {
        let mut batch = self.store.appender(&TenantId::anonymous()).map_err(|e| e.to_string())?;
        for s in series {
            let reference =
                batch.resolve(None, &s.labels).map_err(|e| format!("series={}: {e}", s.labels))?;
            for (start, t, value) in &s.samples {
                let appended = match value {
                    LoadedValue::Float(v) => batch.append(reference, *start, *t, *v),
                    LoadedValue::Histogram(h) => {
                        batch.append_histogram(reference, *start, *t, Value::FloatHistogram(h.clone()))
                    }
                };
                appended.map_err(|e| format!("series={} t={t}: {e}", s.labels))?;
            }
        }
        batch.commit().map(drop).map_err(|e| e.to_string())
    }

    fn instant(&mut self, query: &str, expr: &Expr, t: Timestamp) -> Result<Answer, String> {
        let ctx = QueryContext::unlimited();
        let result = self.engine.instant_with(&ctx, &self.store, expr, t, &Self::options(query));
        result.map(|r| answer(query, r)).map_err(|e| e.to_string())
    }

    fn range(
        &mut self,
        query: &str,
        expr: &Expr,
        start: Timestamp,
        end: Timestamp,
        step: i64,
    ) -> Result<Answer, String> {
        let ctx = QueryContext::unlimited();
        let result = self.engine.range_with(&ctx, &self.store, expr, start, end, step, &Self::options(query));
        result.map(|r| answer(query, r)).map_err(|e| e.to_string())
    }
}
