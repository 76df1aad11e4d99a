//! A block's symbols as symbols of a query.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use pyrrha_index::{IndexError, IndexReader};
use pyrrha_model::contract::{QueryContext, SelectHints};
use pyrrha_model::{StoreError, SymbolId};

/// Translates symbol references of one index into ids of one query, each only once, and leaves
/// out labels that the query does not need.
#[derive(Debug)]
pub(super) struct LabelTranslation {
    hints: SelectHints,
    /// Names with whether they are needed.
    names: HashMap<u32, (SymbolId, bool), RandomState>,
    values: Values,
}

/// Query ids of values, by reference.
#[derive(Debug)]
enum Values {
    /// By ordinal, one more than the id; 0 where not known yet. The zeros cost nothing until they
    /// are touched.
    Dense(Vec<u32>),
    /// Of version 1, whose references are byte offsets.
    Sparse(HashMap<u32, SymbolId, RandomState>),
}

impl LabelTranslation {
    /// Bytes that the translation of an index takes at most.
    pub(super) fn bytes(index: &IndexReader) -> usize {
        index.symbol_count() as usize * size_of::<u32>()
    }

    pub(super) fn new(index: &IndexReader, hints: &SelectHints) -> Self {
        let values = if index.version() == 1 {
            Values::Sparse(HashMap::default())
        } else {
            Values::Dense(vec![0; index.symbol_count() as usize])
        };
        Self { hints: hints.clone(), names: HashMap::default(), values }
    }

    /// Appends the needed labels of a series to `out`.
    pub(super) fn append(
        &mut self,
        ctx: &QueryContext,
        index: &IndexReader,
        labels: &[(u32, u32)],
        out: &mut Vec<(SymbolId, SymbolId)>,
    ) -> Result<(), IndexError> {
        for &(name, value) in labels {
            let (name, needed) = self.name(ctx, index, name)?;
            if needed {
                let value = self.value(ctx, index, value)?;
                // A foreign index may spell an absent label as an empty value.
                if value != SymbolId::EMPTY {
                    out.push((name, value));
                }
            }
        }
        Ok(())
    }

    fn name(
        &mut self,
        ctx: &QueryContext,
        index: &IndexReader,
        name: u32,
    ) -> Result<(SymbolId, bool), IndexError> {
        if let Some(&known) = self.names.get(&name) {
            return Ok(known);
        }
        let text = index.symbol(name)?;
        let needed = self.hints.projection.as_ref().is_none_or(|p| p.needs(text));
        let entry = (ctx.symbols.intern(text), needed);
        self.names.insert(name, entry);
        Ok(entry)
    }

    fn value(&mut self, ctx: &QueryContext, index: &IndexReader, value: u32) -> Result<SymbolId, IndexError> {
        match &mut self.values {
            Values::Dense(ids) => match ids.get_mut(value as usize) {
                Some(0) | None => {
                    let id = intern(ctx, index.symbol(value)?)?;
                    if let Some(slot) = ids.get_mut(value as usize) {
                        *slot = id.0.saturating_add(1);
                    }
                    Ok(id)
                }
                Some(known) => Ok(SymbolId(*known - 1)),
            },
            Values::Sparse(ids) => match ids.get(&value) {
                Some(&known) => Ok(known),
                None => {
                    let id = intern(ctx, index.symbol(value)?)?;
                    ids.insert(value, id);
                    Ok(id)
                }
            },
        }
    }
}

fn intern(ctx: &QueryContext, text: &str) -> Result<SymbolId, StoreError> {
    Ok(ctx.symbols.intern(text))
}
