//! Deleting series' samples, and taking it back.

use std::fmt;
use std::str::FromStr;

use crate::go_fmt::quote;
use crate::{Matcher, StoreError, TenantId, TimeRange, Timestamp};

/// Names a delete of a tenant, for good. A later delete has a greater id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DeleteId(pub u128);

/// A text that is no id of a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a delete: 32 hexadecimal digits are expected")]
pub struct NotADeleteId;

impl fmt::Display for DeleteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for DeleteId {
    type Err = NotADeleteId;

    fn from_str(text: &str) -> Result<Self, NotADeleteId> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let id = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        id.map(Self).ok_or(NotADeleteId)
    }
}

/// A delete that stands: it hides the samples of matching series in its range that were
/// acknowledged before it, and none that came after.
#[derive(Debug, Clone, PartialEq)]
pub struct Delete {
    /// Its id.
    pub id: DeleteId,
    /// What is deleted: series that satisfy one of these matcher sets.
    pub matcher_sets: Vec<Vec<Matcher>>,
    /// The interval that is deleted.
    pub range: TimeRange,
    /// When it was made, by the wall clock, ms.
    pub at: Timestamp,
    /// It cannot be undone any more: the samples are being removed from the disk.
    pub is_final: bool,
}

impl Delete {
    /// Its matcher sets as PromQL selectors.
    pub fn selectors(&self) -> Vec<String> {
        let one = |m: &Matcher| format!("{}{}{}", m.name, m.op.as_str(), quote(&m.value));
        let set = |set: &Vec<Matcher>| format!("{{{}}}", set.iter().map(one).collect::<Vec<_>>().join(","));
        self.matcher_sets.iter().map(set).collect()
    }
}

/// Deletes of a store.
pub trait Deletes: Send + Sync {
    /// Deletes the samples in `range` of the series that satisfy one of the matcher sets. When it
    /// returns `Ok` the delete survives power loss, and no query that begins from then on sees
    /// them. `None`: the tenant has nothing, so there was nothing to delete.
    fn delete(
        &self,
        tenant: &TenantId,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Option<DeleteId>, StoreError>;

    /// Takes a delete back, durably: what it hid is visible again. Fails with `NotFound` if no such
    /// delete stands, with `Invalid` if it is final.
    fn undo_delete(&self, tenant: &TenantId, id: DeleteId) -> Result<(), StoreError>;

    /// The deletes that stand, oldest first.
    fn standing_deletes(&self, tenant: &TenantId) -> Result<Vec<Delete>, StoreError>;

    /// Makes all deletes that stand final and removes their samples from the tenant's blocks.
    fn purge_deletes(&self, tenant: &TenantId) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_selectors_are_texts() {
        let id = DeleteId(0x0123_4567_89ab_cdef);
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "1", "+0000000000000000000000000000001", "g0000000000000000000000000000000"] {
            assert_eq!(bad.parse::<DeleteId>(), Err(NotADeleteId), "{bad}");
        }
        let delete = Delete {
            id,
            matcher_sets: vec![vec![Matcher::equal("a", "x\"y"), Matcher::equal("b", "")], vec![]],
            range: TimeRange::ALL,
            at: 0,
            is_final: false,
        };
        assert_eq!(delete.selectors(), [r#"{a="x\"y",b=""}"#, "{}"]);
    }
}
