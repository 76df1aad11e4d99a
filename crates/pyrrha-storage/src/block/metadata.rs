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
use pyrrha_model::Metadata;

use super::error::{Blame, BlockError};
use super::sidecar::{Kind, Sidecar, SidecarWriter, put_text, take_text};
use crate::metric_type;

pub(super) const KIND: Kind = Kind { file: "metadata", magic: *b"PYMD" };

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
        body.push(metric_type::byte(metadata.metric_type));
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
pub struct MetadataFile(Sidecar);

impl MetadataFile {
    /// Reads a file's content, whoever wrote it; `block` is the block's name, for errors.
    pub fn parse(block: &str, bytes: Bytes) -> Result<Self, BlockError> {
        Sidecar::parse(block, bytes, KIND).map(Self)
    }

    pub(super) fn open(disk: &dyn Disk, dir: &Path, blame: &Blame) -> Result<Option<Self>, BlockError> {
        Ok(Sidecar::open(disk, dir, blame, KIND)?.map(Self))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.len()
    }

    /// Adds the families that `found` does not have yet; only `metric` if one is named.
    pub fn collect(
        &self,
        metric: Option<&str>,
        found: &mut BTreeMap<String, Metadata>,
    ) -> Result<(), BlockError> {
        for page in self.0.pages() {
            let (offset, page) = page?;
            let damaged = || self.0.damage(offset, "metadata does not decode");
            take_page(page, metric, found).ok_or_else(damaged)?;
        }
        Ok(())
    }
}

fn take_page(mut input: &[u8], metric: Option<&str>, found: &mut BTreeMap<String, Metadata>) -> Option<()> {
    let input = &mut input;
    for _ in 0..take_count(input, 4).ok()? {
        let name = take_text(input)?;
        let metric_type = metric_type::of(take_u8(input).ok()?);
        let (help, unit) = (take_text(input)?, take_text(input)?);
        if metric.is_none_or(|m| m == name) && !found.contains_key(name) {
            let (help, unit) = (help.to_owned(), unit.to_owned());
            found.insert(name.to_owned(), Metadata { metric_type, help, unit });
        }
    }
    input.is_empty().then_some(())
}
