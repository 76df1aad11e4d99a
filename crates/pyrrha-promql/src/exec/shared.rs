//! Values of equal sub-expressions, evaluated once.

use parking_lot::Mutex;
use pyrrha_model::contract::MemoryBudget;
use std::collections::HashMap;
use std::sync::Arc;

use crate::annotations::Annotations;
use crate::error::QueryError;
use crate::exec::table::footprint;
use crate::exec::watch::Counted;
use crate::exec::{Exec, Table};
use crate::plan::Node;
use crate::value::{Series, Steps};

/// Values by sub-expression and steps, charged while the query runs.
pub(super) struct Shared {
    budget: MemoryBudget,
    values: Mutex<Values>,
}

#[derive(Default)]
struct Values {
    bytes: usize,
    /// How many of the bytes are the query's symbols.
    symbols: usize,
    known: HashMap<(usize, Steps), Value>,
}

struct Value {
    series: Vec<Series>,
    /// What its evaluation annotated, and where it stood.
    notes: Annotations,
    start: u32,
    /// What it counted as brought to steps.
    counted: Arc<Counted>,
}

impl Shared {
    pub(super) fn new(budget: &MemoryBudget) -> Self {
        Self { budget: budget.clone(), values: Mutex::default() }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.budget.release(self.values.get_mut().bytes);
    }
}

impl<'a> Exec<'a> {
    /// Charges what the symbol table has grown by.
    pub(super) fn charge_symbols(&self) -> Result<(), QueryError> {
        let now = self.ctx.symbols.bytes();
        let mut values = self.shared.values.lock();
        let grown = now.saturating_sub(values.symbols);
        if grown > 0 {
            self.ctx.budget.reserve(grown).map_err(QueryError::Stopped)?;
            values.symbols = now;
            values.bytes += grown;
        }
        Ok(())
    }

    /// The value of a node that occurs more than once; `evaluate` makes it the first time. Its
    /// annotations are repeated at each position.
    pub(super) fn share(
        &'a self,
        id: usize,
        node: &Node,
        steps: Steps,
        evaluate: impl FnOnce() -> Result<Table<'a>, QueryError>,
    ) -> Result<Table<'a>, QueryError> {
        let known = {
            let values = self.shared.values.lock();
            values.known.get(&(id, steps)).map(|value| {
                let notes = value.notes.moved(node.pos.start.wrapping_sub(value.start));
                (value.series.clone(), notes, value.counted.clone())
            })
        };
        if let Some((series, notes, counted)) = known {
            self.watch.count_again(&counted);
            self.notes.lock().merge(notes);
            return Table::charged(self, series);
        }
        let before = std::mem::take(&mut *self.notes.lock());
        let counted = self.watch.counted();
        let table = evaluate();
        let counted = Arc::new(self.watch.counted_since(&counted));
        let own = std::mem::replace(&mut *self.notes.lock(), before);
        self.notes.lock().merge(own.clone());
        let table = table?;
        let (bytes, _) = footprint(&table.series);
        self.ctx.budget.reserve(bytes).map_err(QueryError::Stopped)?;
        let mut values = self.shared.values.lock();
        values.bytes += bytes;
        let value = Value { series: table.series.clone(), notes: own, start: node.pos.start, counted };
        if values.known.insert((id, steps), value).is_some() {
            // The same node inside itself cannot be; the budget stays right in any case.
            debug_assert!(false, "a shared value is evaluated once");
        }
        drop(values);
        Ok(table)
    }
}
