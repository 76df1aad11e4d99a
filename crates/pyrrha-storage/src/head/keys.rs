//! The cache of series keys: from the hash of a sender's raw label bytes to the series.
//!
//! A table of 64-byte buckets, four entries each, one cache line per probe. An entry keeps 96 bits
//! of the key. A full bucket forgets one of its entries: the key will be resolved by labels again.

use pyrrha_model::contract::SeriesKey;

const WAYS: usize = 4;
const EMPTY: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Bits 0..64 of the key; the low ones choose the bucket.
    low: [u32; 2],
    /// Bits 64..96 of the key.
    high: u32,
    series: u32,
}

const VACANT: Entry = Entry { low: [0; 2], high: 0, series: EMPTY };

#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Bucket([Entry; WAYS]);

/// Series keys and their series.
#[derive(Debug)]
pub(crate) struct KeyTable {
    buckets: Vec<Bucket>,
    used: usize,
    /// Which way the next full bucket loses.
    turn: usize,
}

impl Default for KeyTable {
    fn default() -> Self {
        Self { buckets: vec![Bucket([VACANT; WAYS]); 64], used: 0, turn: 0 }
    }
}

fn split(key: SeriesKey) -> ([u32; 2], u32) {
    ([key.0 as u32, (key.0 >> 32) as u32], (key.0 >> 64) as u32)
}

impl KeyTable {
    fn bucket(&self, low: [u32; 2]) -> usize {
        // The number of buckets is a power of two.
        (u64::from(low[0]) | u64::from(low[1]) << 32) as usize & (self.buckets.len() - 1)
    }

    /// The series of a key.
    #[inline]
    pub(crate) fn get(&self, key: SeriesKey) -> Option<u32> {
        let (low, high) = split(key);
        let bucket = &self.buckets[self.bucket(low)];
        let mut found = EMPTY;
        // Without an early exit: branches that depend on memory would keep the misses of a batch
        // from overlapping.
        for entry in &bucket.0 {
            if (entry.low == low) & (entry.high == high) {
                found = entry.series;
            }
        }
        (found != EMPTY).then_some(found)
    }

    /// Remembers a key.
    pub(crate) fn insert(&mut self, key: SeriesKey, series: u32) {
        if self.used * 10 > self.buckets.len() * WAYS * 6 {
            self.double();
        }
        let (low, high) = split(key);
        self.put(Entry { low, high, series });
    }

    fn put(&mut self, new: Entry) {
        let bucket = self.bucket(new.low);
        self.turn = (self.turn + 1) % WAYS;
        let ways = &mut self.buckets[bucket].0;
        let same = ways.iter().position(|e| e.low == new.low && e.high == new.high && e.series != EMPTY);
        let way = same.or_else(|| ways.iter().position(|e| e.series == EMPTY));
        if same.is_none() && way.is_some() {
            self.used += 1;
        }
        ways[way.unwrap_or(self.turn)] = new;
    }

    fn double(&mut self) {
        let grown = vec![Bucket([VACANT; WAYS]); self.buckets.len() * 2];
        let old = std::mem::replace(&mut self.buckets, grown);
        self.used = 0;
        for entry in old.iter().flat_map(|b| b.0).filter(|e| e.series != EMPTY) {
            self.put(entry);
        }
    }

    /// Forgets the keys of series that are not `live`.
    pub(crate) fn retain(&mut self, live: impl Fn(u32) -> bool) {
        for entry in self.buckets.iter_mut().flat_map(|b| b.0.iter_mut()) {
            if entry.series != EMPTY && !live(entry.series) {
                *entry = VACANT;
                self.used -= 1;
            }
        }
        // Far below what makes it double, so that it does not go back and forth.
        if self.buckets.len() > 64 && self.used * 10 < self.buckets.len() * WAYS {
            let entries: Vec<Entry> =
                self.buckets.iter().flat_map(|b| b.0).filter(|e| e.series != EMPTY).collect();
            let buckets = (entries.len() / 2).next_power_of_two().max(64);
            self.buckets = vec![Bucket([VACANT; WAYS]); buckets];
            self.used = 0;
            entries.into_iter().for_each(|entry| self.put(entry));
        }
    }

    /// Bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(i: u64) -> SeriesKey {
        let spread = |x: u64| {
            x.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
        };
        SeriesKey(u128::from(spread(i + 1)) | u128::from(spread(i + 77)) << 64)
    }

    #[test]
    fn a_key_is_found_or_forgotten_but_never_mistaken() {
        let mut table = KeyTable::default();
        for i in 0..20_000 {
            table.insert(key(i), i as u32);
        }
        let found = (0..20_000).filter(|&i| match table.get(key(i)) {
            Some(series) => {
                assert_eq!(series, i as u32);
                true
            }
            None => false,
        });
        assert!(found.count() > 17_000, "most keys stay");
        assert!((20_000..40_000).all(|i| table.get(key(i)).is_none()));
        table.retain(|series| series % 2 == 0);
        assert!((0..20_000).filter(|i| i % 2 == 1).all(|i| table.get(key(i)).is_none()));
        let before = table.bytes();
        table.retain(|series| series < 100);
        assert!(table.bytes() * 50 < before, "{} of {before}", table.bytes());
        assert!((0..100).filter(|&i| table.get(key(i)).is_some()).count() > 35);
    }
}
