//! `load` and `load_with_nhcb`: series by their descriptions.

use pyrrha_model::time::parse_duration;
use pyrrha_model::{Labels, Timestamp};

use super::{Line, ScriptError};
use crate::nhcb;
use crate::series::{self, SequenceValue, SeriesError, parse_series};
use crate::target::{LoadedSeries, LoadedValue};

/// The samples of a `load`; the first is at time 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Series, each once.
    pub series: Vec<LoadedSeries>,
}

pub(super) fn parse(head: Line<'_>, block: &[Line<'_>]) -> Result<Load, ScriptError> {
    let mut words = head.text.splitn(2, [' ', '\t']);
    let with_nhcb = match words.next().unwrap_or("") {
        "load" => false,
        "load_with_nhcb" => true,
        _ => return Err(head.error("invalid load command, expected \"load <step>\"")),
    };
    let step = parse_duration(words.next().unwrap_or("").trim())
        .map_err(|e| head.error(format!("invalid step definition: {e}")))?;

    let mut series: Vec<LoadedSeries> = Vec::new();
    let mut starts: Option<(Labels, Vec<Option<i64>>, Line<'_>)> = None;
    for line in block {
        let bad = |e: SeriesError| line.error(e.to_string());
        if let Some((labels, offsets)) = start_line(line.text).map_err(bad)? {
            if starts.is_some() {
                return Err(line.error("two @st lines in a row"));
            }
            starts = Some((labels, offsets, *line));
            continue;
        }
        let described = parse_series(line.text).map_err(bad)?;
        let offsets = match starts.take() {
            Some((labels, offsets, _))
                if labels == described.labels && offsets.len() == described.values.len() =>
            {
                offsets
            }
            Some((.., at)) => return Err(at.error("an @st line and the series below it do not fit")),
            None => vec![None; described.values.len()],
        };
        let loaded = LoadedSeries {
            labels: described.labels,
            samples: samples(described.values, &offsets, step)
                .ok_or_else(|| line.error("timestamps out of range"))?,
        };
        // A series that is described twice is what its last line says.
        match series.iter_mut().find(|s| s.labels == loaded.labels) {
            Some(known) => *known = loaded,
            None => series.push(loaded),
        }
    }
    if let Some((.., at)) = starts {
        return Err(at.error("an @st line without a series below it"));
    }
    if with_nhcb {
        let histograms = nhcb::histograms(&series).map_err(|e| head.error(e))?;
        series.extend(histograms);
    }
    Ok(Load { series })
}

/// Series of an `@st` line, and its offsets in ms by position.
type Starts = (Labels, Vec<Option<i64>>);

/// `name{...}@st offsets`, if the line is one.
fn start_line(text: &str) -> Result<Option<Starts>, SeriesError> {
    let (rest, labels) = series::labels(text).map_err(|e| series::failed(text, e, "labels expected"))?;
    match rest.strip_prefix("@st") {
        Some(rest) if rest.is_empty() || rest.starts_with([' ', '\t']) => {
            Ok(Some((labels, series::starts(text, rest)?)))
        }
        _ => Ok(None),
    }
}

fn samples(
    values: Vec<Option<SequenceValue>>,
    offsets: &[Option<i64>],
    step: i64,
) -> Option<Vec<(Timestamp, Timestamp, LoadedValue)>> {
    let mut samples = Vec::new();
    for (i, (value, offset)) in values.into_iter().zip(offsets).enumerate() {
        let Some(value) = value else { continue };
        let t = step.checked_mul(i64::try_from(i).ok()?)?;
        let start = offset.map_or(Some(0), |o| t.checked_add(o))?;
        let value = match value {
            SequenceValue::Float(v) => LoadedValue::Float(v),
            SequenceValue::Histogram(h, _) => LoadedValue::Histogram(h),
        };
        samples.push((start, t, value));
    }
    Some(samples)
}
