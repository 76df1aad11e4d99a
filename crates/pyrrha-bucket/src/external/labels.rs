//! External labels of a block beside those of its series: what is injected, what tells replicas apart, and
//! which matchers they answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use pyrrha_model::contract::LabelQuery;
use pyrrha_model::{Labels, Matcher};

/// The external labels of a stream of blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct External {
    /// All that series may be asked for.
    all: BTreeMap<String, String>,
    /// Names that tell replicas apart, whether the block has them or its series.
    replica_names: Arc<[String]>,
}

impl External {
    /// Of a block's external labels. Names in double underscores are for the system that made them; `owner`
    /// is the name of the label that says whose it is.
    pub(crate) fn new(
        labels: &BTreeMap<String, String>,
        owner: Option<&str>,
        replica_names: Arc<[String]>,
    ) -> Self {
        let own = |name: &String| name.starts_with("__") || Some(name.as_str()) == owner;
        let all = labels.iter().filter(|(name, value)| !own(name) && !value.is_empty());
        Self { all: all.map(|(n, v)| (n.clone(), v.clone())).collect(), replica_names }
    }

    /// Of a block that a manifest lists. Labels of series tell no replicas apart there.
    pub(crate) fn of_listed(labels: BTreeMap<String, String>, replica_labels: &[String]) -> Self {
        if labels.is_empty() {
            return Self::default();
        }
        let own = replica_labels.iter().filter(|name| labels.contains_key(*name));
        Self::new(&labels, None, own.cloned().collect())
    }

    /// Labels that every series gets.
    pub(crate) fn injected(&self) -> impl Iterator<Item = (&str, &str)> {
        let kept = self.all.iter().filter(|(name, _)| !self.replica_names.contains(name));
        kept.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Names of labels of series that are taken away: of replicas, and those that are injected.
    pub(crate) fn dropped(&self) -> Arc<[String]> {
        let injected = self.all.keys().filter(|name| !self.replica_names.contains(name));
        self.replica_names.iter().chain(injected).cloned().collect()
    }

    /// Names of replica labels that series may have of their own.
    pub(crate) fn inner_replica_names(&self) -> impl Iterator<Item = &String> {
        self.replica_names.iter().filter(|name| !self.all.contains_key(*name))
    }

    /// The value of a label that tells replicas apart.
    pub(crate) fn replica_value(&self, name: &str) -> Option<&str> {
        self.all.get(name).map(String::as_str)
    }

    /// All names that tell replicas apart.
    pub(crate) fn replica_names(&self) -> &[String] {
        &self.replica_names
    }

    /// Whether series come out as they are in the block, as far as this tells.
    pub(crate) fn changes_nothing(&self) -> bool {
        self.all.is_empty() && self.replica_names.is_empty()
    }

    /// The matchers that series have to satisfy themselves; `None` if an external label does not satisfy
    /// its own.
    pub(crate) fn left_of(&self, matchers: &[Matcher]) -> Option<Vec<Matcher>> {
        let mut left = Vec::new();
        for matcher in matchers {
            match self.all.get(&matcher.name) {
                Some(value) if matcher.matches(value) => {}
                Some(_) => return None,
                None => left.push(matcher.clone()),
            }
        }
        Some(left)
    }

    /// The same of a query about labels, without its limit; `None` if no series can satisfy it.
    pub(crate) fn left_of_query(&self, query: &LabelQuery) -> Option<LabelQuery> {
        if query.matcher_sets.is_empty() {
            return Some(LabelQuery::all(query.range));
        }
        let sets: Vec<Vec<Matcher>> = query.matcher_sets.iter().filter_map(|set| self.left_of(set)).collect();
        if sets.is_empty() {
            return None;
        }
        // One that asks for nothing more is satisfied by all series.
        let all = sets.iter().any(Vec::is_empty);
        Some(LabelQuery::new(if all { Vec::new() } else { sets }, query.range))
    }

    /// The sets of matchers of a delete that series have to satisfy themselves; those that an external label
    /// does not satisfy are left out.
    pub(crate) fn left_of_sets(&self, sets: &[Vec<Matcher>]) -> Vec<Vec<Matcher>> {
        sets.iter().filter_map(|set| self.left_of(set)).collect()
    }

    /// The labels of a series as queries see them.
    pub(crate) fn of_series(&self, labels: &Labels) -> Labels {
        if self.changes_nothing() {
            return labels.clone();
        }
        let mut builder = labels.to_builder();
        self.replica_names.iter().for_each(|name| {
            builder.remove(name);
        });
        self.injected().for_each(|(name, value)| {
            builder.set(name, value);
        });
        builder.build()
    }

    /// A name of a label of series as queries see it, if they do.
    pub(crate) fn shows(&self, name: &str) -> bool {
        !self.replica_names.iter().any(|n| n == name)
    }
}
