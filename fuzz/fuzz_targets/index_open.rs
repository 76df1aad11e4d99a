//! Any bytes as an index file with valid checksums: no panic, whatever is asked of it.
//!
//! Input: `version u8 | part by TOC field, 6 × u8 | parts: { kind u8 | len u8 | data }`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyrrha_encoding::crc;
use pyrrha_encoding::varint::put_uvarint;
use pyrrha_index::{IndexError, IndexReader, LabelIndex, SeriesRow};
use pyrrha_index::{label_names, label_values, postings_for_matchers};
use pyrrha_model::{MatchOp, Matcher};

fuzz_target!(|input: &[u8]| {
    let [version, fields @ ..] = input else { return };
    let Some((fields, parts)) = fields.split_first_chunk::<6>() else { return };
    let _ = ask(framed(version % 3 + 1, fields, parts));
    let _ = ask(input.to_vec());
});

/// Sections and series entries with right checksums, and a TOC that points at some of them.
fn framed(version: u8, fields: &[u8; 6], mut input: &[u8]) -> Vec<u8> {
    let mut file = vec![0xBA, 0xAA, 0xD7, 0x00, version];
    let mut starts = vec![0u64];
    while let [kind, len, rest @ ..] = input {
        let (part, next) = rest.split_at(usize::from(*len).min(rest.len()));
        input = next;
        if kind % 2 == 0 {
            file.resize(file.len().next_multiple_of(16), 0);
            starts.push(file.len() as u64);
            put_uvarint(&mut file, part.len() as u64);
            file.extend_from_slice(part);
            file.extend_from_slice(&crc::checksum(part).to_be_bytes());
        } else {
            starts.push(file.len() as u64);
            crc::put_section(&mut file, part);
        }
    }
    let toc: Vec<u8> =
        fields.iter().flat_map(|&f| starts[usize::from(f) % starts.len()].to_be_bytes()).collect();
    file.extend_from_slice(&toc);
    file.extend_from_slice(&crc::checksum(&toc).to_be_bytes());
    file
}

fn ask(file: Vec<u8>) -> Result<(), IndexError> {
    let index = IndexReader::open(file.into())?;
    let cancel = Default::default();
    let mut row = SeriesRow::default();
    for series in &index.all()?.to_bitmap() {
        if index.series(series, &mut row).is_ok() {
            for &(name, value) in &row.labels {
                let _ = (index.symbol(name), index.symbol(value));
            }
        }
    }
    for name in label_names(&index, &[], 0, &cancel)? {
        let values = label_values(&index, &name, &[], 0, &cancel)?;
        assert!(values.is_sorted());
        for (op, value) in [(MatchOp::Equal, "a"), (MatchOp::NotEqual, "a"), (MatchOp::Regex, "a.*|b")] {
            let matcher = Matcher::new(op, name.as_str(), value).expect("a valid expression");
            let _ = postings_for_matchers(&index, &[matcher.clone()], &cancel);
            let _ = label_names(&index, &[matcher.clone()], 0, &cancel);
            let _ = label_values(&index, &name, &[matcher], 0, &cancel);
        }
    }
    Ok(())
}
