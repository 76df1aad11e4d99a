//! The symbols of a head: strings as small ids, bytes in a paged arena.

use std::hash::BuildHasher;

use hashbrown::HashTable;

const FIRST_PAGE: usize = 4 << 10;
const LARGEST_PAGE: usize = 256 << 10;

/// Interned strings: id by string and string by id. A string costs its bytes and about 18 more.
///
/// Ids are not counted: [`SymbolPool::sweep`] frees what the owner no longer uses. A freed id is
/// given out again only after one more sweep, so that a reader which still holds it from before
/// sees a missing symbol, never another one.
#[derive(Debug, Default)]
pub struct SymbolPool {
    ids: HashTable<u32>,
    places: Vec<Place>,
    pages: Vec<String>,
    free: Vec<u32>,
    freed_last: Vec<u32>,
    hasher: foldhash::fast::RandomState,
}

/// Where a symbol's bytes are.
#[derive(Debug, Clone, Copy)]
struct Place {
    page: u32,
    start: u32,
    len: u32,
}

impl Place {
    const DEAD: Self = Self { page: u32::MAX, start: 0, len: 0 };
}

impl SymbolPool {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// The id of `text`, new or known. Panics after 2³² symbols, which no memory budget allows.
    pub fn intern(&mut self, text: &str) -> u32 {
        let hash = self.hasher.hash_one(text);
        if let Some(id) = self.find(hash, text) {
            return id;
        }
        let place = store(&mut self.pages, text);
        let id = match self.free.pop() {
            Some(id) => {
                self.places[id as usize] = place;
                id
            }
            None => {
                self.places.push(place);
                u32::try_from(self.places.len() - 1).expect("a head holds fewer than 2^32 symbols")
            }
        };
        let Self { ids, places, pages, hasher, .. } = self;
        ids.insert_unique(hash, id, |&other| hasher.hash_one(text_at(pages, places[other as usize])));
        id
    }

    /// The id of `text` if it is known.
    pub fn lookup(&self, text: &str) -> Option<u32> {
        self.find(self.hasher.hash_one(text), text)
    }

    /// The string of an id; "" for an id that was never given out or was freed.
    pub fn get(&self, id: u32) -> &str {
        self.places.get(id as usize).map_or("", |&place| text_at(&self.pages, place))
    }

    /// Ids of all symbols, in no order.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.ids.iter().copied()
    }

    /// Number of symbols.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// One more than the largest id given out so far: the length of a translation table.
    pub fn id_bound(&self) -> usize {
        self.places.len()
    }

    /// Frees every symbol for which `live` is false and packs the bytes of the others. Ids of live
    /// symbols stay as they are.
    pub fn sweep(&mut self, live: impl Fn(u32) -> bool) {
        self.free.append(&mut self.freed_last);
        let mut pages = Vec::new();
        for id in 0..self.places.len() as u32 {
            let place = self.places[id as usize];
            if place.page == Place::DEAD.page {
                continue;
            }
            self.places[id as usize] = if live(id) {
                store(&mut pages, text_at(&self.pages, place))
            } else {
                self.freed_last.push(id);
                Place::DEAD
            };
        }
        self.pages = pages;
        let Self { ids, places, pages, hasher, .. } = self;
        ids.retain(|&mut id| places[id as usize].page != Place::DEAD.page);
        ids.shrink_to_fit(|&id| hasher.hash_one(text_at(pages, places[id as usize])));
    }

    /// Bytes that the pool holds.
    pub fn heap_bytes(&self) -> usize {
        self.pages.iter().map(String::capacity).sum::<usize>()
            + self.pages.capacity() * size_of::<String>()
            + self.places.capacity() * size_of::<Place>()
            + (self.free.capacity() + self.freed_last.capacity()) * size_of::<u32>()
            + self.ids.allocation_size()
    }

    fn find(&self, hash: u64, text: &str) -> Option<u32> {
        self.ids.find(hash, |&id| text_at(&self.pages, self.places[id as usize]) == text).copied()
    }
}

fn text_at(pages: &[String], place: Place) -> &str {
    pages.get(place.page as usize).map_or("", |page| &page[place.start as usize..][..place.len as usize])
}

/// Appends `text` to the last page, or to a new one: pages never move, so growing copies nothing.
fn store(pages: &mut Vec<String>, text: &str) -> Place {
    let fits = pages.last().is_some_and(|page| page.capacity() - page.len() >= text.len());
    if !fits {
        let capacity = pages.last().map_or(FIRST_PAGE, |page| (page.capacity() * 2).min(LARGEST_PAGE));
        pages.push(String::with_capacity(capacity.max(text.len())));
    }
    let index = pages.len() - 1;
    let page = &mut pages[index];
    let start = page.len();
    page.push_str(text);
    Place { page: index as u32, start: start as u32, len: text.len() as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_equal_iff_strings_are() {
        let mut pool = SymbolPool::new();
        let texts: Vec<String> = (0..20_000).map(|i| format!("value-{i}")).collect();
        let ids: Vec<u32> = texts.iter().map(|t| pool.intern(t)).collect();
        for (text, &id) in texts.iter().zip(&ids) {
            assert_eq!((pool.intern(text), pool.lookup(text), pool.get(id)), (id, Some(id), text.as_str()));
        }
        assert_eq!(pool.len(), 20_000);
        assert_eq!(pool.lookup("none"), None);
        let long = "x".repeat(LARGEST_PAGE + 1);
        let id = pool.intern(&long);
        assert_eq!(pool.get(id), long);
        let bytes: usize = texts.iter().map(String::len).sum::<usize>() + long.len();
        assert!(pool.heap_bytes() < bytes + LARGEST_PAGE + 20_000 * 40, "{}", pool.heap_bytes());
    }

    #[test]
    fn a_freed_id_rests_for_one_sweep() {
        let mut pool = SymbolPool::new();
        let (a, b) = (pool.intern("a"), pool.intern("b"));
        pool.sweep(|id| id == b);
        assert_eq!((pool.get(a), pool.lookup("a"), pool.get(b)), ("", None, "b"));
        let c = pool.intern("c");
        assert!(c != a && c != b);
        pool.sweep(|_| true);
        assert_eq!(pool.intern("d"), a);
        assert_eq!((pool.get(b), pool.get(c), pool.len()), ("b", "c", 3));
    }
}
