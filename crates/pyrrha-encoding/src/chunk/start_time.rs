//! How XOR2 and ST chunks write start timestamps beside their samples.
//!
//! A header byte: bit 7 says that the first sample has one; the other bits, from which sample on
//! each sample writes its own (0: all have that of the first). What is written is the distance of
//! the start from the time of the sample *before*: at first as it is, then as change.

use pyrrha_model::Timestamp;

use super::varbit::{put_varbit_int, read_varbit_int};
use crate::DecodeError;
use crate::bits::{BitReader, BitSink};

/// Bit of the header byte: the first sample has a start timestamp.
const FIRST_PRESENT: u8 = 0x80;

/// The last sample index that the header byte can say; there, writing begins in any case.
const LAST_INDEX: u16 = 0x7f;

/// A writer's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct StartWriter {
    /// The header byte.
    pub(super) header: u8,
    start: Timestamp,
    distance: i64,
}

impl StartWriter {
    /// Begins with the first sample, of time `time`.
    #[inline]
    pub(super) fn put_first(&mut self, sink: &mut impl BitSink, time: Timestamp, start: Timestamp) {
        *self = Self { header: 0, start, distance: 0 };
        if start != 0 {
            self.header = FIRST_PRESENT;
            sink.put_varint(time.wrapping_sub(start));
        }
    }

    /// Sample `index` (1 or more), the one before it being of time `before`. Returns whether the
    /// header changed.
    #[inline]
    pub(super) fn put(
        &mut self,
        sink: &mut impl BitSink,
        index: u16,
        before: Timestamp,
        start: Timestamp,
    ) -> bool {
        let begun = self.header & !FIRST_PRESENT != 0;
        if !begun && start == self.start && index < LAST_INDEX {
            return false;
        }
        let distance = before.wrapping_sub(start);
        put_varbit_int(sink, if begun { distance.wrapping_sub(self.distance) } else { distance });
        self.distance = distance;
        self.start = start;
        if !begun {
            self.header |= index.min(LAST_INDEX) as u8;
        }
        !begun
    }
}

/// A reader's state.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StartReader {
    header: u8,
    /// Start timestamp of the sample read last.
    pub(super) start: Timestamp,
    distance: i64,
}

impl StartReader {
    pub(super) fn new(header: u8) -> Self {
        Self { header, start: 0, distance: 0 }
    }

    /// Reads that of the first sample, of time `time`.
    pub(super) fn read_first(&mut self, r: &mut BitReader<'_>, time: Timestamp) -> Result<(), DecodeError> {
        if self.header & FIRST_PRESENT != 0 {
            self.start = time.wrapping_sub(r.varint()?);
        }
        Ok(())
    }

    /// Reads that of sample `index` (1 or more), the one before it being of time `before`.
    #[inline(always)]
    pub(super) fn read(&mut self, r: &mut BitReader<'_>, index: u16, before: Timestamp) {
        let from = u16::from(self.header & !FIRST_PRESENT);
        if from == 0 || index < from {
            return;
        }
        let read = read_varbit_int(r);
        self.distance = if index == from { read } else { self.distance.wrapping_add(read) };
        self.start = before.wrapping_sub(self.distance);
    }

    /// The writer's state at the same place.
    pub(super) fn to_write(self) -> StartWriter {
        StartWriter { header: self.header, start: self.start, distance: self.distance }
    }
}
