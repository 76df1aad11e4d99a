//! Label sets of one query: pairs of symbol ids (decision 27).

use std::cmp::Ordering;
use std::sync::Arc;

use pyrrha_model::go_fmt::quote;
use pyrrha_model::labels::is_legacy_label_name;
use pyrrha_model::{Label, Labels, SymbolId, SymbolTable};

/// The labels of a series as ids of the query's [`SymbolTable`], sorted by the label names' text.
/// Equal iff the label sets are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LabelIds(Arc<[(SymbolId, SymbolId)]>);

impl LabelIds {
    /// No labels.
    pub fn empty() -> Self {
        Self(Arc::new([]))
    }

    /// Takes pairs that are sorted by name and have no empty value.
    pub fn from_sorted(pairs: &[(SymbolId, SymbolId)]) -> Self {
        Self(pairs.into())
    }

    /// Interns a label set.
    pub fn intern(symbols: &SymbolTable, labels: &Labels) -> Self {
        Self(labels.iter().map(|l| (symbols.intern(&l.name), symbols.intern(&l.value))).collect())
    }

    /// The pairs, sorted by name.
    #[inline]
    pub fn pairs(&self) -> &[(SymbolId, SymbolId)] {
        &self.0
    }

    /// Whether both are one in memory, as those of series with equal labels often are.
    #[inline]
    pub(crate) fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The value of a label; [`SymbolId::EMPTY`] if it is absent.
    #[inline]
    pub fn get(&self, name: SymbolId) -> SymbolId {
        self.0.iter().find(|(n, _)| *n == name).map_or(SymbolId::EMPTY, |(_, v)| *v)
    }

    /// The metric's name, or "".
    pub fn metric_name(&self, symbols: &SymbolTable) -> Arc<str> {
        symbols.resolve(self.get(SymbolId::METRIC_NAME))
    }

    /// The same labels with `name` set to `value`; an empty value removes it.
    pub fn with(&self, symbols: &SymbolTable, name: SymbolId, value: SymbolId) -> Self {
        if value == SymbolId::EMPTY {
            return self.without(&[name]);
        }
        let mut pairs = self.0.to_vec();
        match pairs.iter_mut().find(|(n, _)| *n == name) {
            Some(pair) => pair.1 = value,
            None => {
                let text = symbols.resolve(name);
                let at = pairs.partition_point(|(n, _)| *symbols.resolve(*n) < *text);
                pairs.insert(at, (name, value));
            }
        }
        Self(pairs.into())
    }

    /// The same labels without `names`. Shares when none of them is there.
    pub fn without(&self, names: &[SymbolId]) -> Self {
        if self.0.iter().all(|(n, _)| !names.contains(n)) {
            return self.clone();
        }
        Self(self.0.iter().filter(|(n, _)| !names.contains(n)).copied().collect())
    }

    /// Only the labels `names`.
    pub fn only(&self, names: &[SymbolId]) -> Self {
        Self(self.0.iter().filter(|(n, _)| names.contains(n)).copied().collect())
    }

    /// All labels, the name's too, as `{a="b", c="d"}`.
    pub fn braced(&self, symbols: &SymbolTable) -> String {
        let label = |&(name, value): &(SymbolId, SymbolId)| {
            let (name, value) = (symbols.resolve(name), quote(&symbols.resolve(value)));
            if is_legacy_label_name(&name) {
                format!("{name}={value}")
            } else {
                format!("{}={value}", quote(&name))
            }
        };
        format!("{{{}}}", self.0.iter().map(label).collect::<Vec<_>>().join(", "))
    }

    /// The labels as strings.
    pub fn resolve(&self, symbols: &SymbolTable) -> Labels {
        let text = |id| String::from(&*symbols.resolve(id));
        Labels::from_sorted(self.0.iter().map(|&(n, v)| Label { name: text(n), value: text(v) }).collect())
    }

    /// As [`LabelIds::resolve`] for many; `texts` as for [`LabelIds::compare`].
    pub(crate) fn resolve_in(&self, texts: &[Arc<str>]) -> Labels {
        let text = |id: SymbolId| String::from(&*texts[id.0 as usize]);
        Labels::from_sorted(self.0.iter().map(|&(n, v)| Label { name: text(n), value: text(v) }).collect())
    }

    /// The order of series: pairwise by name, then value; a prefix sorts first. `texts` is
    /// [`SymbolTable::snapshot`] taken after all labels were interned.
    pub fn compare(&self, other: &Self, texts: &[Arc<str>]) -> Ordering {
        let text = |id: SymbolId| &*texts[id.0 as usize];
        for (a, b) in self.0.iter().zip(other.0.iter()) {
            if a == b {
                continue;
            }
            let order = text(a.0).cmp(text(b.0)).then_with(|| text(a.1).cmp(text(b.1)));
            if order != Ordering::Equal {
                return order;
            }
        }
        self.0.len().cmp(&other.0.len())
    }
}
