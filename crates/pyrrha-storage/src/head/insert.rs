//! Puts a sample of the log where it belongs, behind the newest one of its series. Needed when a
//! crash brought back a batch whose failure had been told to its sender: what was acknowledged after
//! it may be older. Only for recovery: no query may hold a snapshot of the chunks.

use pyrrha_encoding::FloatColumn;
use pyrrha_encoding::chunk::{decode_floats, xor, xor2};
use pyrrha_model::contract::Value;
use pyrrha_model::{ChunkEncoding, TimeRange, Timestamp};

use super::data::{HeadData, Open};
use super::sealed::{NONE, Sealed};

/// What became of a recovered sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It was put in its place.
    New,
    /// There was this sample.
    Known,
    /// There was a sample of that time with another value, which stays.
    Conflict,
    /// There is no place for it.
    Lost,
}

impl HeadData {
    /// Inserts a sample that is older than the newest of its series.
    pub(crate) fn insert_recovered(
        &mut self,
        series: u32,
        start: Timestamp,
        t: Timestamp,
        value: &Value,
    ) -> Inserted {
        let hot = &self.hot[series as usize];
        if hot.open != Open::None && t >= hot.open_start() {
            return self.insert_open(series, start, t, value);
        }
        let (mut index, mut newer) = (hot.tail, NONE);
        while index != NONE {
            let sealed = *self.sealed.get(index);
            if sealed.range().contains(t) {
                return self.insert_sealed(index, &sealed, start, t, value);
            }
            if sealed.max_time() < t {
                break;
            }
            (newer, index) = (index, sealed.before);
        }
        self.insert_between(series, index, newer, start, t, value)
    }

    fn insert_open(&mut self, series: u32, start: Timestamp, t: Timestamp, value: &Value) -> Inserted {
        let hot = &self.hot[series as usize];
        let newest = hot.newest;
        let first = hot.open_start();
        let Some((encoding, chunk)) = self.open_chunk(hot, self.open_count(hot)) else {
            return Inserted::Lost;
        };
        match insert_into(encoding, &chunk, start, t, value) {
            Ok(chunk) => {
                self.drop_open(series);
                if self.restore_open(series, encoding, first, &chunk).is_err() {
                    return Inserted::Lost;
                }
                self.hot[series as usize].newest = newest;
                Inserted::New
            }
            Err(inserted) => inserted,
        }
    }

    fn insert_sealed(
        &mut self,
        index: u32,
        sealed: &Sealed,
        start: Timestamp,
        t: Timestamp,
        value: &Value,
    ) -> Inserted {
        let encoding = sealed.encoding();
        let Ok(chunk) = self.store.read(sealed.place, encoding) else { return Inserted::Lost };
        match insert_into(encoding, &chunk, start, t, value) {
            Ok(chunk) => {
                let place = self.store.append(self.rules.range_start(sealed.min_time), encoding, &chunk);
                self.sealed.set_place(index, place);
                Inserted::New
            }
            Err(inserted) => inserted,
        }
    }

    /// A chunk of one sample, between those of the indexes.
    fn insert_between(
        &mut self,
        series: u32,
        older: u32,
        newer: u32,
        start: Timestamp,
        t: Timestamp,
        value: &Value,
    ) -> Inserted {
        let Value::Float(v) = value else { return Inserted::Lost };
        let encoding = if self.rules.start_timestamps { ChunkEncoding::Xor2 } else { ChunkEncoding::Xor };
        let chunk = encode(encoding, &[start], &[t], &[*v]);
        let place = self.store.append(self.rules.range_start(t), encoding, &chunk);
        let sealed = Sealed { min_time: t, span: 0, place, before: older, encoding: encoding as u8 };
        let index = self.sealed.push(sealed);
        if newer == NONE {
            self.hot[series as usize].tail = index;
        } else {
            self.sealed.set_before(newer, index);
        }
        Inserted::New
    }
}

fn encode(encoding: ChunkEncoding, starts: &[Timestamp], times: &[Timestamp], values: &[f64]) -> Vec<u8> {
    if encoding == ChunkEncoding::Xor2 {
        xor2::encode(starts, times, values)
    } else {
        xor::encode(times, values)
    }
}

/// The chunk with the sample.
fn insert_into(
    encoding: ChunkEncoding,
    chunk: &[u8],
    start: Timestamp,
    t: Timestamp,
    value: &Value,
) -> Result<Vec<u8>, Inserted> {
    let mut column = FloatColumn::default();
    let Value::Float(v) = value else { return Err(Inserted::Lost) };
    if !encoding.is_float() {
        return Err(Inserted::Lost);
    }
    decode_floats(encoding, chunk, TimeRange::ALL, &mut column, true).map_err(|_| Inserted::Lost)?;
    match column.times.binary_search(&t) {
        Ok(at) if column.values[at].to_bits() == v.to_bits() => Err(Inserted::Known),
        Ok(_) => Err(Inserted::Conflict),
        Err(_) if column.times.len() == usize::from(u16::MAX) => Err(Inserted::Lost),
        Err(at) => {
            column.times.insert(at, t);
            column.values.insert(at, *v);
            column.starts.insert(at, start);
            Ok(encode(encoding, &column.starts, &column.times, &column.values))
        }
    }
}
