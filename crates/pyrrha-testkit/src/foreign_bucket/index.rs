//! The index of a block, version 2.

use std::collections::{BTreeMap, BTreeSet};

use super::{ForeignSeries, crc32c, uvarint, varint};

/// `len | body | crc32c(body)`
fn section(body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(&crc32c(body).to_be_bytes());
}

fn text(text: &str, out: &mut Vec<u8>) {
    uvarint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// The index of series that are sorted by labels, whose chunks are at these offsets of the first segment.
pub(super) fn index(series: &[ForeignSeries], references: &[Vec<u64>]) -> Vec<u8> {
    let mut out = vec![0xBA, 0xAA, 0xD7, 0x00, 2];
    let symbols: BTreeSet<&str> =
        series.iter().flat_map(|s| &s.labels).flat_map(|(n, v)| [n.as_str(), v.as_str()]).collect();
    let numbers: BTreeMap<&str, u64> = symbols.iter().zip(0..).map(|(&s, i)| (s, i)).collect();
    let symbols_at = out.len() as u64;
    let mut body = (symbols.len() as u32).to_be_bytes().to_vec();
    symbols.iter().for_each(|s| text(s, &mut body));
    section(&body, &mut out);

    let mut postings: BTreeMap<(String, String), Vec<u32>> = BTreeMap::new();
    let mut series_at = 0;
    for (series, references) in series.iter().zip(references) {
        out.resize(out.len().next_multiple_of(16), 0);
        series_at = if series_at == 0 { out.len() as u64 } else { series_at };
        let id = (out.len() / 16) as u32;
        postings.entry(Default::default()).or_default().push(id);
        for label in &series.labels {
            postings.entry(label.clone()).or_default().push(id);
        }
        let content = entry(series, references, &numbers);
        uvarint(content.len() as u64, &mut out);
        out.extend_from_slice(&content);
        out.extend_from_slice(&crc32c(&content).to_be_bytes());
    }

    let (mut postings_at, mut table) = (0, (postings.len() as u32).to_be_bytes().to_vec());
    for ((name, value), ids) in &postings {
        out.resize(out.len().next_multiple_of(4), 0);
        postings_at = if postings_at == 0 { out.len() as u64 } else { postings_at };
        uvarint(2, &mut table);
        text(name, &mut table);
        text(value, &mut table);
        uvarint(out.len() as u64, &mut table);
        let mut body = (ids.len() as u32).to_be_bytes().to_vec();
        ids.iter().for_each(|id| body.extend_from_slice(&id.to_be_bytes()));
        section(&body, &mut out);
    }
    let table_at = out.len() as u64;
    section(&table, &mut out);

    // No label index: both of its places say where the sections after it begin.
    let toc: Vec<u8> = [symbols_at, series_at, postings_at, table_at, postings_at, table_at]
        .iter()
        .flat_map(|at| at.to_be_bytes())
        .collect();
    out.extend_from_slice(&toc);
    out.extend_from_slice(&crc32c(&toc).to_be_bytes());
    out
}

fn entry(series: &ForeignSeries, references: &[u64], numbers: &BTreeMap<&str, u64>) -> Vec<u8> {
    let mut content = Vec::new();
    uvarint(series.labels.len() as u64, &mut content);
    for (name, value) in &series.labels {
        uvarint(numbers[name.as_str()], &mut content);
        uvarint(numbers[value.as_str()], &mut content);
    }
    uvarint(series.chunks.len() as u64, &mut content);
    let mut before: Option<(i64, u64)> = None;
    for (chunk, &reference) in series.chunks.iter().zip(references) {
        let length = (chunk.max_time - chunk.min_time) as u64;
        match before {
            None => {
                varint(chunk.min_time, &mut content);
                uvarint(length, &mut content);
                uvarint(reference, &mut content);
            }
            Some((end, last)) => {
                uvarint((chunk.min_time - end) as u64, &mut content);
                uvarint(length, &mut content);
                varint(reference as i64 - last as i64, &mut content);
            }
        }
        before = Some((chunk.max_time, reference));
    }
    content
}
