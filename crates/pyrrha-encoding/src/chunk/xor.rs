//! XOR chunks (encoding 1): delta-of-delta times, values XORed with the value before.
//!
//! `u16 n | varint t0 | f64 v0 | uvarint (t1-t0) | xor(v1) | {dod, xor(v)}*`. The samples are bits
//! behind each other, so the first k samples of a chunk are a chunk: only its count differs.

use pyrrha_model::{TimeRange, Timestamp};

use super::sample_bits::{ChunkBuffer, SampleBits, write_word};
use super::window::{ReadWindow, Window};
use crate::bits::{self, BitReader, BitSink, BitWriter, fits_signed, sign};
use crate::varint::{put_varint, take_u16, take_u64, take_varint};
use crate::{DecodeError, FloatColumn};

/// Appends samples to an XOR chunk whose bytes live elsewhere. 32 bytes of plain data.
///
/// The bytes are a complete chunk after each sample, but for the count in their first two bytes,
/// which is only right after [`set_count`]: so an append touches the end of the chunk alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XorAppender {
    time: Timestamp,
    delta: u64,
    value: u64,
    bits: u32,
    count: u16,
    window: Window,
}

impl Default for XorAppender {
    fn default() -> Self {
        Self::new()
    }
}

impl XorAppender {
    /// The state of a chunk without samples (and bytes).
    pub const fn new() -> Self {
        Self { time: 0, delta: 0, value: 0, bits: 0, count: 0, window: Window::NONE }
    }

    /// The state behind the last sample of a chunk. Bytes from [`byte_len`](Self::byte_len) on
    /// are not part of it.
    pub fn restore(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Some(mut cursor) = Cursor::open(bytes)? else { return Ok(Self::new()) };
        while cursor.next()? {}
        cursor.check()?;
        let header = bytes.len() * 8 - cursor.len_bits;
        Ok(Self {
            time: cursor.time,
            delta: cursor.delta,
            value: cursor.value,
            bits: u32::try_from(header + cursor.r.position())
                .map_err(|_| DecodeError::Malformed { part: "xor chunk" })?,
            count: cursor.count,
            window: cursor.window.to_write(),
        })
    }

    /// Appends a sample. Times ascend; a chunk holds at most 65,535 samples.
    #[inline]
    pub fn append(&mut self, buffer: &mut impl ChunkBuffer, time: Timestamp, value: f64) {
        if self.count < 2 || !self.append_word(buffer, time, value) {
            self.append_any(buffer, time, value);
        }
    }

    /// Appends a sample that takes a word or less, as nearly all do; false for others.
    #[inline]
    fn append_word(&mut self, buffer: &mut impl ChunkBuffer, time: Timestamp, value: f64) -> bool {
        let delta = time.wrapping_sub(self.time) as u64;
        let Some((dod, dod_len)) = dod_bits(delta.wrapping_sub(self.delta) as i64) else { return false };
        let bits = value.to_bits();
        let mut window = self.window;
        let Some((xor, xor_len)) = window.xor_bits(bits ^ self.value) else { return false };
        if self.bits % 8 + dod_len + xor_len > 64 {
            return false;
        }
        self.bits = write_word(buffer, self.bits, dod << xor_len | xor, dod_len + xor_len);
        self.window = window;
        self.delta = delta;
        self.time = time;
        self.value = bits;
        self.count += 1;
        true
    }

    #[inline(never)]
    fn append_any(&mut self, buffer: &mut impl ChunkBuffer, time: Timestamp, value: f64) {
        let mut bits = SampleBits::new(self.bits);
        if self.count == 0 {
            bits.put(0, 16);
        }
        self.put(&mut bits, time, value);
        self.bits = bits.write(buffer);
    }

    /// Appends a sample to a chunk whose times are in a shared column:
    /// `u16 n | f64 v0 | {xor(v)}*`. A chunk takes either kind of sample, not both.
    #[inline]
    pub fn append_value(&mut self, buffer: &mut impl ChunkBuffer, value: f64) {
        let mut bits = SampleBits::new(self.bits);
        let value = value.to_bits();
        if self.count == 0 {
            bits.put(0, 16);
            bits.put(value, 64);
        } else {
            self.window.put_xor(&mut bits, value ^ self.value);
        }
        self.value = value;
        self.count += 1;
        self.bits = bits.write(buffer);
    }

