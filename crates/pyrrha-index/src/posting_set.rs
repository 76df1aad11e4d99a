//! A set of series references that takes as little memory as its size allows.

use roaring::RoaringBitmap;

use crate::Postings;

/// Arrays longer than this become bitmaps where a bitmap is smaller.
const LARGE: usize = 64;
/// References per 65,536 from which a roaring container costs less than a plain array.
const DENSE: usize = 16;

/// An owned set of series references: one or two inline, then a sorted array, then a roaring
/// bitmap. Sixteen bytes beside what it points to: most sets of a head hold one series.
#[derive(Debug, Clone)]
pub struct PostingSet(Repr);

#[derive(Debug, Clone)]
enum Repr {
    One(u32),
    Two([u32; 2]),
    #[expect(clippy::box_collection, reason = "a thin pointer keeps the set at sixteen bytes")]
    Array(Box<Vec<u32>>),
    Bitmap(Box<RoaringBitmap>),
}

impl PostingSet {
    /// The set of one reference.
    pub fn one(series: u32) -> Self {
        Self(Repr::One(series))
    }

    /// Adds a reference. Constant time if it is larger than all others, as it usually is.
    pub fn insert(&mut self, series: u32) {
        match &mut self.0 {
            Repr::One(a) if *a == series => {}
            Repr::One(a) => self.0 = Repr::Two([series.min(*a), series.max(*a)]),
            Repr::Two(pair) if pair.contains(&series) => {}
            Repr::Two(pair) => {
                let mut array = Vec::with_capacity(4);
                array.extend_from_slice(pair);
                insert_sorted(&mut array, series);
                self.0 = Repr::Array(Box::new(array));
            }
            Repr::Array(array) => {
                // Looking only when the array is full keeps the check out of the common path.
                if array.len() == array.capacity() && array.len() >= LARGE && is_dense(array) {
                    let mut bitmap: RoaringBitmap = array.iter().copied().collect();
                    bitmap.insert(series);
                    self.0 = Repr::Bitmap(Box::new(bitmap));
                } else {
                    insert_sorted(array, series);
                }
            }
            // Not `try_push`, which looks through a container for its last bit.
            Repr::Bitmap(bitmap) => {
                bitmap.insert(series);
            }
        }
    }

    /// Removes all references of `dead`. Returns false if nothing is left; the set must then be
    /// dropped.
    #[must_use]
    pub fn remove(&mut self, dead: &RoaringBitmap) -> bool {
        let mut left: Vec<u32> = match &mut self.0 {
            Repr::Bitmap(bitmap) => {
                **bitmap -= dead;
                if bitmap.len() > LARGE as u64 {
                    return true;
                }
                bitmap.iter().collect()
            }
            Repr::Array(array) => std::mem::take(&mut **array),
            Repr::One(a) => return !dead.contains(*a),
            Repr::Two(pair) => pair.to_vec(),
        };
        left.retain(|&series| !dead.contains(series));
        self.0 = match left[..] {
            [] => return false,
            [a] => Repr::One(a),
            [a, b] => Repr::Two([a, b]),
            _ => {
                left.shrink_to_fit();
                Repr::Array(Box::new(left))
            }
        };
        true
    }

    /// The references, borrowed.
    pub fn view(&self) -> Postings<'_> {
        match &self.0 {
            Repr::One(a) => Postings::Slice(std::slice::from_ref(a)),
            Repr::Two(pair) => Postings::Slice(pair),
            Repr::Array(array) => Postings::Slice(array),
            Repr::Bitmap(bitmap) => Postings::Bitmap(bitmap),
        }
    }

    /// Bytes on the heap, about.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Repr::One(_) | Repr::Two(_) => 0,
            Repr::Array(array) => size_of::<Vec<u32>>() + array.capacity() * size_of::<u32>(),
            Repr::Bitmap(bitmap) => size_of::<RoaringBitmap>() + bitmap.serialized_size(),
        }
    }
}

fn insert_sorted(array: &mut Vec<u32>, series: u32) {
    if array.len() == array.capacity() {
        array.reserve_exact(array.len() / 2 + 2);
    }
    if array.last().is_none_or(|&last| last < series) {
        array.push(series);
    } else if let Err(at) = array.binary_search(&series) {
        array.insert(at, series);
    }
}

fn is_dense(array: &[u32]) -> bool {
    let (Some(first), Some(last)) = (array.first(), array.last()) else { return false };
    let containers = (last >> 16) as usize - (first >> 16) as usize + 1;
    array.len() / containers >= DENSE
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_set_stays_small() {
        assert_eq!(size_of::<PostingSet>(), 16);
    }

    proptest! {
        #[test]
        fn agrees_with_a_tree_set(
            steps in prop::collection::vec((0u32..400_000, any::<bool>()), 1..300),
            tight in any::<bool>(),
        ) {
            let shrink = if tight { 500 } else { 1 };
            let mut model = BTreeSet::from([7]);
            let mut set = PostingSet::one(7);
            for (series, add) in steps {
                let series = series / shrink;
                if add || model.len() < 3 {
                    set.insert(series);
                    model.insert(series);
                } else {
                    let dead: RoaringBitmap = model.iter().copied().filter(|s| s % 3 == series % 3).collect();
                    if dead.len() < model.len() as u64 {
                        model.retain(|&s| !dead.contains(s));
                        prop_assert!(set.remove(&dead));
                    }
                }
            }
            prop_assert_eq!(set.view().to_bitmap(), model.iter().copied().collect::<RoaringBitmap>());
            prop_assert_eq!(set.view().len(), model.len() as u64);
            prop_assert!(!set.remove(&model.iter().copied().collect()));
        }
    }
}
