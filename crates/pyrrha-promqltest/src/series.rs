//! The series-description language: `name{label="value"} 1 2+3x4 _ {{schema:0 sum:1}}`.

mod histogram;
mod labels;
mod starts;
#[cfg(test)]
mod tests;
mod values;

pub(crate) use labels::labels;
pub(crate) use starts::starts;
pub(crate) use values::number;

use nom::error::{Error as NomError, ErrorKind as NomKind};
use pyrrha_model::{FloatHistogram, Labels};

/// Most values that one line may describe.
pub(crate) const MAX_VALUES: usize = 1_000_000;

/// A described value.
#[derive(Debug, Clone, PartialEq)]
pub enum SequenceValue {
    /// A float; `stale` is the stale marker.
    Float(f64),
    /// A native histogram, and whether its counter-reset hint was written.
    Histogram(Box<FloatHistogram>, bool),
}

/// A described series: its labels and, by position, its values; `None` where a value is missing.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesDescription {
    /// Labels, the metric's name among them.
    pub labels: Labels,
    /// Values.
    pub values: Vec<Option<SequenceValue>>,
}

/// Why a line is no series description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} at column={column}")]
pub struct SeriesError {
    /// What is wrong.
    pub message: String,
    /// Byte of the line, from 1.
    pub column: usize,
}

impl SeriesError {
    /// The error of `line`, noticed where `rest` begins.
    fn new(line: &str, rest: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), column: line.len().saturating_sub(rest.len()) + 1 }
    }
}

/// What nom parsers return here.
type Parsed<'a, T> = nom::IResult<&'a str, T>;

fn refuse<T>(at: &str) -> Parsed<'_, T> {
    Err(nom::Err::Error(NomError::new(at, NomKind::Verify)))
}

/// Reads a whole line.
pub fn parse_series(line: &str) -> Result<SeriesDescription, SeriesError> {
    let (rest, labels) = labels(line).map_err(|e| failed(line, e, "labels expected"))?;
    let values = values::values(line, rest)?;
    Ok(SeriesDescription { labels, values })
}

/// The error of a nom parser.
pub(crate) fn failed(line: &str, error: nom::Err<NomError<&str>>, message: &str) -> SeriesError {
    match error {
        nom::Err::Error(e) | nom::Err::Failure(e) => SeriesError::new(line, e.input, message),
        nom::Err::Incomplete(_) => SeriesError::new(line, "", message),
    }
}
