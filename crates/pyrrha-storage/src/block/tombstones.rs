//! `tombstones`: intervals that were deleted from a block's series.
//!
//! ```text
//! 0130BA30 | version 1 | { uvarint series, varint min, varint max }* | crc32c(entries)
//! ```

use std::collections::BTreeMap;

use pyrrha_encoding::DecodeError;
use pyrrha_encoding::crc;
use pyrrha_encoding::varint::{put_uvarint, put_varint, take_uvarint, take_varint};
use pyrrha_model::TimeRange;

use super::TOMBSTONES_FILE;
use super::error::{Blame, BlockError};

const HEADER: [u8; 5] = [0x01, 0x30, 0xBA, 0x30, 1];

/// Deleted intervals by series reference; those of a series are sorted and apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tombstones {
    intervals: BTreeMap<u64, Vec<TimeRange>>,
}

impl Tombstones {
    /// Adds an interval; it joins those that it touches. An empty one is left out.
    pub fn add(&mut self, series: u64, mut interval: TimeRange) {
        if interval.is_empty() {
            return;
        }
        let list = self.intervals.entry(series).or_default();
        let from = list.partition_point(|i| i.end < interval.start.saturating_sub(1));
        let to = list.partition_point(|i| i.start <= interval.end.saturating_add(1));
        for joined in &list[from..to] {
            interval.start = interval.start.min(joined.start);
            interval.end = interval.end.max(joined.end);
        }
        list.splice(from..to, [interval]);
    }

    /// Deleted intervals of a series, sorted.
    pub fn of(&self, series: u64) -> &[TimeRange] {
        self.intervals.get(&series).map_or(&[], Vec::as_slice)
    }

    /// References of the series that have deleted intervals, ascending.
    pub fn series(&self) -> impl Iterator<Item = u64> {
        self.intervals.keys().copied()
    }

    /// All intervals, by series.
    pub fn iter(&self) -> impl Iterator<Item = (u64, TimeRange)> {
        self.intervals.iter().flat_map(|(series, list)| list.iter().map(|interval| (*series, *interval)))
    }

    /// Number of intervals.
    pub fn len(&self) -> usize {
        self.intervals.values().map(Vec::len).sum()
    }

    /// Whether nothing is deleted.
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// The file's content.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = HEADER.to_vec();
        for (&series, intervals) in &self.intervals {
            for interval in intervals {
                put_uvarint(&mut bytes, series);
                put_varint(&mut bytes, interval.start);
                put_varint(&mut bytes, interval.end);
            }
        }
        let sum = crc::checksum(&bytes[HEADER.len()..]);
        bytes.extend_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// Reads the file; `block` is the block's name, for errors.
    pub fn parse(block: &str, file: &[u8]) -> Result<Self, BlockError> {
        Self::decode(&Blame::new(block.as_ref()), file)
    }

    pub(super) fn decode(blame: &Blame, file: &[u8]) -> Result<Self, BlockError> {
        let damaged = |offset: usize, what: &str| blame.corrupt(TOMBSTONES_FILE, offset as u64, what);
        let body = file.strip_prefix(&HEADER).ok_or_else(|| damaged(0, "tombstones header"))?;
        let (mut entries, sum) =
            body.split_last_chunk::<4>().ok_or_else(|| damaged(5, "tombstones checksum"))?;
        crc::verify("tombstones", entries, u32::from_be_bytes(*sum))
            .map_err(|e| damaged(HEADER.len(), &e.to_string()))?;
        let mut tombstones = Self::default();
        while !entries.is_empty() {
            let offset = file.len() - 4 - entries.len();
            let mut entry = || -> Result<(u64, TimeRange), DecodeError> {
                let series = take_uvarint(&mut entries)?;
                Ok((series, TimeRange::new(take_varint(&mut entries)?, take_varint(&mut entries)?)))
            };
            let (series, interval) = entry().map_err(|e| damaged(offset, &e.to_string()))?;
            tombstones.add(series, interval);
        }
        Ok(tombstones)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn intervals_are_a_set_of_milliseconds(
            adds in prop::collection::vec((0u64..2, -20i64..20, 0i64..8), 0..20),
        ) {
            let mut tombstones = Tombstones::default();
            for &(series, start, len) in &adds {
                tombstones.add(series, TimeRange::new(start, start + len));
            }
            for series in 0..2 {
                for t in -25..35 {
                    let deleted = adds.iter().any(|&(s, start, len)| s == series && start <= t && t <= start + len);
                    prop_assert_eq!(tombstones.of(series).iter().any(|i| i.contains(t)), deleted);
                }
                prop_assert!(tombstones.of(series).windows(2).all(|w| w[0].end + 1 < w[1].start));
            }
            let blame = Blame::new("b".as_ref());
            let bytes = tombstones.encode();
            prop_assert_eq!(&Tombstones::decode(&blame, &bytes).expect("sound"), &tombstones);
            let mut damaged = bytes;
            let last = damaged.len() - 1;
            damaged[last] ^= 1;
            prop_assert!(Tombstones::decode(&blame, &damaged).is_err());
        }

        #[test]
        fn noise_does_not_panic(noise in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut file = HEADER.to_vec();
            file.extend_from_slice(&noise);
            file.extend_from_slice(&crc::checksum(&noise).to_be_bytes());
            let _ = Tombstones::decode(&Blame::new("b".as_ref()), &file);
        }
    }
}
