//! Written indexes read back, agree with the oracle, and survive damage.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use pyrrha_encoding::varint::put_uvarint;
use pyrrha_env::Disk;
use pyrrha_model::Labels;
use pyrrha_testkit::SimDisk;

use super::*;
use crate::select::tests::{agree, any_matchers, any_series};
use crate::{IndexReader, IndexWriter, KnownLists, LabelIndex, SortedSymbols};

fn chunks_of(i: usize) -> Vec<ChunkMeta> {
    let start = i as i64 * 7 - 50;
    (0..i % 4)
        .map(|c| ChunkMeta {
            min_time: start + c as i64 * 100,
            max_time: start + c as i64 * 100 + 99 - (c as i64 % 2),
            reference: (i * 10 + c) as u64 + ((i as u64 / 20) << 32),
        })
        .collect()
}

pub(super) fn write(series: &[Labels]) -> Bytes {
    let disk = SimDisk::new(1);
    let path = Path::new("/index");
    let symbols: SortedSymbols =
        series.iter().flatten().flat_map(|l| [l.name.as_str(), l.value.as_str()]).collect();
    let mut writer = IndexWriter::new(disk.create_new(path).expect("a file"), symbols).expect("symbols");
    for (i, labels) in series.iter().enumerate() {
        let ordinal = |text| writer.symbols().lookup(text).expect("a known symbol");
        let ids: Vec<(u32, u32)> = labels.iter().map(|l| (ordinal(&l.name), ordinal(&l.value))).collect();
        writer.add_series(&ids, &chunks_of(i)).expect("in order");
    }
    let stats = writer.finish().expect("no disk fault");
    let bytes = disk.read(path).expect("the file");
    assert_eq!((stats.series, stats.bytes), (series.len() as u64, bytes.len() as u64));
    bytes
}

fn labels_of(index: &IndexReader, row: &SeriesRow) -> Labels {
    let text = |s| index.symbol(s).expect("a known symbol").to_owned();
    Labels::from_pairs(row.labels.iter().map(|&(n, v)| (text(n), text(v))))
}

