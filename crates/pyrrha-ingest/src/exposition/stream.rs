//! OpenMetrics text line by line, for files that do not fit in memory.

use std::collections::BTreeMap;

use pyrrha_model::Metadata;

use super::{ExposedSample, ExpositionError, Format, describe, line};

/// Reads a text that is to be stored as history: every sample has a time, and `# EOF` ends it.
/// Memory is that of the metadata.
#[derive(Debug, Default)]
pub struct OpenMetricsLines {
    line: usize,
    ended: bool,
    metadata: BTreeMap<String, Metadata>,
}

impl OpenMetricsLines {
    /// Takes the next line, without its end; gives its sample if it has one.
    pub fn take(&mut self, raw: &[u8]) -> Result<Option<ExposedSample>, ExpositionError> {
        self.line += 1;
        let fault = |message: String| ExpositionError { line: self.line, message };
        let raw =
            std::str::from_utf8(raw).map_err(|e| fault(format!("not UTF-8 at byte {}", e.valid_up_to())))?;
        let text = raw.trim_matches([' ', '\t', '\r']);
        if text.is_empty() {
            return Ok(None);
        }
        if self.ended {
            return Err(fault("text after # EOF".to_owned()));
        }
        if let Some(comment) = text.strip_prefix('#') {
            if comment.trim() == "EOF" {
                self.ended = true;
            } else {
                describe(comment, &mut self.metadata).map_err(fault)?;
            }
            return Ok(None);
        }
        let sample = line::sample(text, Format::OpenMetrics).map_err(fault)?;
        if sample.timestamp.is_none() {
            return Err(fault(format!("sample has no timestamp: {}", sample.labels)));
        }
        Ok(Some(sample))
    }

    /// Ends the text; fails if it was cut short. Gives the metadata that it had.
    pub fn finish(self) -> Result<BTreeMap<String, Metadata>, ExpositionError> {
        if self.ended {
            return Ok(self.metadata);
        }
        let message = "text does not end with # EOF: it may be cut short".to_owned();
        Err(ExpositionError { line: self.line + 1, message })
    }

    /// Lines taken so far.
    pub fn lines(&self) -> usize {
        self.line
    }
}
