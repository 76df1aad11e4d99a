//! Walks a remote write 2.0 body (`io.prometheus.write.v2.Request`).

use pyrrha_model::Timestamp;
use pyrrha_model::contract::SeriesKey;

use super::KeyHasher;
use super::histogram;
use super::request::{ExemplarSlot, LabelSource, MetadataRefs, Request, Sample, SeriesSlot};
use super::wire::{Walker, WireError};

/// Decodes a whole body into columns. Symbols may follow the series that use them, so they are
/// walked first.
pub(crate) fn walk<'a>(
    body: &'a [u8],
    hasher: KeyHasher,
    decoded_bytes_max: usize,
) -> Result<Request<'a>, WireError> {
    let mut request = Request::new(decoded_bytes_max);
    let mut symbol_keys = Vec::new();
    let mut message = Walker::new(body);
    while let Some(field) = message.next_field()? {
        if field.number == 4 {
            let symbol = field.bytes()?;
            symbol_keys.push(hasher.hash(symbol));
            request.push_symbol(symbol)?;
        }
    }
    let mut walk = SeriesWalk { hasher, symbol_keys, spelled: Vec::new() };
    let mut message = Walker::new(body);
    while let Some(field) = message.next_field()? {
        if field.number == 5 {
            walk.series(field.message()?, &mut request)?;
        }
    }
    Ok(request)
}

struct SeriesWalk {
    hasher: KeyHasher,
    /// Hash of each symbol's content: references mean something else in each request.
    symbol_keys: Vec<SeriesKey>,
    spelled: Vec<u8>,
}

impl SeriesWalk {
    fn series<'a>(&mut self, mut message: Walker<'a>, request: &mut Request<'a>) -> Result<(), WireError> {
        let starts = (request.samples.len(), request.histograms.len(), request.exemplars.len());
        let refs_start = request.refs.len() as u32;
        let (mut metadata, mut created) = (None, 0);
        while let Some(field) = message.next_field()? {
            match field.number {
                1 => field.uint32s(&mut request.refs)?,
                2 => request.push_sample(sample(field.message()?)?)?,
                3 => request.push_histogram(histogram::walk(field.message()?)?)?,
                4 => {
                    let slot = exemplar(field.message()?, &mut request.exemplar_refs)?;
                    request.push_exemplar(slot)?;
                }
                5 => metadata = Some(metadata_refs(field.message()?)?),
                6 => created = field.int64()?,
                _ => {}
            }
        }
        let refs = refs_start..request.refs.len() as u32;
        if created != 0 {
            set_missing_starts(created, &mut request.samples[starts.0..], |s| &mut s.start);
            set_missing_starts(created, &mut request.histograms[starts.1..], |h| &mut h.start);
        }
        let slot = SeriesSlot {
            labels: LabelSource::Refs(refs.clone()),
            samples: starts.0 as u32..request.samples.len() as u32,
            histograms: starts.1 as u32..request.histograms.len() as u32,
            exemplars: starts.2 as u32..request.exemplars.len() as u32,
            metadata,
        };
        let key = self.key(&request.refs[refs.start as usize..refs.end as usize]);
        request.push_series(key, slot)
    }

    /// Hash of the contents that the references point to. A reference to nowhere counts as nothing
    /// here; the series is refused when its labels are built, and its key is never remembered.
    fn key(&mut self, refs: &[u32]) -> SeriesKey {
        self.spelled.clear();
        for &reference in refs {
            let key = self.symbol_keys.get(reference as usize).map_or(u128::MAX, |k| k.0);
            self.spelled.extend_from_slice(&key.to_le_bytes());
        }
        self.hasher.hash(&self.spelled)
    }
}

fn set_missing_starts<T>(created: Timestamp, items: &mut [T], start: impl Fn(&mut T) -> &mut Timestamp) {
    for item in items {
        let start = start(item);
        if *start == 0 {
            *start = created;
        }
    }
}

fn sample(mut message: Walker<'_>) -> Result<Sample, WireError> {
    let mut sample = Sample { start: 0, t: 0, v: 0.0 };
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => sample.v = field.double()?,
            2 => sample.t = field.int64()?,
            3 => sample.start = field.int64()?,
            _ => {}
        }
    }
    Ok(sample)
}

fn exemplar<'a>(mut message: Walker<'a>, refs: &mut Vec<u32>) -> Result<ExemplarSlot<'a>, WireError> {
    let begin = refs.len() as u32;
    let (mut value, mut t) = (0.0, 0);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => field.uint32s(refs)?,
            2 => value = field.double()?,
            3 => t = field.int64()?,
            _ => {}
        }
    }
    Ok(ExemplarSlot { labels: LabelSource::ExemplarRefs(begin..refs.len() as u32), value, t })
}

fn metadata_refs(mut message: Walker<'_>) -> Result<MetadataRefs, WireError> {
    let mut refs = MetadataRefs::default();
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => refs.metric_type = field.varint()?.min(255) as u8,
            3 => refs.help = field.uint32()?,
            4 => refs.unit = field.uint32()?,
            _ => {}
        }
    }
    Ok(refs)
}
