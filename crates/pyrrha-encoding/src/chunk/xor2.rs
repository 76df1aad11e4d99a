//! XOR2 chunks (encoding 4): time and value share a control prefix; with start timestamps.
//!
//! `u16 n | st header u8 | varint t0 | f64 v0 | [varint t0-st0]`, then `uvarint (t1-t0) | value |
//! [st]`, then per sample a joint prefix (see `put_joint`), and a start timestamp each where the
//! header says so. A stale marker is a control code and leaves the value to XOR with as it was.

use pyrrha_model::{STALE_NAN_BITS, TimeRange, Timestamp};

use super::sample_bits::{ChunkBuffer, SampleBits};
use super::start_time::{StartReader, StartWriter};
use super::window::{ReadWindow, Window};
use super::xor::set_count;
use crate::DecodeError;
use crate::bits::{BitReader, BitSink, BitWriter};
use crate::varint::{take_u8, take_u16};

/// Offset of the start timestamp header.
const START_HEADER: usize = 2;

/// Appends samples to an XOR2 chunk whose bytes live elsewhere, like [`super::XorAppender`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Xor2Appender {
    time: Timestamp,
    delta: u64,
    value: u64,
    starts: StartWriter,
    bits: u32,
    count: u16,
    window: Window,
}

impl Default for Xor2Appender {
    fn default() -> Self {
        Self::new()
    }
}

impl Xor2Appender {
    /// The state of a chunk without samples (and bytes).
    pub fn new() -> Self {
        let starts = StartWriter::default();
        Self { time: 0, delta: 0, value: 0, starts, bits: 0, count: 0, window: Window::NONE }
    }

    /// The state behind the last sample of a chunk. Bytes from [`byte_len`](Self::byte_len) on
    /// are not part of it.
    pub fn restore(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Some(mut cursor) = Cursor::open(bytes)? else { return Ok(Self::new()) };
        while cursor.next()? {}
        cursor.check()?;
        Ok(Self {
            time: cursor.time,
            delta: cursor.delta,
            value: cursor.value,
            starts: cursor.starts.to_write(),
            bits: u32::try_from(cursor.r.position() + 8 * (START_HEADER + 1))
                .map_err(|_| DecodeError::Malformed { part: "xor2 chunk" })?,
            count: cursor.count,
            window: cursor.window.to_write(),
        })
    }

    /// Appends a sample; `start` is 0 if not known. Times ascend; a chunk holds at most 65,535
    /// samples.
    #[inline]
    pub fn append(&mut self, buffer: &mut impl ChunkBuffer, start: Timestamp, time: Timestamp, value: f64) {
        let mut bits = SampleBits::new(self.bits);
        if self.count == 0 {
            bits.put(0, 24);
        }
        let header_changed = self.put(&mut bits, start, time, value);
        self.bits = bits.write(buffer);
        if header_changed && let Some(byte) = buffer.grow(START_HEADER + 1).get_mut(START_HEADER) {
            *byte = self.starts.header;
        }
    }

    /// Writes a sample, without the chunk's header; returns whether the start timestamp header
    /// changed.
    #[inline]
    pub(crate) fn put(
        &mut self,
        sink: &mut impl BitSink,
        start: Timestamp,
        time: Timestamp,
        value: f64,
    ) -> bool {
        debug_assert!(self.count < u16::MAX);
        let value = value.to_bits();
        let delta = time.wrapping_sub(self.time) as u64;
        let changed = match self.count {
            0 => {
                sink.put_varint(time);
                sink.put(value, 64);
                self.value = value;
                self.starts.put_first(sink, time, start);
                self.starts.header != 0
            }
            1 => {
                sink.put_uvarint(delta);
                self.put_value(sink, value);
                self.starts.put(sink, 1, self.time, start)
            }
            index => {
                self.put_joint(sink, delta.wrapping_sub(self.delta) as i64, value);
                self.starts.put(sink, index, self.time, start)
            }
        };
        self.delta = delta;
        self.time = time;
        self.count += 1;
        changed
    }

