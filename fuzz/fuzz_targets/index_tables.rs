//! Any bytes as what is kept beside a sound index, with a right header checksum: no panic, and of answers that
//! differ from those of the index none, unless whoever wrote the file forged its checksums.
//!
//! Input: edits of the sound file, each `{ at u16 | byte u8 }`; odd first bytes make the header's checksum right again.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pyrrha_encoding::crc;
use pyrrha_env::Disk;
use pyrrha_index::{IndexReader, IndexWriter, LabelIndex, SeriesRow, SortedSymbols};
use pyrrha_index::{label_names, label_values, postings_for_matchers};
use pyrrha_model::{MatchOp, Matcher};
use pyrrha_testkit::SimDisk;

/// Bytes of the header before its checksum.
const HEADER: usize = 60;

fuzz_target!(|input: &[u8]| {
    let (index, sound) = files();
    let [forge, edits @ ..] = input else { return };
    let mut kept = sound.to_vec();
    for edit in edits.as_chunks::<3>().0 {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % kept.len();
        kept[at] ^= edit[2];
    }
    let forged = forge % 2 == 1;
    if forged {
        let sum = crc::checksum(&kept[..HEADER]);
        kept[HEADER..HEADER + 4].copy_from_slice(&sum.to_be_bytes());
    }
    let reader = IndexReader::open_with(index.clone(), Some(&kept.into())).expect("the index is sound");
    let found = answers(&reader);
    assert!(forged || found == answers(&IndexReader::open(index.clone()).expect("sound")));
});

/// A sound index, and the file that is kept beside it.
fn files() -> &'static (Bytes, Bytes) {
    static FILES: OnceLock<(Bytes, Bytes)> = OnceLock::new();
    FILES.get_or_init(|| {
        let values: Vec<String> = (0..100).map(|i| format!("value-{i:03}")).collect();
        let symbols: SortedSymbols = values.iter().map(String::as_str).chain(["a", "b"]).collect();
        let disk = SimDisk::new(1);
        let file = disk.create_new(Path::new("/index")).expect("a file");
        let mut writer = IndexWriter::new(file, symbols).expect("symbols");
        for value in 0..100u32 {
            writer.add_series(&[(0, 2 + value), (1, 2 + value % 3)], &[]).expect("in order");
        }
        writer.finish().expect("no fault");
        let index = disk.read(Path::new("/index")).expect("a file");
        let reader = IndexReader::open(index.clone()).expect("sound");
        (index, reader.encode_tables().expect("sound").expect("version 2").into())
    })
}

fn answers(index: &IndexReader) -> Vec<String> {
    let cancel = Default::default();
    let mut found = vec![format!("{:?}", label_names(index, &[], 0, &cancel).ok())];
    for name in ["a", "b", "c"] {
        found.push(format!("{:?}", label_values(index, name, &[], 0, &cancel).ok()));
        for (op, value) in
            [(MatchOp::Equal, "value-001"), (MatchOp::Regex, "value-0.*"), (MatchOp::Regex, ".*7.*")]
        {
            let matcher = Matcher::new(op, name, value).expect("a valid expression");
            found.push(format!("{:?}", postings_for_matchers(index, &[matcher], &cancel).ok()));
        }
    }
    let mut row = SeriesRow::default();
    for series in &index.all().map(|all| all.to_bitmap()).unwrap_or_default() {
        if index.series(series, &mut row).is_ok() {
            for &(name, value) in &row.labels {
                found.push(format!("{:?} {:?}", index.symbol(name).ok(), index.symbol(value).ok()));
            }
        }
    }
    found
}
