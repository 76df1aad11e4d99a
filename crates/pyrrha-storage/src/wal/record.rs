//! The payload of a record: one batch with the definitions it needs, as sections
//! (`docs/format/wal.md`).

use pyrrha_encoding::DecodeError;
use pyrrha_encoding::column::{
    MAX_COLUMN, decode_times, decode_u32_column, decode_values, encode_times, encode_u32_column,
    encode_values,
};
use pyrrha_encoding::varint::{
    put_uvarint, put_varint, take_array, take_count, take_length_prefixed, take_u8, take_uvarint,
    take_uvarint32, take_varint,
};
use pyrrha_model::labels::Label;
use pyrrha_model::{Exemplar, Labels, Metadata, TenantId};

use super::definitions::NewDefinitions;
use super::deletes::{put_deletes, take_deletes};
use super::histogram::{put_histograms, take_histograms};
use super::{LogBatch, WalError};
use crate::metric_type;

/// Kind of a frame that holds a batch.
pub(super) const BATCH: u8 = 1;

const SYMBOLS: u8 = 1;
const SERIES: u8 = 2;
const FLOATS: u8 = 3;
const STARTS: u8 = 4;
const HISTOGRAMS: u8 = 5;
const EXEMPLARS: u8 = 6;
const METADATA: u8 = 7;
const LATE: u8 = 8;
const DELETES: u8 = 9;
/// Flag of a section that is packed with LZ4.
const PACKED: u8 = 0x80;
/// Sections shorter than this are never packed.
const PACK_FROM: usize = 128;
/// A section may unpack to this and no more; also the most that LZ4 can gain.
const MAX_RAW: usize = 1 << 30;
const MAX_GAIN: usize = 255;

/// Writes payloads; keeps its buffers.
#[derive(Debug, Default)]
pub(super) struct RecordEncoder {
    body: Vec<u8>,
}

impl RecordEncoder {
    /// Appends the payload of a batch.
    pub(super) fn encode(&mut self, out: &mut Vec<u8>, batch: &LogBatch, definitions: &NewDefinitions) {
        put_text(out, batch.tenant.as_str());
        put_section(out, SYMBOLS, &definitions.symbols, true);
        put_section(out, SERIES, &definitions.series, true);
        self.section(out, FLOATS, false, |body| put_floats(body, batch));
        if batch.starts.iter().any(|&s| s != 0) {
            self.section(out, STARTS, true, |body| encode_times(&batch.starts, body));
        }
        if !batch.histograms.is_empty() {
            self.section(out, HISTOGRAMS, true, |body| put_histograms(body, &batch.histograms));
        }
        if !batch.late.is_empty() {
            self.section(out, LATE, true, |body| put_histograms(body, &batch.late));
        }
        if !batch.exemplars.is_empty() {
            self.section(out, EXEMPLARS, true, |body| put_exemplars(body, &batch.exemplars));
        }
        if !batch.metadata.is_empty() {
            self.section(out, METADATA, true, |body| put_metadata(body, &batch.metadata));
        }
        if !batch.deletes.is_empty() {
            self.section(out, DELETES, true, |body| put_deletes(body, &batch.deletes));
        }
    }

    fn section(&mut self, out: &mut Vec<u8>, tag: u8, pack: bool, write: impl FnOnce(&mut Vec<u8>)) {
        self.body.clear();
        write(&mut self.body);
        put_section(out, tag, &self.body, pack);
    }
}

fn put_floats(body: &mut Vec<u8>, batch: &LogBatch) {
    if batch.refs.is_empty() {
        return;
    }
    put_uvarint(body, batch.refs.len() as u64);
    encode_u32_column(&batch.refs, body);
    encode_times(&batch.times, body);
    encode_values(&batch.values, body);
}