/// Fetches what `ask` finds missing until it misses nothing.
fn by_ranges<T>(
    file: &Bytes,
    lists: &mut KnownLists<'_>,
    ask: impl Fn(&KnownLists<'_>) -> Result<T, IndexError>,
) -> Result<T, IndexError> {
    // Each round brings at least one list nearer; a list takes two rounds at most.
    for _ in 0..10_000 {
        let answer = ask(lists)?;
        let wanted = lists.take_wanted();
        if wanted.is_empty() {
            return Ok(answer);
        }
        for range in wanted {
            let end = (range.end as usize).min(file.len());
            let bytes = file.slice((range.start as usize).min(end)..end);
            lists.add(&range, &bytes)?;
        }
    }
    panic!("no end of fetching");
}

fn header(file: &Bytes) -> Result<IndexHeader, IndexError> {
    let len = file.len() as u64;
    let layout = HeaderLayout::read(&file[file.len().saturating_sub(TOC_LEN)..], len)?;
    let part = |r: &std::ops::Range<u64>| &file[r.start as usize..r.end as usize];
    IndexHeader::open(&[part(&layout.head), part(&layout.tail)].concat().into(), len)
}

/// Reads a series with ever longer ranges.
fn series_by_ranges(
    file: &Bytes,
    header: &IndexHeader,
    series: u32,
    row: &mut SeriesRow,
) -> Result<(), IndexError> {
    let mut len = 1;
    loop {
        let range = header.series_range(series, len)?;
        match header.decode_series(series, &file[range.start as usize..range.end as usize], row)? {
            None => return Ok(()),
            Some(needed) => {
                assert!(needed > len, "{needed} {len}");
                len = needed;
            }
        }
    }
}

/// Matching series, label names, values of `job`.
type Answers = (Vec<u32>, Vec<String>, Vec<String>);

/// As [`exercise`], reading by ranges.
fn exercise_ranges(file: &Bytes, matchers: &[pyrrha_model::Matcher]) -> Result<Answers, IndexError> {
    let header = header(file)?;
    let cancel = Default::default();
    let mut lists = KnownLists::new(&header);
    lists.want_each(matchers, &cancel)?;
    let found = by_ranges(file, &mut lists, |l| crate::postings_for_matchers(l, matchers, &cancel))?;
    let names = by_ranges(file, &mut lists, |l| crate::label_names(l, matchers, 0, &cancel))?;
    let values = by_ranges(file, &mut lists, |l| crate::label_values(l, "job", matchers, 0, &cancel))?;
    let mut row = SeriesRow::default();
    for series in &found {
        series_by_ranges(file, &header, series, &mut row)?;
        for &(name, value) in &row.labels {
            header.symbol(name)?;
            header.symbol(value)?;
        }
    }
    Ok((found.iter().collect(), names, values))
}

/// Asks everything of a file, sound or not.
fn exercise(file: Bytes, matchers: &[pyrrha_model::Matcher]) -> Result<(), IndexError> {
    let index = IndexReader::open(file)?;
    let cancel = Default::default();
    let mut row = SeriesRow::default();
    for series in &index.all()?.to_bitmap() {
        index.series(series, &mut row)?;
        for &(name, value) in &row.labels {
            index.symbol(name)?;
            index.symbol(value)?;
        }
    }
    crate::postings_for_matchers(&index, matchers, &cancel)?;
    crate::label_names(&index, matchers, 0, &cancel)?;
    crate::label_values(&index, "job", matchers, 0, &cancel)?;
    Ok(())
}

proptest! {
    #[test]
    fn the_file_agrees_with_the_oracle(series in any_series(), matchers in any_matchers()) {
        let index = IndexReader::open(write(&series)).expect("a sound file");
        let references: Vec<u32> = index.all().expect("sound").to_bitmap().iter().collect();
        prop_assert_eq!(references.len(), series.len());
        let mut row = SeriesRow::default();
        for (i, (labels, &reference)) in series.iter().zip(&references).enumerate() {
            index.series(reference, &mut row).expect("sound");
            prop_assert_eq!(&labels_of(&index, &row), labels);
            prop_assert_eq!(&row.chunks, &chunks_of(i));
        }
        agree(&index, &series, &references, &matchers);
    }

    #[test]
    fn reading_by_ranges_is_reading(series in any_series(), matchers in any_matchers()) {
        let file = write(&series);
        let index = IndexReader::open(file.clone()).expect("a sound file");
        let cancel = Default::default();
        let found = crate::postings_for_matchers(&index, &matchers, &cancel).expect("sound");
        let expected = (
            found.iter().collect(),
            crate::label_names(&index, &matchers, 0, &cancel).expect("sound"),
            crate::label_values(&index, "job", &matchers, 0, &cancel).expect("sound"),
        );
        prop_assert_eq!(exercise_ranges(&file, &matchers).expect("sound"), expected);
        let header = header(&file).expect("sound");
        let (mut a, mut b) = (SeriesRow::default(), SeriesRow::default());
        for series in &found {
            index.series(series, &mut a).expect("sound");
            series_by_ranges(&file, &header, series, &mut b).expect("sound");
            prop_assert_eq!(&a, &b);
        }
    }

    #[test]
    fn any_damage_is_an_error_or_harmless(
        series in any_series(),
        matchers in any_matchers(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = write(&series).to_vec();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= byte }
        let bytes: Bytes = bytes.into();
        let _ = exercise(bytes.clone(), &matchers);
        let _ = exercise_ranges(&bytes, &matchers);
    }

    #[test]
    fn noise_with_valid_checksums_does_not_panic(
        parts in prop::collection::vec((0u8..3, prop::collection::vec(small_byte(), 0..40)), 1..8),
        sections in prop::array::uniform6(any::<prop::sample::Index>()),
        version in 1u8..4,
        matchers in any_matchers(),
    ) {
        let file = framed(version, &parts, sections);
        let _ = exercise(file.clone(), &matchers);
        let _ = exercise_ranges(&file, &matchers);
    }
}

/// Bytes that make counts, lengths and references likely to mean something.
fn small_byte() -> impl Strategy<Value = u8> {
    prop_oneof![8 => 0u8..6, 1 => any::<u8>(), 1 => Just(b'a')]
}

/// A file whose parts have valid checksums and whose TOC points at parts.
fn framed(version: u8, parts: &[(u8, Vec<u8>)], sections: [prop::sample::Index; 6]) -> Bytes {
    let mut bytes = MAGIC.to_be_bytes().to_vec();
    bytes.push(version);
    let mut starts = vec![0];
    for (kind, part) in parts {
        if *kind == 0 {
            bytes.resize(bytes.len().next_multiple_of(16), 0);
        }
        starts.push(bytes.len() as u64);
        if *kind == 0 {
            put_uvarint(&mut bytes, part.len() as u64);
            bytes.extend_from_slice(part);
            bytes.extend_from_slice(&crc::checksum(part).to_be_bytes());
        } else {
            // A count that may fit, then noise.
            let body = [&[0, 0, 0][..], part].concat();
            crc::put_section(&mut bytes, &body);
        }
    }
    let [symbols, series, label_indices, label_indices_table, postings, postings_table] =
        sections.map(|s| starts[s.index(starts.len())]);
    let toc = Toc { symbols, series, label_indices, label_indices_table, postings, postings_table };
    bytes.extend(toc.encode());
    bytes.into()
}

#[test]
fn a_flipped_bit_in_a_checked_part_is_found() {
    let series: Vec<Labels> = (0..200)
        .map(|i| Labels::from_pairs([("a", format!("{i:04}")), ("b", format!("{}", i % 3))]))
        .collect();
    let sound = write(&series);
    assert!(exercise(sound.clone(), &[]).is_ok());
    let toc = Toc::read(&sound).expect("sound");
    for offset in [toc.symbols + 20, toc.series + 5, toc.postings + 9, toc.postings_table + 50] {
        let mut bytes = sound.to_vec();
        bytes[offset as usize] ^= 4;
        let error = exercise(bytes.into(), &[]).expect_err("damage is found");
        assert_eq!(error.kind(), pyrrha_model::ErrorKind::Corrupt, "offset={offset}");
    }
}

#[test]
fn many_values_are_found_through_the_samples() {
    let series: Vec<Labels> = (0..500).map(|i| Labels::from_pairs([("a", format!("{i:04}"))])).collect();
    let index = IndexReader::open(write(&series)).expect("a sound file");
    for labels in &series {
        let value = labels.get("a").expect("it has one");
        assert_eq!(index.postings("a", value).expect("sound").len(), 1, "{value}");
    }
    for absent in ["", "0000x", "9", "zz"] {
        assert!(index.postings("a", absent).expect("sound").is_empty());
    }
    let mut found = Vec::new();
    index.postings_where("a", "01", &mut |_| Ok(true), &mut found).expect("sound");
    assert_eq!(found.len(), 100);
}

/// The same content as a file of version 1: references are byte offsets, the offset table is in no
/// order, and the label indices are there.
fn write_first_version(series: &[Labels]) -> (Bytes, Vec<u32>) {
    let mut file = MAGIC.to_be_bytes().to_vec();
    file.push(1);
    let mut toc = Toc { symbols: file.len() as u64, ..Toc::default() };
    let symbols: BTreeSet<&str> =
        series.iter().flatten().flat_map(|l| [l.name.as_str(), l.value.as_str()]).collect();
    let mut body = (symbols.len() as u32).to_be_bytes().to_vec();
    let mut offsets = BTreeMap::new();
    for symbol in symbols {
        offsets.insert(symbol, (file.len() + 4 + body.len()) as u64);
        put_uvarint(&mut body, symbol.len() as u64);
        body.extend_from_slice(symbol.as_bytes());
    }
    crc::put_section(&mut file, &body);
    toc.series = file.len() as u64;
    let mut lists: BTreeMap<(&str, &str), Vec<u32>> = BTreeMap::from([(("", ""), Vec::new())]);
    for labels in series {
        let reference = file.len() as u32;
        let mut entry = Vec::new();
        put_uvarint(&mut entry, labels.len() as u64);
        lists.entry(("", "")).or_default().push(reference);
        for label in labels {
            put_uvarint(&mut entry, offsets[label.name.as_str()]);
            put_uvarint(&mut entry, offsets[label.value.as_str()]);
            lists.entry((&label.name, &label.value)).or_default().push(reference);
        }
        entry.push(0);
        put_uvarint(&mut file, entry.len() as u64);
        file.extend_from_slice(&entry);
        file.extend_from_slice(&crc::checksum(&entry).to_be_bytes());
    }
    toc.label_indices = file.len() as u64;
    crc::put_section(&mut file, b"skipped by readers");
    toc.postings = file.len() as u64;
    let mut table = (lists.len() as u32).to_be_bytes().to_vec();
    // From the last to the first: any order is allowed.
    for ((name, value), list) in lists.iter().rev() {
        table.push(2);
        for text in [name, value] {
            put_uvarint(&mut table, text.len() as u64);
            table.extend_from_slice(text.as_bytes());
        }
        put_uvarint(&mut table, file.len() as u64);
        let count = (list.len() as u32).to_be_bytes();
        let entries = list.iter().flat_map(|s| s.to_be_bytes());
        crc::put_section(&mut file, &count.into_iter().chain(entries).collect::<Vec<u8>>());
    }
    toc.label_indices_table = file.len() as u64;
    toc.postings_table = file.len() as u64;
    crc::put_section(&mut file, &table);
    file.extend(toc.encode());
    (file.into(), lists[&("", "")].clone())
}

proptest! {
    #[test]
    fn the_first_version_agrees_with_the_oracle(series in any_series(), matchers in any_matchers()) {
        let (file, references) = write_first_version(&series);
        let index = IndexReader::open(file).expect("a sound file");
        prop_assert_eq!(index.version(), 1);
        let mut row = SeriesRow::default();
        for (labels, &reference) in series.iter().zip(&references) {
            index.series(reference, &mut row).expect("sound");
            prop_assert_eq!(&labels_of(&index, &row), labels);
        }
        agree(&index, &series, &references, &matchers);
    }

    #[test]
    fn the_third_version_is_read_as_the_second(series in any_series(), matchers in any_matchers()) {
        let mut bytes = write(&series).to_vec();
        bytes[4] = 3;
        let index = IndexReader::open(bytes.into()).expect("a sound file");
        let references: Vec<u32> = index.all().expect("sound").to_bitmap().iter().collect();
        agree(&index, &series, &references, &matchers);
    }
}

#[test]
fn other_formats_are_named() {
    let mut bytes = write(&[]).to_vec();
    bytes[4] = 4;
    let error = IndexReader::open(bytes.into()).expect_err("unknown");
    assert_eq!(error.to_string(), "index has an unknown format: magic=0xbaaad700 version=4");
}

#[test]
fn the_writer_refuses_what_the_format_cannot_hold() {
    let disk = SimDisk::new(1);
    let symbols: SortedSymbols = ["a", "b", "c"].into_iter().collect();
    let mut writer =
        IndexWriter::new(disk.create_new(Path::new("/i")).expect("a file"), symbols).expect("symbols");
    writer.add_series(&[(0, 1)], &chunks_of(3)).expect("in order");
    assert!(writer.add_series(&[(0, 1)], &[]).is_err(), "the same labels again");
    assert!(writer.add_series(&[(0, 3)], &[]).is_err(), "an unknown symbol");
    assert!(writer.add_series(&[(1, 0), (0, 1)], &[]).is_err(), "names out of order");
    let chunk = ChunkMeta { min_time: 5, max_time: 6, reference: 90 };
    assert!(writer.add_series(&[(0, 2)], &[chunk, chunk]).is_err(), "overlapping chunks");
    assert!(writer.add_series(&[(0, 2)], &[ChunkMeta { reference: 95, ..chunk }]).is_ok());
}