    /// `0` same dod-free value; `10` dod 0, other value; `11111` dod 0, stale; `110`, `1110`,
    /// `11110` and 13, 20, 64 bits of dod, then a value.
    #[inline]
    fn put_joint(&mut self, sink: &mut impl BitSink, dod: i64, value: u64) {
        if dod == 0 {
            let xor = value ^ self.value;
            if value == STALE_NAN_BITS {
                sink.put(0b11111, 5);
            } else if xor == 0 {
                sink.put(0, 1);
            } else {
                if self.window.fits(xor) {
                    self.window.put(sink, 0b100, 3, xor);
                } else {
                    self.window.put_new(sink, 0b101, 3, xor);
                }
                self.value = value;
            }
            return;
        }
        if (-(1 << 12)..1 << 12).contains(&dod) {
            sink.put(0b110 << 13 | dod as u64 & 0x1fff, 16);
        } else if (-(1 << 19)..1 << 19).contains(&dod) {
            sink.put(0b1110 << 20 | dod as u64 & 0xf_ffff, 24);
        } else {
            sink.put(0b11110, 5);
            sink.put(dod as u64, 64);
        }
        self.put_value(sink, value);
    }

    /// `0` same; `10` in the window; `110` new window; `111` stale.
    #[inline]
    fn put_value(&mut self, sink: &mut impl BitSink, value: u64) {
        let xor = value ^ self.value;
        if value == STALE_NAN_BITS {
            return sink.put(0b111, 3);
        }
        if xor == 0 {
            return sink.put(0, 1);
        }
        if self.window.fits(xor) {
            self.window.put(sink, 0b10, 2, xor);
        } else {
            self.window.put_new(sink, 0b110, 3, xor);
        }
        self.value = value;
    }

    /// Fills in the header of a chunk whose samples were written by `put`.
    pub(crate) fn finish_header(&self, chunk: &mut [u8]) {
        set_count(chunk, self.count);
        if let Some(byte) = chunk.get_mut(START_HEADER) {
            *byte = self.starts.header;
        }
    }

    /// Samples in the chunk.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Length of the chunk.
    pub fn byte_len(&self) -> usize {
        self.bits.div_ceil(8) as usize
    }

    /// Time of the last sample; 0 without one.
    pub fn last_time(&self) -> Timestamp {
        self.time
    }
}

/// Encodes at most 65,535 samples (the shortest column's length) as one chunk. `starts` has 0
/// where it is not known.
pub fn encode(starts: &[Timestamp], times: &[Timestamp], values: &[f64]) -> Vec<u8> {
    let (mut writer, mut appender) = (BitWriter::new(), Xor2Appender::new());
    let count = starts.len().min(times.len()).min(values.len()).min(usize::from(u16::MAX));
    writer.put(0, 24);
    for i in 0..count {
        appender.put(&mut writer, starts[i], times[i], values[i]);
    }
    let mut bytes = writer.finish();
    appender.finish_header(&mut bytes);
    bytes
}

/// A reader that stands on a sample.
struct Cursor<'a> {
    r: BitReader<'a>,
    time: Timestamp,
    delta: u64,
    /// What the next value is XORed with.
    value: u64,
    stale: bool,
    starts: StartReader,
    window: ReadWindow,
    /// Samples read.
    index: u16,
    count: u16,
}

impl<'a> Cursor<'a> {
    /// On the first sample, if there is one.
    fn open(mut bytes: &'a [u8]) -> Result<Option<Self>, DecodeError> {
        let count = take_u16(&mut bytes)?;
        let mut starts = StartReader::new(take_u8(&mut bytes)?);
        if count == 0 {
            return Ok(None);
        }
        let mut r = BitReader::new(bytes);
        let time = r.varint()?;
        let value = r.read(64);
        starts.read_first(&mut r, time)?;
        r.check("xor2 chunk")?;
        let window = ReadWindow::default();
        Ok(Some(Self { r, time, delta: 0, value, stale: false, starts, window, index: 1, count }))
    }

    /// Value of the sample.
    #[inline(always)]
    fn value(&self) -> f64 {
        f64::from_bits(if self.stale { STALE_NAN_BITS } else { self.value })
    }