/// Appends `tag | uvarint length | body`, nothing for an empty body.
fn put_section(out: &mut Vec<u8>, tag: u8, body: &[u8], pack: bool) {
    if body.is_empty() {
        return;
    }
    if pack && (PACK_FROM..MAX_RAW).contains(&body.len()) {
        let packed = lz4_flex::block::compress(body);
        if packed.len() + packed.len() / 16 < body.len() {
            out.push(tag | PACKED);
            put_uvarint(out, packed.len() as u64);
            put_uvarint(out, body.len() as u64);
            out.extend_from_slice(&packed);
            return;
        }
    }
    out.push(tag);
    put_uvarint(out, body.len() as u64);
    out.extend_from_slice(body);
}

/// The sections of a payload.
#[derive(Debug, Default)]
pub(super) struct Sections<'a> {
    /// Whose batch it is.
    pub(super) tenant: &'a str,
    pub(super) symbols: Section<'a>,
    pub(super) series: Section<'a>,
    floats: Section<'a>,
    starts: Section<'a>,
    histograms: Section<'a>,
    exemplars: Section<'a>,
    metadata: Section<'a>,
    deletes: Section<'a>,
    late: Section<'a>,
    /// Sections of a newer writer, which are passed over.
    pub(super) unknown: usize,
}

/// One section's body, as stored.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Section<'a> {
    raw_len: Option<usize>,
    bytes: &'a [u8],
}

impl<'a> Section<'a> {
    /// Its bytes, unpacked into `buffer` if they are packed.
    pub(super) fn body<'b>(self, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], DecodeError>
    where
        'a: 'b,
    {
        let Some(len) = self.raw_len else { return Ok(self.bytes) };
        buffer.clear();
        buffer.resize(len, 0);
        match lz4_flex::block::decompress_into(self.bytes, buffer) {
            Ok(n) if n == len => Ok(buffer),
            _ => Err(DecodeError::Malformed { part: "packed section" }),
        }
    }

    /// Whether it is absent.
    pub(super) fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }
}

/// Takes a payload apart.
pub(super) fn sections(mut payload: &[u8]) -> Result<Sections<'_>, DecodeError> {
    let input = &mut payload;
    let mut all = Sections { tenant: take_text(input)?, ..Sections::default() };
    while !input.is_empty() {
        let tag = take_u8(input)?;
        let packed = tag & PACKED != 0;
        let len = take_uvarint(input)?;
        let raw_len = if packed { Some(take_uvarint(input)? as usize) } else { None };
        let len = usize::try_from(len).map_err(|_| DecodeError::Truncated { part: "section" })?;
        let bytes = pyrrha_encoding::varint::take_bytes(input, len)?;
        if raw_len.is_some_and(|raw| raw > MAX_RAW || raw / MAX_GAIN > bytes.len()) {
            return Err(DecodeError::Malformed { part: "packed section" });
        }
        let section = Section { raw_len, bytes };
        match tag & !PACKED {
            SYMBOLS => all.symbols = section,
            SERIES => all.series = section,
            FLOATS => all.floats = section,
            STARTS => all.starts = section,
            HISTOGRAMS => all.histograms = section,
            EXEMPLARS => all.exemplars = section,
            METADATA => all.metadata = section,
            DELETES => all.deletes = section,
            LATE => all.late = section,
            _ => all.unknown += 1,
        }
    }
    Ok(all)
}

/// Reads the batch; `buffer` is scratch space.
pub(super) fn decode_batch(
    sections: &Sections<'_>,
    tenant: TenantId,
    buffer: &mut Vec<u8>,
) -> Result<LogBatch, DecodeError> {
    let mut batch = LogBatch::new(tenant);
    if !sections.floats.is_empty() {
        let mut input = sections.floats.body(buffer)?;
        let count = take_uvarint32(&mut input)? as usize;
        decode_u32_column(&mut input, count, &mut batch.refs)?;
        decode_times(&mut input, count, &mut batch.times)?;
        decode_values(&mut input, count, &mut batch.values)?;
    }
    if !sections.starts.is_empty() {
        decode_times(&mut sections.starts.body(buffer)?, batch.refs.len(), &mut batch.starts)?;
    }
    if !sections.histograms.is_empty() {
        batch.histograms = take_histograms(sections.histograms.body(buffer)?)?;
    }
    if !sections.late.is_empty() {
        batch.late = take_histograms(sections.late.body(buffer)?)?;
    }
    if !sections.exemplars.is_empty() {
        batch.exemplars = take_exemplars(sections.exemplars.body(buffer)?)?;
    }
    if !sections.metadata.is_empty() {
        batch.metadata = take_metadata(sections.metadata.body(buffer)?)?;
    }
    if !sections.deletes.is_empty() {
        batch.deletes = take_deletes(sections.deletes.body(buffer)?)?;
    }
    Ok(batch)
}

