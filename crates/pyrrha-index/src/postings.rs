//! Sets of series references as an index hands them out, and their algebra.

use bytes::Bytes;
use roaring::{MultiOps, RoaringBitmap};

/// Lists from this length on are worth a bitmap of their own.
const LONG: u64 = 256;

/// Series references of one label value, in whatever form the index holds them.
#[derive(Debug, Clone)]
pub enum Postings<'a> {
    /// Ascending references.
    Slice(&'a [u32]),
    /// A borrowed bitmap.
    Bitmap(&'a RoaringBitmap),
    /// A computed bitmap.
    Owned(RoaringBitmap),
    /// Ascending big-endian u32 of an index file, checked when they were read.
    BigEndian(Bytes),
}

impl Postings<'_> {
    /// No references.
    pub const EMPTY: Self = Self::Slice(&[]);

    /// Number of references.
    pub fn len(&self) -> u64 {
        match self {
            Self::Slice(slice) => slice.len() as u64,
            Self::Bitmap(bitmap) => bitmap.len(),
            Self::Owned(bitmap) => bitmap.len(),
            Self::BigEndian(bytes) => bytes.len() as u64 / 4,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The set as a bitmap.
    pub fn to_bitmap(&self) -> RoaringBitmap {
        match self {
            Self::Slice(slice) => sorted(slice.iter().copied()),
            Self::Bitmap(bitmap) => (*bitmap).clone(),
            Self::Owned(bitmap) => bitmap.clone(),
            Self::BigEndian(bytes) => from_big_endian(bytes),
        }
    }

    /// As [`to_bitmap`](Self::to_bitmap), without a copy where there is a bitmap to give away.
    pub fn into_bitmap(self) -> RoaringBitmap {
        match self {
            Self::Owned(bitmap) => bitmap,
            other => other.to_bitmap(),
        }
    }

    /// Keeps in `set` what is also in these postings.
    pub fn intersect_into(&self, set: &mut RoaringBitmap) {
        match self {
            Self::Slice(slice) => *set = sorted(slice.iter().copied().filter(|&s| set.contains(s))),
            Self::Bitmap(bitmap) => *set &= *bitmap,
            Self::Owned(bitmap) => *set &= bitmap,
            Self::BigEndian(bytes) if set.len() * 16 < self.len() => {
                *set = sorted(set.iter().filter(|&s| contains(bytes, s)));
            }
            Self::BigEndian(_) => *set &= self.to_bitmap(),
        }
    }

    /// Removes these postings from `set`.
    pub fn subtract_from(&self, set: &mut RoaringBitmap) {
        match self {
            Self::Slice(slice) => slice.iter().for_each(|&s| {
                set.remove(s);
            }),
            Self::Bitmap(bitmap) => *set -= *bitmap,
            Self::Owned(bitmap) => *set -= bitmap,
            Self::BigEndian(bytes) if set.len() * 16 < self.len() => {
                *set = sorted(set.iter().filter(|&s| !contains(bytes, s)));
            }
            Self::BigEndian(_) => *set -= self.to_bitmap(),
        }
    }

    /// Whether any reference is in `set`.
    pub fn intersects(&self, set: &RoaringBitmap) -> bool {
        match self {
            Self::Slice(slice) => slice.iter().any(|&s| set.contains(s)),
            Self::Bitmap(bitmap) => !bitmap.is_disjoint(set),
            Self::Owned(bitmap) => !bitmap.is_disjoint(set),
            Self::BigEndian(bytes) if set.len() * 16 < self.len() => set.iter().any(|s| contains(bytes, s)),
            Self::BigEndian(bytes) => big_endian(bytes).any(|s| set.contains(s)),
        }
    }
}

/// The union of many postings. Short lists are sorted together, the others merged container-wise.
pub fn union(parts: &[Postings<'_>]) -> RoaringBitmap {
    let mut loose: Vec<u32> = Vec::new();
    let mut long: Vec<RoaringBitmap> = Vec::new();
    let mut bitmaps: Vec<&RoaringBitmap> = Vec::new();
    for part in parts {
        match part {
            Postings::Bitmap(bitmap) => bitmaps.push(bitmap),
            Postings::Owned(bitmap) => bitmaps.push(bitmap),
            list if list.len() >= LONG => long.push(list.to_bitmap()),
            Postings::Slice(slice) => loose.extend_from_slice(slice),
            Postings::BigEndian(bytes) => loose.extend(big_endian(bytes)),
        }
    }
    loose.sort_unstable();
    loose.dedup();
    let loose = sorted(loose.iter().copied());
    bitmaps.extend(&long);
    if bitmaps.is_empty() {
        return loose;
    }
    bitmaps.push(&loose);
    bitmaps.union()
}

/// The bitmap of an ascending list. Where the list is dense its bits are set first and made into
/// containers at once, which is several times as fast as adding one reference after another.
fn from_big_endian(bytes: &[u8]) -> RoaringBitmap {
    let list = bytes.as_chunks::<4>().0;
    let (Some(&first), Some(&last)) = (list.first(), list.last()) else { return RoaringBitmap::new() };
    let base = u32::from_be_bytes(first) & !7;
    let span = u32::from_be_bytes(last).saturating_sub(base) as usize / 8 + 1;
    if list.len() < LONG as usize || span > list.len() * 4 {
        return sorted(big_endian(bytes));
    }
    let mut bits = vec![0u8; span];
    for series in big_endian(bytes) {
        let bit = series.wrapping_sub(base);
        if let Some(byte) = bits.get_mut(bit as usize / 8) {
            *byte |= 1 << (bit % 8);
        }
    }
    RoaringBitmap::from_lsb0_bytes(base, &bits)
}

/// A bitmap of references that ascend strictly.
fn sorted(references: impl Iterator<Item = u32>) -> RoaringBitmap {
    let mut bitmap = RoaringBitmap::new();
    // `append` stops at a reference out of order; callers have sorted or checked theirs.
    let appended = bitmap.append(references);
    debug_assert!(appended.is_ok(), "references ascend");
    bitmap
}

fn big_endian(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks::<4>().0.iter().map(|&b| u32::from_be_bytes(b))
}

fn contains(bytes: &[u8], series: u32) -> bool {
    bytes.as_chunks::<4>().0.binary_search_by_key(&series, |&b| u32::from_be_bytes(b)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn forms(set: &BTreeSet<u32>, check: impl Fn(&Postings<'_>)) {
        let list: Vec<u32> = set.iter().copied().collect();
        let bitmap: RoaringBitmap = list.iter().copied().collect();
        check(&Postings::Slice(&list));
        check(&Postings::Bitmap(&bitmap));
        check(&Postings::Owned(bitmap.clone()));
        check(&Postings::BigEndian(list.iter().flat_map(|s| s.to_be_bytes()).collect::<Vec<_>>().into()));
    }

    #[test]
    fn dense_lists_become_the_same_bitmaps() {
        for (first, step) in [(0, 1), (13, 1), (70_001, 3), (u32::MAX - 40_000, 7), (5, 40)] {
            let list: Vec<u32> = (0..5000u32).map(|i| first + i * step).collect();
            let bytes: Vec<u8> = list.iter().flat_map(|s| s.to_be_bytes()).collect();
            let bitmap = Postings::BigEndian(bytes.into()).to_bitmap();
            assert!(bitmap.iter().eq(list.iter().copied()), "first={first} step={step}");
        }
    }

    proptest! {
        #[test]
        fn every_form_has_the_same_algebra(
            a in prop::collection::btree_set(0u32..2000, 0..200),
            b in prop::collection::btree_set(0u32..2000, 0..10),
        ) {
            for (a, b) in [(&a, &b), (&b, &a)] {
                let other: RoaringBitmap = b.iter().copied().collect();
                forms(a, |form| {
                    let (mut and, mut minus) = (other.clone(), other.clone());
                    form.intersect_into(&mut and);
                    form.subtract_from(&mut minus);
                    assert_eq!(form.len(), a.len() as u64);
                    assert_eq!(and, a.intersection(b).copied().collect::<RoaringBitmap>());
                    assert_eq!(minus, b.difference(a).copied().collect::<RoaringBitmap>());
                    assert_eq!(form.intersects(&other), !and.is_empty());
                    let or = a.union(b).copied().collect::<RoaringBitmap>();
                    assert_eq!(union(&[form.clone(), Postings::Owned(other.clone())]), or);
                });
            }
        }
    }
}
