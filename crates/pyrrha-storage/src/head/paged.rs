//! A growable column in pages: growth never copies, so a head of a million series has no moment at
//! which it needs its memory twice.

const PAGE: usize = 256;

/// A column of `T` by dense index.
#[derive(Debug)]
pub(crate) struct Paged<T> {
    pages: Vec<Box<[T]>>,
    len: usize,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), len: 0 }
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
        if index < self.len { self.pages.get(index / PAGE).map(|page| &page[index % PAGE]) } else { None }
    }

    /// Bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.len() * PAGE * size_of::<T>()
    }
}

impl<T> std::ops::Index<usize> for Paged<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        &self.pages[index / PAGE][index % PAGE]
    }
}

impl<T> std::ops::IndexMut<usize> for Paged<T> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.pages[index / PAGE][index % PAGE]
    }
}
