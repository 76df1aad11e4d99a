//! The symbol table of one query: strings as small ids, so that labels are compared, hashed and
//! grouped as integers (decision 27).

use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::RwLock;

/// Id of an interned string in one [`SymbolTable`]. Two ids of the same table are equal iff their
/// strings are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SymbolId(pub u32);

impl SymbolId {
    /// The empty string, which every table holds first.
    pub const EMPTY: Self = Self(0);
    /// `__name__`, which every table holds second.
    pub const METRIC_NAME: Self = Self(1);
}

/// Strings by id and ids by string, for one query. Threads share it; it only grows.
#[derive(Debug)]
pub struct SymbolTable {
    inner: RwLock<Inner>,
    hasher: foldhash::fast::RandomState,
}

#[derive(Debug, Default)]
struct Inner {
    ids: HashTable<u32>,
    strings: Vec<Arc<str>>,
    bytes: usize,
}

impl SymbolTable {
    /// A table that holds "" and `__name__`.
    pub fn new() -> Self {
        let table = Self { inner: RwLock::default(), hasher: foldhash::fast::RandomState::default() };
        assert_eq!(table.intern(""), SymbolId::EMPTY);
        assert_eq!(table.intern(crate::METRIC_NAME), SymbolId::METRIC_NAME);
        table
    }

    /// The id of `text`, new or known. Panics after 2³² strings, which no memory budget allows.
    pub fn intern(&self, text: &str) -> SymbolId {
        let hash = self.hash(text);
        if let Some(id) = self.inner.read().find(hash, text) {
            return SymbolId(id);
        }
        let mut inner = self.inner.write();
        if let Some(id) = inner.find(hash, text) {
            return SymbolId(id);
        }
        let id = u32::try_from(inner.strings.len()).expect("a query holds fewer than 2^32 strings");
        inner.strings.push(text.into());
        inner.bytes += text.len() + 32;
        let Inner { ids, strings, .. } = &mut *inner;
        ids.insert_unique(hash, id, |&other| self.hash(&strings[other as usize]));
        SymbolId(id)
    }

    /// The id of `text` if it is known.
    pub fn lookup(&self, text: &str) -> Option<SymbolId> {
        self.inner.read().find(self.hash(text), text).map(SymbolId)
    }

    /// The string of an id of this table.
    pub fn resolve(&self, id: SymbolId) -> Arc<str> {
        self.inner.read().strings[id.0 as usize].clone()
    }

    /// All strings by id at this moment: resolving many ids without taking the lock for each.
    pub fn snapshot(&self) -> Vec<Arc<str>> {
        self.inner.read().strings.clone()
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.inner.read().strings.len()
    }

    /// Never true: "" is always there.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Bytes that the strings take, about.
    pub fn bytes(&self) -> usize {
        self.inner.read().bytes
    }

    fn hash(&self, text: &str) -> u64 {
        use std::hash::BuildHasher;
        self.hasher.hash_one(text)
    }
}

impl Default for SymbolTable {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    fn find(&self, hash: u64, text: &str) -> Option<u32> {
        self.ids.find(hash, |&id| &*self.strings[id as usize] == text).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_equal_iff_strings_are() {
        let table = SymbolTable::new();
        let a = table.intern("a");
        assert_eq!(table.intern("a"), a);
        assert_ne!(table.intern("b"), a);
        assert_eq!(&*table.resolve(a), "a");
        assert_eq!(table.lookup("c"), None);
        assert_eq!(table.len(), 4);
    }
}