fn put_exemplars(out: &mut Vec<u8>, exemplars: &[(u32, Exemplar)]) {
    put_uvarint(out, exemplars.len() as u64);
    let mut before = 0i64;
    for (series, exemplar) in exemplars {
        put_varint(out, i64::from(*series) - before);
        before = i64::from(*series);
        put_varint(out, exemplar.timestamp);
        out.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
        put_uvarint(out, exemplar.labels.len() as u64);
        for label in &exemplar.labels {
            put_text(out, &label.name);
            put_text(out, &label.value);
        }
    }
}

fn take_exemplars(mut input: &[u8]) -> Result<Vec<(u32, Exemplar)>, DecodeError> {
    let input = &mut input;
    let count = take_count(input, 11)?;
    let mut exemplars = Vec::with_capacity(count);
    let mut series = 0i64;
    for _ in 0..count {
        series = series.wrapping_add(take_varint(input)?);
        let reference =
            u32::try_from(series).map_err(|_| DecodeError::Malformed { part: "exemplar's series" })?;
        let timestamp = take_varint(input)?;
        let value = f64::from_bits(u64::from_le_bytes(take_array(input)?));
        let pairs = take_count(input, 2)?;
        let mut labels = Vec::with_capacity(pairs);
        for _ in 0..pairs {
            labels.push(Label { name: take_text(input)?.to_owned(), value: take_text(input)?.to_owned() });
        }
        let labels = Labels::from_pairs(labels.into_iter().map(|l| (l.name, l.value)));
        exemplars.push((reference, Exemplar { labels, value, timestamp }));
    }
    Ok(exemplars)
}

fn put_metadata(out: &mut Vec<u8>, metadata: &[(String, Metadata)]) {
    put_uvarint(out, metadata.len() as u64);
    for (name, metadata) in metadata {
        out.push(metric_type::byte(metadata.metric_type));
        put_text(out, name);
        put_text(out, &metadata.help);
        put_text(out, &metadata.unit);
    }
}

fn take_metadata(mut input: &[u8]) -> Result<Vec<(String, Metadata)>, DecodeError> {
    let input = &mut input;
    let count = take_count(input, 4)?;
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let metric_type = metric_type::of(take_u8(input)?);
        let name = take_text(input)?.to_owned();
        let (help, unit) = (take_text(input)?.to_owned(), take_text(input)?.to_owned());
        all.push((name, Metadata { metric_type, help, unit }));
    }
    Ok(all)
}

/// Fails for a batch whose columns differ in length or are too long.
pub(super) fn check_columns(batch: &LogBatch) -> Result<(), WalError> {
    let n = batch.refs.len();
    let starts = batch.starts.is_empty() || batch.starts.len() == n;
    if batch.times.len() != n || batch.values.len() != n || !starts {
        return Err(WalError::BadBatch("its columns differ in length"));
    }
    if n > MAX_COLUMN {
        return Err(WalError::BadBatch("it has more than 16 M samples"));
    }
    Ok(())
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_uvarint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn take_text<'a>(input: &mut &'a [u8]) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(take_length_prefixed(input)?).map_err(|_| DecodeError::Malformed { part: "text" })
}

#[cfg(test)]
mod tests;
