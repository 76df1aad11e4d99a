//! A header's symbols as symbols of a query.

use std::collections::HashMap;

use pyrrha_index::{IndexError, IndexHeader};
use pyrrha_model::SymbolId;
use pyrrha_model::contract::{Projection, QueryContext};

/// Translates symbol references into ids of one query, each only once, and leaves out labels that
/// the query does not need.
#[derive(Debug)]
pub(super) struct Translation {
    /// Values that are remembered.
    values_max: usize,
    projection: Option<Projection>,
    /// Names with whether they are needed.
    names: HashMap<u32, (SymbolId, bool)>,
    values: HashMap<u32, SymbolId>,
}

impl Translation {
    /// Remembers at most so many values: most series share theirs with the ones before.
    pub(super) fn new(projection: Option<Projection>, values_max: usize) -> Self {
        Self { values_max, projection, names: HashMap::new(), values: HashMap::new() }
    }

    /// Appends the needed labels of a series to `out`.
    pub(super) fn append(
        &mut self,
        ctx: &QueryContext,
        header: &IndexHeader,
        labels: &[(u32, u32)],
        out: &mut Vec<(SymbolId, SymbolId)>,
    ) -> Result<(), IndexError> {
        for &(name, value) in labels {
            let (name, needed) = match self.names.get(&name) {
                Some(&known) => known,
                None => {
                    let text = header.symbol(name)?;
                    let needed = self.projection.as_ref().is_none_or(|p| p.needs(text));
                    *self.names.entry(name).or_insert((ctx.symbols.intern(text), needed))
                }
            };
            if !needed {
                continue;
            }
            let value = match self.values.get(&value) {
                Some(&known) => known,
                None => {
                    if self.values.len() >= self.values_max {
                        self.values = HashMap::new();
                    }
                    let id = ctx.symbols.intern(header.symbol(value)?);
                    *self.values.entry(value).or_insert(id)
                }
            };
            // A foreign index may spell an absent label as an empty value.
            if value != SymbolId::EMPTY {
                out.push((name, value));
            }
        }
        Ok(())
    }
}
