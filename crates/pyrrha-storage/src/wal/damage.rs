//! What the log could not give back.

use std::fmt;

/// Why a part of the log is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamageReason {
    /// Bytes do not match their checksum.
    Checksum,
    /// A record has a good checksum and makes no sense.
    Malformed,
    /// The header of the segment is gone, and with it the key to its records.
    Header,
    /// The segment's file is gone.
    Missing,
    /// The disk does not give the segment's bytes.
    Unreadable,
    /// The record is whole, but the definition of some of its series was lost.
    Undefined,
}

impl DamageReason {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Checksum => "checksum mismatch",
            Self::Malformed => "malformed record",
            Self::Header => "segment header damaged",
            Self::Missing => "segment missing",
            Self::Unreadable => "segment unreadable",
            Self::Undefined => "series definition lost",
        }
    }
}

/// One damaged place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Number of the segment.
    pub segment: u64,
    /// Where the loss starts in it.
    pub offset: u64,
    /// Bytes lost.
    pub bytes: u64,
    /// Records lost; `None` if not known.
    pub records: Option<u64>,
    /// Samples lost; `None` if not known.
    pub samples: Option<u64>,
    /// What is wrong there.
    pub reason: DamageReason,
}

/// Most places that a report names; further ones are only counted.
const MAX_PLACES: usize = 1000;
/// Most unreadable segments that a report names; further ones are only counted.
const MAX_UNREADABLE: usize = 10_000;

/// All damage that replay found so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DamageReport {
    /// The first thousand damaged places, in log order.
    pub places: Vec<Damage>,
    /// Damaged places.
    pub count: u64,
    /// Segments with damage.
    pub segments: u64,
    /// Bytes that were not readable.
    pub bytes: u64,
    /// Records lost, as far as known.
    pub records: u64,
    /// Samples lost, as far as known.
    pub samples: u64,
    /// Whether more was lost than the numbers say.
    pub more: bool,
    /// Numbers of the first ten thousand segments that the disk did not give. They may be readable
    /// another time.
    pub unreadable: Vec<u64>,
    /// Segments that the disk did not give.
    pub unreadable_count: u64,
    /// Bytes of unfinished, never acknowledged writes at the end that were cut off. No damage.
    pub torn_bytes: u64,
    last_segment: Option<u64>,
}

impl DamageReport {
    /// Whether `unreadable` names all segments that the disk did not give.
    pub fn names_all_unreadable(&self) -> bool {
        self.unreadable.len() as u64 == self.unreadable_count
    }

    /// Whether nothing acknowledged was lost, as far as one can tell.
    pub fn is_clean(&self) -> bool {
        self.count == 0
    }

    pub(super) fn add(&mut self, damage: Damage) {
        tracing::error!(
            segment = damage.segment,
            offset = damage.offset,
            bytes = damage.bytes,
            records = damage.records,
            samples = damage.samples,
            reason = damage.reason.as_str(),
            "log is damaged, everything readable before and after is kept"
        );
        self.count += 1;
        self.segments += u64::from(self.last_segment != Some(damage.segment));
        self.last_segment = Some(damage.segment);
        self.bytes += damage.bytes;
        self.records += damage.records.unwrap_or(0);
        self.samples += damage.samples.unwrap_or(0);
        self.more |= damage.records.is_none() || damage.samples.is_none();
        if damage.reason == DamageReason::Unreadable {
            self.unreadable_count += 1;
            if self.unreadable.len() < MAX_UNREADABLE {
                self.unreadable.push(damage.segment);
            }
        }
        if self.places.len() < MAX_PLACES {
            self.places.push(damage);
        }
    }
}

impl fmt::Display for DamageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "places={} segments={} bytes={} records={} samples={}",
            self.count, self.segments, self.bytes, self.records, self.samples
        )?;
        if self.more {
            f.write_str(" and more that cannot be counted")?;
        }
        match self.places.first() {
            Some(d) => {
                write!(f, " first: {} segment={} offset={}", d.reason.as_str(), d.segment, d.offset)
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_so_many_and_counts_the_rest() {
        let mut report = DamageReport::default();
        for segment in 0..MAX_UNREADABLE as u64 + 5 {
            assert!(report.names_all_unreadable() || segment > MAX_UNREADABLE as u64);
            let reason = DamageReason::Unreadable;
            report.add(Damage { segment, offset: 0, bytes: 1, records: None, samples: None, reason });
        }
        assert_eq!((report.places.len(), report.unreadable.len()), (MAX_PLACES, MAX_UNREADABLE));
        assert_eq!((report.count, report.unreadable_count), (10_005, 10_005));
        assert!(!report.names_all_unreadable());
    }
}