    /// Writes a sample, without the chunk's header.
    #[inline]
    pub(crate) fn put(&mut self, sink: &mut impl BitSink, time: Timestamp, value: f64) {
        debug_assert!(self.count < u16::MAX);
        let value = value.to_bits();
        let delta = time.wrapping_sub(self.time) as u64;
        match self.count {
            0 => {
                sink.put_varint(time);
                sink.put(value, 64);
            }
            1 => {
                sink.put_uvarint(delta);
                self.window.put_xor(sink, value ^ self.value);
            }
            _ => {
                put_dod(sink, delta.wrapping_sub(self.delta) as i64);
                self.window.put_xor(sink, value ^ self.value);
            }
        }
        self.delta = delta;
        self.time = time;
        self.value = value;
        self.count += 1;
    }

    /// Fills in the header of a chunk whose samples were written by `put`.
    pub(crate) fn finish_header(&self, chunk: &mut [u8]) {
        set_count(chunk, self.count);
    }

    /// Samples in the chunk.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Length of the chunk.
    pub fn byte_len(&self) -> usize {
        self.bits.div_ceil(8) as usize
    }

    /// Time of the last sample; 0 without one, or where times are shared.
    pub fn last_time(&self) -> Timestamp {
        self.time
    }

    /// Value of the last sample; 0 without one.
    pub fn last_value(&self) -> f64 {
        f64::from_bits(self.value)
    }
}

/// Writes the number of samples into a chunk's header. A count below that of the appender makes
/// it a chunk of its first samples.
pub fn set_count(chunk: &mut [u8], count: u16) {
    if let Some(header) = chunk.first_chunk_mut() {
        *header = count.to_be_bytes();
    }
}

/// Encodes at most 65,535 samples (the shorter of both columns) as one chunk.
pub fn encode(times: &[Timestamp], values: &[f64]) -> Vec<u8> {
    let (mut writer, mut appender) = (BitWriter::new(), XorAppender::new());
    let count = times.len().min(values.len()).min(usize::from(u16::MAX));
    writer.put(count as u64, 16);
    for (time, value) in times.iter().zip(values).take(count) {
        appender.put(&mut writer, *time, *value);
    }
    writer.finish()
}

/// Appends a chunk of one sample to `out`.
pub fn encode_one(time: Timestamp, value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(&1u16.to_be_bytes());
    put_varint(out, time);
    out.extend_from_slice(&value.to_bits().to_be_bytes());
}

/// `0`: 0; `10`, `110`, `1110` and 14, 17, 20 bits. What does not fit is `1111` and 64 bits.
#[inline]
fn dod_bits(dod: i64) -> Option<(u64, u32)> {
    if dod == 0 {
        Some((0, 1))
    } else if fits_signed(dod, 14) {
        Some((0b10 << 14 | dod as u64 & 0x3fff, 16))
    } else if fits_signed(dod, 17) {
        Some((0b110 << 17 | dod as u64 & 0x1_ffff, 20))
    } else if fits_signed(dod, 20) {
        Some((0b1110 << 20 | dod as u64 & 0xf_ffff, 24))
    } else {
        None
    }
}

#[inline]
fn put_dod(sink: &mut impl BitSink, dod: i64) {
    match dod_bits(dod) {
        Some((bits, len)) => sink.put(bits, len),
        None => {
            sink.put(0b1111, 4);
            sink.put(dod as u64, 64);
        }
    }
}

/// Length of the longest code of a delta of delta that [`Rhythm`] keeps, bits.
const LONGEST_CODE: u32 = 24;

