//! Walks a remote write 1.0 body (`prometheus.WriteRequest`).

use pyrrha_model::{Metadata, MetricType};

use super::KeyHasher;
use super::histogram;
use super::request::{ExemplarSlot, LabelSource, Request, Sample, SeriesSlot};
use super::wire::{Walker, WireError};

/// Decodes a whole body into columns; label strings stay where they are.
pub(crate) fn walk<'a>(
    body: &'a [u8],
    hasher: KeyHasher,
    decoded_bytes_max: usize,
) -> Result<Request<'a>, WireError> {
    let mut request = Request::new(decoded_bytes_max);
    let mut message = Walker::new(body);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => series(field.bytes()?, hasher, &mut request)?,
            3 => request.push_family(family(field.message()?)?)?,
            _ => {}
        }
    }
    Ok(request)
}

/// The label pairs of a message whose fields of number 1 are labels. The message was walked
/// before, so an error cannot occur here; it would end the iteration.
pub(crate) fn labels(message: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut walker = Walker::new(message);
    std::iter::from_fn(move || {
        while let Ok(Some(field)) = walker.next_field() {
            if field.number == 1 {
                return field.message().and_then(label).ok();
            }
        }
        None
    })
}

fn label(mut message: Walker<'_>) -> Result<(&[u8], &[u8]), WireError> {
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => name = field.bytes()?,
            2 => value = field.bytes()?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// One `TimeSeries`. The key is the hash of the bytes of its labels: senders put them first and
/// spell them alike each time. Labels between other fields make the region longer, and so only
/// the key useless, never wrong.
fn series<'a>(bytes: &'a [u8], hasher: KeyHasher, request: &mut Request<'a>) -> Result<(), WireError> {
    let starts = (request.samples.len(), request.histograms.len(), request.exemplars.len());
    let mut labels_end = skip_common_labels(bytes);
    let mut message = Walker::new(&bytes[labels_end..]);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => {
                // Checked now, so that the label iterator can rely on it later.
                label(field.message()?)?;
                labels_end = bytes.len() - message.remaining();
            }
            2 => request.push_sample(sample(field.bytes()?)?)?,
            3 => request.push_exemplar(exemplar(field.bytes()?)?)?,
            4 => request.push_histogram(histogram::walk(field.message()?)?)?,
            _ => {}
        }
    }
    let slot = SeriesSlot {
        labels: LabelSource::Message(bytes),
        samples: starts.0 as u32..request.samples.len() as u32,
        histograms: starts.1 as u32..request.histograms.len() as u32,
        exemplars: starts.2 as u32..request.exemplars.len() as u32,
        metadata: None,
    };
    request.push_series(hasher.hash(&bytes[..labels_end]), slot)
}

/// Length of the leading labels that have the form every sender writes: short, name before value.
/// Looking at four bytes of each is enough to know it well-formed.
fn skip_common_labels(bytes: &[u8]) -> usize {
    let mut at = 0;
    // tag, length, name tag, name length, name, value tag, value length, value
    while let Some(&[0x0A, len, 0x0A, name_len]) = bytes.get(at..at + 4) {
        let (end, value_at) = (at + 2 + usize::from(len), at + 4 + usize::from(name_len));
        let value = bytes.get(value_at..value_at + 2);
        let well_formed = value.is_some_and(|v| v[0] == 0x12 && value_at + 2 + usize::from(v[1]) == end);
        // A length of 0x80 and more goes on in the next byte.
        let short = (len | name_len | value.map_or(0, |v| v[1])) < 0x80;
        if !(well_formed && short && end <= bytes.len()) {
            break;
        }
        at = end;
    }
    at
}

#[inline]
fn sample(bytes: &[u8]) -> Result<Sample, WireError> {
    // The form every sender writes: value, then timestamp.
    if let Some((&[0x09, ref value @ .., 0x10], time)) = bytes.split_first_chunk::<10>() {
        let mut time = Walker::new(time);
        let t = time.varint()? as i64;
        if time.remaining() == 0 {
            return Ok(Sample { start: 0, t, v: f64::from_le_bytes(*value) });
        }
    }
    let mut message = Walker::new(bytes);
    let mut sample = Sample { start: 0, t: 0, v: 0.0 };
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => sample.v = field.double()?,
            2 => sample.t = field.int64()?,
            _ => {}
        }
    }
    Ok(sample)
}

fn exemplar(bytes: &[u8]) -> Result<ExemplarSlot<'_>, WireError> {
    let mut slot = ExemplarSlot { labels: LabelSource::Message(bytes), value: 0.0, t: 0 };
    let mut message = Walker::new(bytes);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => drop(label(field.message()?)?),
            2 => slot.value = field.double()?,
            3 => slot.t = field.int64()?,
            _ => {}
        }
    }
    Ok(slot)
}

fn family(mut message: Walker<'_>) -> Result<(String, Metadata), WireError> {
    let (mut name, mut metadata) = (String::new(), Metadata::default());
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => metadata.metric_type = metric_type(field.varint()?),
            2 => name = text(field.bytes()?),
            4 => metadata.help = text(field.bytes()?),
            5 => metadata.unit = text(field.bytes()?),
            _ => {}
        }
    }
    Ok((name, metadata))
}

/// The metric type of a protocol number, the same in both versions.
pub(crate) fn metric_type(number: u64) -> MetricType {
    match number {
        1 => MetricType::Counter,
        2 => MetricType::Gauge,
        3 => MetricType::Histogram,
        4 => MetricType::GaugeHistogram,
        5 => MetricType::Summary,
        6 => MetricType::Info,
        7 => MetricType::StateSet,
        _ => MetricType::Unknown,
    }
}
