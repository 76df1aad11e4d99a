//! What the database has to show, what it may show and what it must not, as its user knows it.

use std::collections::{BTreeMap, BTreeSet};

use pyrrha_model::contract::{Delete, DeleteId};
use pyrrha_model::{Matcher, TimeRange};

use crate::Key;

/// Whether a write was acknowledged, as far as its sender knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Acknowledged,
    /// It failed, or was lost with a damaged place: it may be there or not.
    Doubtful,
}

/// Where a delete stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It hides what it found.
    InForce,
    /// It, or its undoing, failed: a restart tells.
    InDoubt,
}

#[derive(Debug)]
pub(crate) struct ModelDelete {
    /// `None` until it is known.
    pub(crate) id: Option<DeleteId>,
    pub(crate) owner: usize,
    pub(crate) sets: Vec<Vec<Matcher>>,
    pub(crate) range: TimeRange,
    /// What had been acknowledged by then.
    pub(crate) hides: BTreeSet<Key>,
    pub(crate) standing: Standing,
    /// It cannot be undone any more.
    pub(crate) is_final: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) samples: BTreeMap<Key, Fate>,
    pub(crate) exemplars: BTreeMap<Key, Fate>,
    pub(crate) deletes: Vec<ModelDelete>,
    /// By tenant: what the metadata may be.
    pub(crate) metadata: BTreeMap<usize, Vec<String>>,
    /// Retention may have removed what is before this.
    pub(crate) gone_before: i64,
}

impl Model {
    /// Whether a sample has to be there, were it not for time.
    pub(crate) fn must_show(&self, key: &Key) -> bool {
        self.samples.get(key) == Some(&Fate::Acknowledged)
            && key.2 >= self.gone_before
            && !self.deletes.iter().any(|d| d.hides.contains(key))
    }

    /// Whether a sample may be there.
    pub(crate) fn may_show(&self, key: &Key) -> bool {
        self.samples.contains_key(key)
            && !self.deletes.iter().any(|d| d.standing == Standing::InForce && d.hides.contains(key))
    }

    /// Whether a delete was ever made that speaks of this place: then it is not sent again.
    pub(crate) fn was_deleted(&self, key: &Key, matches: impl Fn(&ModelDelete) -> bool) -> bool {
        self.deletes.iter().any(|d| d.owner == key.0 && d.range.contains(key.2) && matches(d))
    }

    pub(crate) fn keys_of(&self, owner: usize) -> impl Iterator<Item = &Key> {
        self.samples.range((owner, 0, i64::MIN)..(owner + 1, 0, i64::MIN)).map(|(key, _)| key)
    }

    /// A restart tells what became of deletes.
    pub(crate) fn learn_deletes(&mut self, owner: usize, standing: &[Delete]) {
        let mut unknown: Vec<&Delete> =
            standing.iter().filter(|s| !self.deletes.iter().any(|d| d.id == Some(s.id))).collect();
        self.deletes.retain_mut(|delete| {
            if delete.owner != owner {
                return true;
            }
            if delete.id.is_none() {
                let at =
                    unknown.iter().position(|s| s.range == delete.range && s.matcher_sets == delete.sets);
                delete.id = at.map(|at| unknown.remove(at).id);
            }
            let told = standing.iter().find(|s| Some(s.id) == delete.id);
            delete.is_final |= told.is_some_and(|s| s.is_final);
            match (delete.standing, told) {
                (Standing::InDoubt, Some(_)) => delete.standing = Standing::InForce,
                // It was not made; or it was undone, or became final and did its work.
                (Standing::InDoubt, None) => return delete.id.is_some(),
                // All that it hid is removed, or nothing of it was left.
                (Standing::InForce, None) => delete.is_final = true,
                (Standing::InForce, Some(_)) => {}
            }
            true
        });
        assert!(unknown.is_empty(), "a delete that nobody made stands: {unknown:?}");
    }
}