/// The delta of delta at `pos`, which is not coded as 0, with the length of its bits and its code;
/// `word` is what lies there.
#[inline(always)]
fn read_dod(bytes: &[u8], pos: usize, word: u64) -> (i64, u32, u32) {
    let short = |control: u32, bits: u32| {
        let len = control + bits;
        let dod = sign(word << control >> (64 - bits), bits);
        (dod, len, (word >> (64 - len) << 8) as u32 | len)
    };
    if word >> 62 == 0b10 {
        short(2, 14)
    } else if word >> 61 == 0b110 {
        short(3, 17)
    } else if word >> 60 == 0b1110 {
        short(4, 20)
    } else {
        (bits::read_at(bytes, pos + 4, 64) as i64, 68, NO_CODE)
    }
}

/// A reader that stands on a sample.
struct Cursor<'a> {
    r: BitReader<'a>,
    /// Length of what `r` reads.
    len_bits: usize,
    time: Timestamp,
    delta: u64,
    value: u64,
    window: ReadWindow,
    /// Samples read.
    index: u16,
    count: u16,
}

impl<'a> Cursor<'a> {
    /// On the first sample, if there is one.
    fn open(mut bytes: &'a [u8]) -> Result<Option<Self>, DecodeError> {
        let count = take_u16(&mut bytes)?;
        if count == 0 {
            return Ok(None);
        }
        let time = take_varint(&mut bytes)?;
        let value = take_u64(&mut bytes)?;
        Ok(Some(Self {
            r: BitReader::new(bytes),
            len_bits: bytes.len() * 8,
            time,
            delta: 0,
            value,
            window: ReadWindow::default(),
            index: 1,
            count,
        }))
    }

    /// Moves to the next sample, if there is one.
    #[inline(always)]
    fn next(&mut self) -> Result<bool, DecodeError> {
        if self.index == self.count {
            return Ok(false);
        }
        if self.index > 1 {
            let word = self.r.peek();
            if word >> 63 == 0 {
                // The same step in time: its bit and those of the value fit one word, mostly.
                self.value ^= self.window.read_xor_in(&mut self.r, word, 1)?;
            } else {
                let (bytes, pos) = self.r.parts();
                let (dod, len, _) = read_dod(bytes, pos, word);
                self.r.skip(len);
                self.delta = self.delta.wrapping_add(dod as u64);
                self.value ^= self.window.read_xor(&mut self.r)?;
            }
        } else {
            self.delta = self.r.uvarint()?;
            self.value ^= self.window.read_xor(&mut self.r)?;
        }
        self.time = self.time.wrapping_add(self.delta as i64);
        self.index += 1;
        Ok(true)
    }

    /// Reads the values of samples whose times are said by `codes`, until one is not; gives how
    /// many. Their times are left to the caller.
    #[inline(always)]
    fn follow(&mut self, codes: &[u32], slots: &mut [f64]) -> Result<usize, DecodeError> {
        let (bytes, mut pos) = self.r.parts();
        let (mut window, mut value, mut read) = (self.window, self.value, 0);
        for (&code, slot) in codes.iter().zip(slots) {
            let (word, len) = (bits::peek_at(bytes, pos), code & 0xff);
            if word >> (64 - len) != u64::from(code >> 8) {
                break;
            }
            let control = word << len;
            if control >> 63 != 0 {
                let bits;
                (bits, pos) = window.read_changed(bytes, pos, word, len)?;
                value ^= bits;
            } else {
                pos += len as usize + 1;
            }
            *slot = f64::from_bits(value);
            read += 1;
        }
        self.r = BitReader::at(bytes, pos);
        (self.window, self.value) = (window, value);
        self.index += read as u16;
        Ok(read)
    }

    /// Whether `code` says the time of the next sample.
    #[inline(always)]
    fn goes_by(&self, code: u32) -> bool {
        let (bytes, pos) = self.r.parts();
        bits::peek_at(bytes, pos) >> (64 - (code & 0xff)) == u64::from(code >> 8)
    }

