//! Set operators: `and`, `or`, `unless`.

use super::{Map, Matching};
use crate::ast::BinaryOp;
use crate::error::QueryError;
use crate::exec::{Exec, Table};
use crate::labels::LabelIds;
use crate::value::{Bits, Series};

impl<'a> Exec<'a> {
    pub(super) fn set_operator(
        &'a self,
        op: BinaryOp,
        mut lhs: Table<'a>,
        mut rhs: Table<'a>,
        matching: &Matching,
    ) -> Result<Table<'a>, QueryError> {
        match op {
            BinaryOp::And | BinaryOp::Unless => {
                let other = presence(&rhs.series, matching);
                lhs.series.retain_mut(|series| {
                    let found = other.get(&matching.signature(&series.labels));
                    let mut kept = series.column.presence();
                    match (found, op) {
                        (Some(found), BinaryOp::And) => kept.intersect(found),
                        (Some(found), _) => kept.subtract(found),
                        (None, BinaryOp::And) => return false,
                        (None, _) => return true,
                    }
                    series.column.retain(&kept);
                    !series.column.is_empty()
                });
                Ok(lhs)
            }
            _ => {
                let other = presence(&lhs.series, matching);
                rhs.series.retain_mut(|series| {
                    let Some(found) = other.get(&matching.signature(&series.labels)) else { return true };
                    let mut kept = series.column.presence();
                    kept.subtract(found);
                    series.column.retain(&kept);
                    !series.column.is_empty()
                });
                lhs.charge.absorb(rhs.charge);
                lhs.series.extend(rhs.series);
                self.merge_equal(lhs, false)
            }
        }
    }
}

/// Steps at which a signature has a sample.
fn presence(series: &[Series], matching: &Matching) -> Map<LabelIds, Bits> {
    let mut found: Map<LabelIds, Bits> = Map::default();
    for series in series {
        let presence = series.column.presence();
        match found.entry(matching.signature(&series.labels)) {
            hashbrown::hash_map::Entry::Occupied(mut known) => known.get_mut().union(&presence),
            hashbrown::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(presence);
            }
        }
    }
    found
}
