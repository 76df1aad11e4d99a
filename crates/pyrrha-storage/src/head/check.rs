//! Reads every sealed chunk of a head, for a look from outside.

use super::Head;
use super::chunk_store::{RECORD_HEADER, file_name};
use super::sealed::NONE;

impl Head {
    /// How many sealed chunks there are, and of those that cannot be read back the file and where in it the
    /// record begins.
    pub(crate) fn check_chunks(&self) -> (u64, Vec<(String, u32)>) {
        let data = self.data.read();
        let (mut chunks, mut damaged) = (0, Vec::new());
        let late = data.late.iter().flat_map(|range| range.series.values().map(|series| series.tail));
        let tails = (0..data.hot.len()).map(|series| data.hot[series].tail).chain(late);
        for tail in tails {
            let mut at = tail;
            while at != NONE {
                let sealed = data.sealed.get(at);
                at = sealed.before;
                chunks += 1;
                let place = sealed.place;
                if data.store.read(place, sealed.encoding()).is_err() {
                    let shelf = data.store.segments().find(|s| s.0 == place.segment).map(|s| s.1);
                    let name = shelf.map_or_else(String::new, |shelf| file_name(place.segment, shelf));
                    damaged.push((name, place.offset.saturating_sub(RECORD_HEADER as u32)));
                }
            }
        }
        (chunks, damaged)
    }
}
