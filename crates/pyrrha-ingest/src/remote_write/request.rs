//! A decoded request: flat columns that borrow from the body.

use std::ops::Range;

use pyrrha_model::contract::{SeriesKey, Value};
use pyrrha_model::{Labels, Metadata, Timestamp};

use super::wire::WireError;
use crate::IngestLimits;
use crate::series_labels;

/// Everything a request holds, as columns; each series owns a run of each.
#[derive(Debug, Default)]
pub(crate) struct Request<'a> {
    pub series: Vec<SeriesSlot<'a>>,
    /// One key per series, for the batched lookup.
    pub keys: Vec<SeriesKey>,
    pub samples: Vec<Sample>,
    pub histograms: Vec<HistogramSample>,
    pub exemplars: Vec<ExemplarSlot<'a>>,
    /// Metadata with the name of its metric family (1.0).
    pub families: Vec<(String, Metadata)>,
    /// 2.0: strings that label references point to.
    pub symbols: Vec<&'a [u8]>,
    /// 2.0: label references of all series.
    pub refs: Vec<u32>,
    /// 2.0: label references of all exemplars.
    pub exemplar_refs: Vec<u32>,
    decoded_bytes: usize,
    decoded_bytes_max: usize,
}

/// One series of the request.
#[derive(Debug)]
pub(crate) struct SeriesSlot<'a> {
    pub labels: LabelSource<'a>,
    pub samples: Range<u32>,
    pub histograms: Range<u32>,
    pub exemplars: Range<u32>,
    /// 2.0: metadata of the series' metric family.
    pub metadata: Option<MetadataRefs>,
}

/// Metadata as 2.0 spells it: texts are references.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MetadataRefs {
    pub metric_type: u8,
    pub help: u32,
    pub unit: u32,
}

/// Where a label set is spelled.
#[derive(Debug, Clone)]
pub(crate) enum LabelSource<'a> {
    /// 1.0: the message whose fields of number 1 are the labels.
    Message(&'a [u8]),
    /// 2.0: a run of the series' references.
    Refs(Range<u32>),
    /// 2.0: a run of the exemplars' references.
    ExemplarRefs(Range<u32>),
}

/// A float sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    pub start: Timestamp,
    pub t: Timestamp,
    pub v: f64,
}

/// A histogram sample.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HistogramSample {
    pub start: Timestamp,
    pub t: Timestamp,
    pub value: Value,
}

/// An exemplar whose labels are not built yet.
#[derive(Debug)]
pub(crate) struct ExemplarSlot<'a> {
    pub labels: LabelSource<'a>,
    pub value: f64,
    pub t: Timestamp,
}

impl<'a> Request<'a> {
    /// An empty request that refuses to grow beyond `decoded_bytes_max`: an empty message of two
    /// bytes on the wire may be a hundred in memory.
    pub(crate) fn new(decoded_bytes_max: usize) -> Self {
        Self { decoded_bytes_max, ..Self::default() }
    }