    /// Moves to the next sample, if there is one.
    #[inline(always)]
    fn next(&mut self) -> Result<bool, DecodeError> {
        if self.index == self.count {
            return Ok(false);
        }
        let before = self.time;
        if self.index > 1 {
            self.read_joint()?;
        } else {
            self.delta = self.r.uvarint()?;
            self.read_value()?;
        }
        self.time = before.wrapping_add(self.delta as i64);
        self.starts.read(&mut self.r, self.index, before);
        self.index += 1;
        Ok(true)
    }

    /// Fails if samples were read from behind the chunk's end, where zeros are.
    fn check(&self) -> Result<(), DecodeError> {
        self.r.check("xor2 chunk")
    }

    #[inline(always)]
    fn read_joint(&mut self) -> Result<(), DecodeError> {
        let word = self.r.peek();
        if word >> 63 == 0 {
            self.r.skip(1);
            self.stale = false;
            return Ok(());
        }
        if word >> 62 == 0b10 {
            self.stale = false;
            self.value ^= if word << 2 >> 63 == 0 {
                self.window.read(&mut self.r, word, 3)?
            } else {
                self.window.read_new(&mut self.r, word, 3)?
            };
            return Ok(());
        }
        let dod = if word >> 61 == 0b110 {
            self.r.skip(16);
            (word << 3) as i64 >> 51
        } else if word >> 60 == 0b1110 {
            self.r.skip(24);
            (word << 4) as i64 >> 44
        } else {
            self.r.skip(5);
            if word >> 59 == 0b11111 {
                self.stale = true;
                return Ok(());
            }
            self.r.read(64) as i64
        };
        self.delta = self.delta.wrapping_add(dod as u64);
        self.read_value()
    }

    #[inline(always)]
    fn read_value(&mut self) -> Result<(), DecodeError> {
        let word = self.r.peek();
        self.stale = false;
        if word >> 63 == 0 {
            self.r.skip(1);
        } else if word >> 62 == 0b10 {
            self.value ^= self.window.read(&mut self.r, word, 2)?;
        } else if word >> 61 == 0b110 {
            self.value ^= self.window.read_new(&mut self.r, word, 3)?;
        } else {
            self.r.skip(3);
            self.stale = true;
        }
        Ok(())
    }
}

/// Appends the samples in `range`; the columns may be of unequal length on error.
pub(super) fn decode(
    bytes: &[u8],
    range: TimeRange,
    times: &mut Vec<Timestamp>,
    values: &mut Vec<f64>,
    starts: Option<&mut Vec<Timestamp>>,
) -> Result<(), DecodeError> {
    let Some(cursor) = Cursor::open(bytes)? else { return Ok(()) };
    // A sample takes a bit at least, so the count cannot ask for more room than that.
    let room = usize::from(cursor.count).min(bytes.len() * 8);
    let start = times.len();
    times.resize(start + room, 0);
    values.resize(start + room, 0.0);
    let slots = times[start..].iter_mut().zip(&mut values[start..]);
    let kept = match starts {
        Some(starts) => fill::<true>(cursor, range, slots, |start| starts.push(start))?,
        None if range == TimeRange::ALL => fill::<false>(cursor, range, slots, |_| {})?,
        None => fill::<true>(cursor, range, slots, |_| {})?,
    };
    times.truncate(start + kept);
    values.truncate(start + kept);
    Ok(())
}

/// Fills the slots with the samples in `range`, or with all unless `CUT`; gives how many.
#[inline(always)]
fn fill<'a, const CUT: bool>(
    mut cursor: Cursor<'_>,
    range: TimeRange,
    mut slots: impl Iterator<Item = (&'a mut Timestamp, &'a mut f64)>,
    mut start: impl FnMut(Timestamp),
) -> Result<usize, DecodeError> {
    let mut kept = 0;
    loop {
        if CUT && cursor.time > range.end {
            break;
        }
        if !CUT || cursor.time >= range.start {
            let Some((time, value)) = slots.next() else { break };
            *time = cursor.time;
            *value = cursor.value();
            start(cursor.starts.start);
            kept += 1;
        }
        if !cursor.next()? {
            break;
        }
    }
    cursor.check()?;
    Ok(kept)
}

#[cfg(test)]
mod tests;
