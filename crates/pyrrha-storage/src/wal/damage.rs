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
    /// Numbers of the segments that the disk did not give. They may be readable another time.
    pub unreadable: Vec<u64>,
    /// Bytes of unfinished, never acknowledged writes at the end that were cut off. No damage.
    pub torn_bytes: u64,
    last_segment: Option<u64>,
}

impl DamageReport {
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
            self.unreadable.push(damage.segment);
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
