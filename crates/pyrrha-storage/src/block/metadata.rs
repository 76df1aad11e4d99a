//! `metadata`: type, help and unit of the metric families that were known when a block was made, as a
//! file beside the standard parts.
//!
//! ```text
//! page: families: n, n × (name, type u8, help, unit)
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use pyrrha_encoding::varint::{put_uvarint, take_count, take_u8};
use pyrrha_env::Disk;
use pyrrha_model::{Metadata, MetricType};

use super::error::{Blame, BlockError};
use super::sidecar::{Kind, Sidecar, SidecarWriter, put_text, take_text};

pub(super) const KIND: Kind = Kind { file: "metadata", magic: *b"PYMD" };

/// In the order of their bytes.
const TYPES: [MetricType; 8] = [
    MetricType::Unknown,
    MetricType::Counter,
    MetricType::Gauge,
    MetricType::Histogram,
    MetricType::GaugeHistogram,
    MetricType::Summary,
    MetricType::Info,
    MetricType::StateSet,
];

/// Writes the file and syncs it; without families there is none.
pub(super) fn write<'a>(
    disk: &dyn Disk,
    dir: &Path,
    blame: &Blame,
    families: impl Iterator<Item = (&'a str, &'a Metadata)>,
) -> Result<(), BlockError> {
    let mut out = SidecarWriter::new(disk, dir, blame, KIND);
    let (mut count, mut body) = (0u64, Vec::new());
    for (name, metadata) in families {
        put_text(&mut body, name);
        let byte = TYPES.iter().position(|t| *t == metadata.metric_type).unwrap_or(0);
        body.push(byte as u8);
        put_text(&mut body, &metadata.help);
        put_text(&mut body, &metadata.unit);
        count += 1;
        out.summary.entries += 1;
        if SidecarWriter::is_full(body.len()) {
            flush(&mut out, &mut count, &mut body)?;
        }
    }
    flush(&mut out, &mut count, &mut body)?;
    out.finish()?;
    Ok(())
}

fn flush(out: &mut SidecarWriter<'_>, count: &mut u64, body: &mut Vec<u8>) -> Result<(), BlockError> {
    if *count == 0 {
        return Ok(());
    }
    let mut page = Vec::with_capacity(body.len() + 10);
    put_uvarint(&mut page, std::mem::take(count));
    page.append(body);
    out.page(&page)
}

/// An open file of metadata. Pages are verified when they are read.
#[derive(Debug)]
pub struct MetadataFile {
    sidecar: Sidecar,
    blame: Blame,
}

impl MetadataFile {
    /// Reads a file's content, whoever wrote it; `block` is the block's name, for errors.
    pub fn parse(block: &str, bytes: Bytes) -> Result<Self, BlockError> {
        let blame = Blame::new(block.as_ref());
        Ok(Self { sidecar: Sidecar::of(bytes, &blame, KIND)?, blame })
    }

    pub(super) fn open(disk: &dyn Disk, dir: &Path, blame: &Blame) -> Result<Option<Self>, BlockError> {
        let sidecar = Sidecar::open(disk, dir, blame, KIND)?;
        Ok(sidecar.map(|sidecar| Self { sidecar, blame: blame.clone() }))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.sidecar.len()
    }

    /// Adds the families that `found` does not have yet; only `metric` if one is named.
    pub fn collect(
        &self,
        metric: Option<&str>,
        found: &mut BTreeMap<String, Metadata>,
    ) -> Result<(), BlockError> {
        let mut pages = self.sidecar.pages();
        while let Some(page) = pages.next(&self.blame) {
            let (offset, page) = page?;
            let damaged = || self.sidecar.damage(&self.blame, offset, "metadata does not decode");
            take_page(page, metric, found).ok_or_else(damaged)?;
        }
        Ok(())
    }
}

fn take_page(mut input: &[u8], metric: Option<&str>, found: &mut BTreeMap<String, Metadata>) -> Option<()> {
    let input = &mut input;
    for _ in 0..take_count(input, 4).ok()? {
        let name = take_text(input)?;
        // A type of a later version is one that this version does not know.
        let metric_type = TYPES.get(usize::from(take_u8(input).ok()?)).copied().unwrap_or_default();
        let (help, unit) = (take_text(input)?, take_text(input)?);
        if metric.is_none_or(|m| m == name) && !found.contains_key(name) {
            let (help, unit) = (help.to_owned(), unit.to_owned());
            found.insert(name.to_owned(), Metadata { metric_type, help, unit });
        }
    }
    input.is_empty().then_some(())
}
