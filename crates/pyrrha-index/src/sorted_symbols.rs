//! Symbols in byte order, as an index file numbers them.

use crate::SymbolPool;

/// The symbols of a finished [`SymbolPool`], numbered by their order: comparing ordinals compares
/// strings.
#[derive(Debug, Default)]
pub struct SortedSymbols {
    pool: SymbolPool,
    /// Pool id by ordinal.
    order: Vec<u32>,
    /// Ordinal by pool id.
    ordinals: Vec<u32>,
}

impl SortedSymbols {
    /// Numbers the symbols of `pool`.
    pub fn new(pool: SymbolPool) -> Self {
        let mut order: Vec<u32> = pool.ids().collect();
        order.sort_unstable_by(|&a, &b| pool.get(a).cmp(pool.get(b)));
        let mut ordinals = vec![u32::MAX; pool.id_bound()];
        for (ordinal, &id) in order.iter().enumerate() {
            ordinals[id as usize] = ordinal as u32;
        }
        Self { pool, order, ordinals }
    }

    /// The ordinal of a pool id.
    pub fn ordinal(&self, id: u32) -> Option<u32> {
        self.ordinals.get(id as usize).copied().filter(|&ordinal| ordinal != u32::MAX)
    }

    /// The ordinal of a string.
    pub fn lookup(&self, text: &str) -> Option<u32> {
        self.ordinal(self.pool.lookup(text)?)
    }

    /// The string of an ordinal; "" for one that does not exist.
    pub fn get(&self, ordinal: u32) -> &str {
        self.order.get(ordinal as usize).map_or("", |&id| self.pool.get(id))
    }

    /// All strings in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(|&id| self.pool.get(id))
    }

    /// Number of symbols.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl<'a> FromIterator<&'a str> for SortedSymbols {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> Self {
        let mut pool = SymbolPool::new();
        for text in texts {
            pool.intern(text);
        }
        Self::new(pool)
    }
}
