//! Bytes of open chunks: slots of a few sizes in pages of one pool.
//!
//! All series of a scrape grow in step. A page whose slots are all free goes back to the pool and
//! may serve another size, so the sizes that nobody uses at the moment hold no memory.

/// Slot sizes, bytes: close together where full chunks end up, because what is between them is
/// wasted.
const SIZES: [usize; 22] = [
    32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 448, 512, 640, 768, 1024, 1536, 2048, 4096,
    8192, 16384,
];
const PAGE: usize = 16 * 1024;
const SLOT_BITS: u32 = 9;
const FREE_PAGE: u8 = u8::MAX;

/// Where the bytes of an open chunk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Slot(pub(crate) u32);

/// The slots.
#[derive(Debug, Default)]
pub(crate) struct Slabs {
    pages: Vec<Page>,
    /// Pages that no size uses.
    pool: Vec<u32>,
    /// Per size, pages that may have a free slot.
    partial: [Vec<u32>; SIZES.len()],
}

#[derive(Debug)]
struct Page {
    data: Box<[u8]>,
    size: u8,
    live: u16,
    listed: bool,
    used: [u64; 8],
}

impl Slabs {
    /// Largest slot, bytes.
    pub(crate) const LARGEST: usize = PAGE;

    /// A slot of at least `bytes` (at most [`Self::LARGEST`]). Its bytes are arbitrary.
    pub(crate) fn allocate(&mut self, bytes: usize) -> Slot {
        let size = SIZES.iter().position(|&s| s >= bytes).expect("callers ask for at most the largest slot");
        loop {
            let Some(&page) = self.partial[size].last() else {
                self.add_page(size);
                continue;
            };
            if let Some(slot) = self.pages[page as usize].take(SIZES[size]) {
                return Slot(page << SLOT_BITS | slot);
            }
            self.pages[page as usize].listed = false;
            self.partial[size].pop();
        }
    }

    /// Gives a slot back.
    pub(crate) fn free(&mut self, slot: Slot) {
        let index = slot.0 >> SLOT_BITS;
        let page = &mut self.pages[index as usize];
        let bit = slot.0 & ((1 << SLOT_BITS) - 1);
        page.used[bit as usize / 64] &= !(1 << (bit % 64));
        page.live -= 1;
        let size = page.size as usize;
        if page.live == 0 {
            page.size = FREE_PAGE;
            if page.listed {
                page.listed = false;
                self.partial[size].retain(|&p| p != index);
            }
            self.pool.push(index);
        } else if !page.listed {
            page.listed = true;
            self.partial[size].push(index);
        }
    }

    /// The bytes of a slot.
    #[inline]
    pub(crate) fn get(&self, slot: Slot) -> &[u8] {
        let page = &self.pages[(slot.0 >> SLOT_BITS) as usize];
        let size = SIZES[page.size as usize];
        let start = (slot.0 & ((1 << SLOT_BITS) - 1)) as usize * size;
        &page.data[start..start + size]
    }

    /// The byte of a slot after the first `len`, or its last one.
    #[inline]
    pub(crate) fn byte(&self, slot: Slot, len: usize) -> u8 {
        let page = &self.pages[(slot.0 >> SLOT_BITS) as usize];
        let size = SIZES[page.size as usize];
        let start = (slot.0 & ((1 << SLOT_BITS) - 1)) as usize * size;
        page.data[start + len.min(size - 1)]
    }

    /// The bytes of a slot, to write.
    #[inline]
    pub(crate) fn get_mut(&mut self, slot: Slot) -> &mut [u8] {
        let page = &mut self.pages[(slot.0 >> SLOT_BITS) as usize];
        let size = SIZES[page.size as usize];
        let start = (slot.0 & ((1 << SLOT_BITS) - 1)) as usize * size;
        &mut page.data[start..start + size]
    }

    /// Moves the first `len` bytes of a slot to a larger one, of at least `wanted` bytes.
    pub(crate) fn grow(&mut self, slot: Slot, len: usize, wanted: usize) -> Slot {
        let grown = self.allocate(wanted);
        // The two sizes differ, and so do the pages: the old one is lent for the copy.
        let from = (slot.0 >> SLOT_BITS) as usize;
        let size = SIZES[self.pages[from].size as usize];
        let start = (slot.0 & ((1 << SLOT_BITS) - 1)) as usize * size;
        let lent = std::mem::take(&mut self.pages[from].data);
        self.get_mut(grown)[..len].copy_from_slice(&lent[start..start + len]);
        self.pages[from].data = lent;
        self.free(slot);
        grown
    }

    /// Bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.len() * (PAGE + size_of::<Page>())
    }

    fn add_page(&mut self, size: usize) {
        let index = self.pool.pop().unwrap_or_else(|| {
            self.pages.push(Page {
                data: vec![0; PAGE].into_boxed_slice(),
                size: FREE_PAGE,
                live: 0,
                listed: false,
                used: [0; 8],
            });
            u32::try_from(self.pages.len() - 1).expect("fewer than 2^32 pages of 16 KiB")
        });
        let page = &mut self.pages[index as usize];
        page.size = size as u8;
        page.used = [0; 8];
        page.listed = true;
        self.partial[size].push(index);
    }
}

impl Page {
    fn take(&mut self, size: usize) -> Option<u32> {
        let slots = PAGE / size;
        if self.live as usize == slots {
            return None;
        }
        let word = self.used.iter().position(|&w| w != u64::MAX)?;
        let bit = word * 64 + self.used[word].trailing_ones() as usize;
        if bit >= slots {
            return None;
        }
        self.used[word] |= 1 << (bit % 64);
        self.live += 1;
        Some(bit as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_disjoint_and_freed_pages_serve_other_sizes() {
        let mut slabs = Slabs::default();
        let slots: Vec<Slot> = (0..2000).map(|_| slabs.allocate(30)).collect();
        for (i, &slot) in slots.iter().enumerate() {
            slabs.get_mut(slot).fill(i as u8);
        }
        for (i, &slot) in slots.iter().enumerate() {
            assert!(slabs.get(slot).iter().all(|&b| b == i as u8));
        }
        let before = slabs.bytes();
        let grown: Vec<Slot> = slots.iter().map(|&s| slabs.grow(s, 32, 60)).collect();
        for (i, &slot) in grown.iter().enumerate() {
            assert!(slabs.get(slot)[..32].iter().all(|&b| b == i as u8));
        }
        grown.into_iter().for_each(|s| slabs.free(s));
        let after = slabs.bytes();
        assert!(after < 3 * before, "pages are shared: {before} then {after}");
        let again: Vec<Slot> = (0..900).map(|_| slabs.allocate(100)).collect();
        assert_eq!(slabs.bytes(), after);
        assert!(again.iter().all(|&s| slabs.get(s).len() == 128));
    }
}