    /// Reads samples from the third on until `end` or the last slot; gives how many. `times` and
    /// `codes` are for later chunks to follow.
    #[inline(always)]
    fn lead(
        &mut self,
        end: Timestamp,
        slots: &mut [f64],
        times: &mut [Timestamp],
        codes: &mut [u32],
    ) -> Result<usize, DecodeError> {
        let (bytes, mut pos) = self.r.parts();
        let (mut window, mut value) = (self.window, self.value);
        let (mut time, mut delta, mut read) = (self.time, self.delta, 0);
        for ((slot, slot_time), slot_code) in slots.iter_mut().zip(times).zip(codes) {
            let word = bits::peek_at(bytes, pos);
            let (mut at, mut behind, mut len) = (pos, word, 1);
            *slot_code = 1;
            if word >> 63 != 0 {
                let (dod, code);
                (dod, len, code) = read_dod(bytes, pos, word);
                delta = delta.wrapping_add(dod as u64);
                *slot_code = code;
                if len > LONGEST_CODE {
                    at = pos + len as usize;
                    (behind, len) = (bits::peek_at(bytes, at), 0);
                }
            }
            time = time.wrapping_add(delta as i64);
            if time > end {
                break;
            }
            if behind << len >> 63 != 0 {
                let bits;
                (bits, pos) = window.read_changed(bytes, at, behind, len)?;
                value ^= bits;
            } else {
                pos = at + len as usize + 1;
            }
            *slot = f64::from_bits(value);
            *slot_time = time;
            read += 1;
        }
        self.r = BitReader::at(bytes, pos);
        (self.window, self.value, self.time, self.delta) = (window, value, time, delta);
        self.index += read as u16;
        Ok(read)
    }

    /// Fails if samples were read from behind the chunk's end, where zeros are.
    fn check(&self) -> Result<(), DecodeError> {
        self.r.check("xor chunk")
    }
}

/// Appends the samples in `range`; the columns may be of unequal length on error. Times that go as
/// in the chunk that `rhythm` was left by are compared with it and not decoded.
pub(super) fn decode(
    bytes: &[u8],
    range: TimeRange,
    column: &mut FloatColumn,
    rhythm: &mut Rhythm,
) -> Result<(), DecodeError> {
    let Some(mut cursor) = Cursor::open(bytes)? else { return Ok(()) };
    // A sample takes two bits at least, so the count cannot ask for more room than that.
    let room = usize::from(cursor.count).min(bytes.len() * 4);
    let start = column.values.len();
    column.values.resize(start + room, 0.0);
    let read = if cursor.time > range.end {
        0
    } else {
        fill(&mut cursor, range.end, &mut column.values[start..], rhythm)?
    };
    cursor.check()?;
    column.values.truncate(start + read);
    let times = rhythm.times.get(..read).unwrap_or_default();
    column.times.extend_from_slice(times);
    if range.start > Timestamp::MIN {
        cut_before(range.start, start, column);
    }
    Ok(())
}

/// Reads samples until `end`, values into the slots and times into the rhythm; gives how many. With
/// the processor's own instructions for bits where it has them: a sample is a chain of shifts.
#[inline]
fn fill(
    cursor: &mut Cursor<'_>,
    end: Timestamp,
    slots: &mut [f64],
    rhythm: &mut Rhythm,
) -> Result<usize, DecodeError> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2") {
        // SAFETY: the processor has both.
        return unsafe { fill_bmi(cursor, end, slots, rhythm) };
    }
    fill_any(cursor, end, slots, rhythm)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "bmi1,bmi2")]
fn fill_bmi(
    cursor: &mut Cursor<'_>,
    end: Timestamp,
    slots: &mut [f64],
    rhythm: &mut Rhythm,
) -> Result<usize, DecodeError> {
    fill_any(cursor, end, slots, rhythm)
}

#[inline(always)]
fn fill_any(
    cursor: &mut Cursor<'_>,
    end: Timestamp,
    slots: &mut [f64],
    rhythm: &mut Rhythm,
) -> Result<usize, DecodeError> {
    rhythm.make_room(slots.len());
    let [first, rest @ ..] = &mut *slots else { return Ok(0) };
    *first = f64::from_bits(cursor.value);
    rhythm.begin(0, cursor.time);
    let [second, ..] = rest else { return Ok(1) };
    if !cursor.next()? || cursor.time > end {
        return Ok(1);
    }
    *second = f64::from_bits(cursor.value);
    rhythm.begin(1, cursor.time);
    let known = rhythm.until(end, slots.len());
    let read = 2 + cursor.follow(&rhythm.codes[2..known], &mut slots[2..known])?;
    // The rhythm's next sample is behind the end; so is this chunk's, if its bits say the same time.
    let is_next_behind = || known < rhythm.known && cursor.goes_by(rhythm.codes[known]);
    if read == slots.len() || read == known && is_next_behind() {
        return Ok(read);
    }
    rhythm.known = read;
    if read > 2 {
        (cursor.time, cursor.delta) = (rhythm.times[read - 1], rhythm.delta(read - 1));
    }
    let (times, codes) = (&mut rhythm.times[read..], &mut rhythm.codes[read..]);
    rhythm.known += cursor.lead(end, &mut slots[read..], times, codes)?;
    Ok(rhythm.known)
}