    pub(crate) fn push_series(&mut self, key: SeriesKey, slot: SeriesSlot<'a>) -> Result<(), WireError> {
        self.charge(size_of::<SeriesSlot<'_>>() + size_of::<SeriesKey>())?;
        self.keys.push(key);
        self.series.push(slot);
        Ok(())
    }

    #[inline]
    pub(crate) fn push_sample(&mut self, sample: Sample) -> Result<(), WireError> {
        self.charge(size_of::<Sample>())?;
        self.samples.push(sample);
        Ok(())
    }

    pub(crate) fn push_histogram(&mut self, sample: HistogramSample) -> Result<(), WireError> {
        // Buckets and spans take about as much memory as their wire bytes; the frame is what blows up.
        self.charge(size_of::<HistogramSample>() + size_of::<pyrrha_model::Histogram>())?;
        self.histograms.push(sample);
        Ok(())
    }

    pub(crate) fn push_exemplar(&mut self, slot: ExemplarSlot<'a>) -> Result<(), WireError> {
        self.charge(size_of::<ExemplarSlot<'_>>())?;
        self.exemplars.push(slot);
        Ok(())
    }

    pub(crate) fn push_family(&mut self, family: (String, Metadata)) -> Result<(), WireError> {
        self.charge(size_of::<(String, Metadata)>())?;
        self.families.push(family);
        Ok(())
    }

    pub(crate) fn push_symbol(&mut self, symbol: &'a [u8]) -> Result<(), WireError> {
        self.charge(size_of::<&[u8]>() + size_of::<SeriesKey>())?;
        self.symbols.push(symbol);
        Ok(())
    }

    #[inline]
    fn charge(&mut self, bytes: usize) -> Result<(), WireError> {
        self.decoded_bytes += bytes;
        if self.decoded_bytes > self.decoded_bytes_max { Err(WireError::TooLarge) } else { Ok(()) }
    }

    /// Builds and checks the labels of a series. The error says what is wrong.
    pub(crate) fn series_labels(
        &self,
        source: &LabelSource<'a>,
        limits: &IngestLimits,
    ) -> Result<Labels, String> {
        match source {
            LabelSource::Message(bytes) => series_labels::build_series(super::v1::labels(bytes), limits),
            LabelSource::Refs(range) => {
                series_labels::build_series(self.ref_pairs(&self.refs, range)?, limits)
            }
            LabelSource::ExemplarRefs(range) => {
                series_labels::build_series(self.ref_pairs(&self.exemplar_refs, range)?, limits)
            }
        }
    }

    /// Builds and checks the labels of an exemplar.
    pub(crate) fn exemplar_labels(
        &self,
        source: &LabelSource<'a>,
        limits: &IngestLimits,
    ) -> Result<Labels, String> {
        match source {
            LabelSource::Message(bytes) => series_labels::build(super::v1::labels(bytes), limits),
            LabelSource::Refs(range) => series_labels::build(self.ref_pairs(&self.refs, range)?, limits),
            LabelSource::ExemplarRefs(range) => {
                series_labels::build(self.ref_pairs(&self.exemplar_refs, range)?, limits)
            }
        }
    }

    /// Metadata with its texts.
    pub(crate) fn metadata(&self, refs: MetadataRefs) -> Result<Metadata, String> {
        let text = |reference| {
            // Reference 0 is the empty string, also in a request without any symbols.
            if reference == 0 {
                return Ok(String::new());
            }
            self.symbol(reference).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        Ok(Metadata {
            metric_type: super::v1::metric_type(u64::from(refs.metric_type)),
            help: text(refs.help)?,
            unit: text(refs.unit)?,
        })
    }

    /// Whether the metadata's references lead somewhere.
    pub(crate) fn metadata_is_sound(&self, slot: &SeriesSlot<'a>) -> bool {
        let symbols = self.symbols.len().max(1);
        slot.metadata.is_none_or(|m| (m.help as usize) < symbols && (m.unit as usize) < symbols)
    }

    /// The metric name that references spell, if it is text.
    pub(crate) fn metric_name(&self, source: &LabelSource<'a>) -> Option<&'a str> {
        let LabelSource::Refs(range) = source else { return None };
        let mut pairs = self.ref_pairs(&self.refs, range).ok()?;
        let (_, name) = pairs.find(|(name, _)| *name == pyrrha_model::METRIC_NAME.as_bytes())?;
        std::str::from_utf8(name).ok()
    }

    /// The string behind a reference.
    pub(crate) fn symbol(&self, reference: u32) -> Result<&'a [u8], String> {
        self.symbols.get(reference as usize).copied().ok_or_else(|| {
            format!("symbol reference {reference} is outside of the {} symbols", self.symbols.len())
        })
    }

    fn ref_pairs<'s>(
        &'s self,
        refs: &'s [u32],
        range: &Range<u32>,
    ) -> Result<impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'s, 'a>, String> {
        let refs = &refs[range.start as usize..range.end as usize];
        let (pairs, rest) = refs.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(format!("odd number of label references ({})", refs.len()));
        }
        for &reference in refs {
            self.symbol(reference)?;
        }
        Ok(pairs.iter().map(|&[n, v]| (self.symbols[n as usize], self.symbols[v as usize])))
    }
}
