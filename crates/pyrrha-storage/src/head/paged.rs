//! A growable column in pages: growth never copies, so a head of a million series has no moment at
//! which it needs its memory twice.

use pyrrha_index::RoaringBitmap;

const PAGE: usize = 256;

/// A column of `T` by dense index.
#[derive(Debug)]
pub(crate) struct Paged<T> {
    /// A page that was freed is empty, and reads as if all its items had their default.
    pages: Vec<Box<[T]>>,
    len: usize,
    vacant: T,
}

impl<T: Default> Default for Paged<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), len: 0, vacant: T::default() }
    }
}

impl<T: Clone + Default> Paged<T> {
    /// Number of items.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Grows to at least `len` items, new ones with their default.
    pub(crate) fn grow(&mut self, len: usize) {
        while self.pages.len() * PAGE < len {
            self.pages.push(vec![T::default(); PAGE].into_boxed_slice());
        }
        self.len = self.len.max(len);
    }

    /// Adds an item and returns its index.
    pub(crate) fn push(&mut self, item: T) -> usize {
        let index = self.len;
        self.grow(index + 1);
        self[index] = item;
        index
    }

    /// The item of `index`, if there is one.
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        if index < self.len { Some(&self[index]) } else { None }
    }

    /// Frees the pages that `live` has no item of; items of such pages have their default from now on,
    /// as have those of other pages that are vacant. The newest page stays.
    pub(crate) fn free_pages(&mut self, live: &RoaringBitmap) {
        let mut used = live.iter().map(|item| item as usize / PAGE).peekable();
        let last = self.pages.len().saturating_sub(1);
        for (number, page) in self.pages.iter_mut().enumerate().take(last) {
            while used.next_if(|&page| page < number).is_some() {}
            if used.peek() != Some(&number) && !page.is_empty() {
                *page = Box::default();
            }
        }
    }

    /// Bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        let items: usize = self.pages.iter().map(|page| page.len()).sum();
        items * size_of::<T>() + self.pages.capacity() * size_of::<Box<[T]>>()
    }
}

impl<T> std::ops::Index<usize> for Paged<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        self.pages[index / PAGE].get(index % PAGE).unwrap_or(&self.vacant)
    }
}

impl<T: Clone + Default> std::ops::IndexMut<usize> for Paged<T> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        let page = &mut self.pages[index / PAGE];
        if page.is_empty() {
            refill(page);
        }
        &mut page[index % PAGE]
    }
}

/// Brings a freed page back.
#[cold]
fn refill<T: Clone + Default>(page: &mut Box<[T]>) {
    *page = vec![T::default(); PAGE].into_boxed_slice();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_pages_cost_nothing_and_read_as_vacant() {
        let mut column = Paged::<u64>::default();
        (0..10 * PAGE as u64).for_each(|item| assert_eq!(column.push(item), item as usize));
        let before = column.bytes();
        let live: RoaringBitmap = [3u32, 5 * PAGE as u32, 5 * PAGE as u32 + 9].into_iter().collect();
        column.free_pages(&live);
        assert_eq!(before - column.bytes(), 7 * PAGE * 8, "two pages are in use, and the newest stays");
        assert_eq!((column[3], column[PAGE], column[5 * PAGE + 1]), (3, 0, 5 * PAGE as u64 + 1));
        assert_eq!(
            (column[9 * PAGE], column.get(10 * PAGE), column.len()),
            (9 * PAGE as u64, None, 10 * PAGE)
        );
        column[PAGE] = 7;
        assert_eq!((column[PAGE], column[PAGE + 1]), (7, 0));
    }
}