/// Removes the samples before `time` among those from `start` on.
#[cold]
fn cut_before(time: Timestamp, start: usize, column: &mut FloatColumn) {
    let times = &column.times[start..];
    if times.is_sorted() {
        let end = start + times.partition_point(|&t| t < time);
        column.times.drain(start..end);
        column.values.drain(start..end);
        return;
    }
    let mut kept = start;
    for i in start..column.times.len() {
        if column.times[i] >= time {
            (column.times[kept], column.values[kept]) = (column.times[i], column.values[i]);
            kept += 1;
        }
    }
    column.times.truncate(kept);
    column.values.truncate(kept);
}

/// The times of the chunk that was decoded last, and the bits that said them. All series of a
/// scrape have the same times, and where they have, a comparison with bits that are known before they
/// are read is faster than branches on them.
#[derive(Debug, Default)]
pub(crate) struct Rhythm {
    times: Vec<Timestamp>,
    /// From the third sample on: bits of its delta of delta, left of eight bits that hold their
    /// number. As many as times.
    codes: Vec<u32>,
    /// How many of both mean something.
    known: usize,
}

/// The code of what has no short form: nothing is like it, for one bit is never 2.
const NO_CODE: u32 = 2 << 8 | 1;

impl Rhythm {
    /// Bytes allocated.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.times.capacity() * size_of::<Timestamp>() + self.codes.capacity() * size_of::<u32>()
    }

    fn make_room(&mut self, samples: usize) {
        if self.times.len() < samples {
            self.times.resize(samples, 0);
            self.codes.resize(samples, NO_CODE);
        }
    }

    /// Sample `i`, one of the first two, is at `time`.
    #[inline]
    fn begin(&mut self, i: usize, time: Timestamp) {
        if self.known <= i || self.times[i] != time {
            self.times[i] = time;
            self.known = i + 1;
        }
    }

    /// How many of the first `limit` samples, at least two, are known and not after `end`.
    #[inline]
    fn until(&self, end: Timestamp, limit: usize) -> usize {
        let known = self.known.min(limit).max(2);
        if end == Timestamp::MAX {
            return known;
        }
        2 + self.times[2..known].iter().position(|&t| t > end).unwrap_or(known - 2)
    }

    #[inline]
    fn delta(&self, i: usize) -> u64 {
        self.times[i].wrapping_sub(self.times[i - 1]) as u64
    }
}

/// Appends the samples in `range` of a chunk of [`XorAppender::append_value`].
pub(super) fn decode_shared(
    mut bytes: &[u8],
    times: &[Timestamp],
    range: TimeRange,
    column: &mut FloatColumn,
) -> Result<(), DecodeError> {
    let count = usize::from(take_u16(&mut bytes)?);
    if count == 0 {
        return Ok(());
    }
    // The column may have grown since; the chunk's samples are its first.
    let times = times.get(..count).ok_or(DecodeError::Truncated { part: "shared timestamps" })?;
    let mut value = take_u64(&mut bytes)?;
    let (mut r, mut window) = (BitReader::new(bytes), ReadWindow::default());
    let first = times.partition_point(|&t| t < range.start);
    for (i, &time) in times.iter().enumerate() {
        if i > 0 {
            value ^= window.read_xor(&mut r)?;
            r.check("xor chunk")?;
        }
        if time > range.end {
            break;
        }
        if i >= first {
            column.times.push(time);
            column.values.push(f64::from_bits(value));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
