//! Tables kept beside an index change no answer, whatever is damaged.

use bytes::Bytes;
use proptest::prelude::*;
use pyrrha_model::{Labels, MatchOp, Matcher};

use super::super::Toc;
use super::super::tests::write;
use crate::select::tests::{any_matchers, any_series};
use crate::{IndexError, IndexReader, LabelIndex, SeriesRow, TablesOrigin};

/// Series with more values and symbols than fit into one group.
fn series() -> Vec<Labels> {
    let labels = |i: u32| {
        let host = format!("host-{i:03}");
        Labels::from_pairs([("host", host), ("job", format!("j{}", i % 3)), ("zone", format!("z{}", i % 40))])
    };
    let mut series: Vec<Labels> = (0..150).map(labels).collect();
    series.sort_unstable();
    series
}

fn kept(index: &Bytes) -> Bytes {
    let walked = IndexReader::open(index.clone()).expect("a sound file");
    walked.encode_tables().expect("sound").expect("version 2").into()
}

/// Everything that the tables have a part in.
fn answers(index: &IndexReader, matchers: &[Matcher]) -> Result<Vec<String>, IndexError> {
    let cancel = Default::default();
    let mut answers = crate::label_names(index, &[], 0, &cancel)?;
    answers.extend(index.label_value_counts()?.map(|(name, count)| format!("{name} {count}")));
    for name in crate::label_names(index, &[], 0, &cancel)? {
        for value in crate::label_values(index, &name, &[], 0, &cancel)? {
            answers.push(format!("{name}={value} {:?}", index.postings(&name, &value)?.to_bitmap()));
        }
        let regex = [Matcher::new(MatchOp::Regex, name.as_str(), "h.*-1.*2|z.*").expect("valid")];
        answers.push(format!("{:?}", crate::postings_for_matchers(index, &regex, &cancel)?));
    }
    answers.push(format!("{:?}", crate::postings_for_matchers(index, matchers, &cancel)?));
    let mut row = SeriesRow::default();
    for series in &index.all()?.to_bitmap() {
        index.series(series, &mut row)?;
        for &(name, value) in &row.labels {
            answers.push(format!("{series} {}={}", index.symbol(name)?, index.symbol(value)?));
        }
    }
    answers.push(format!("{} {}", index.symbol_count(), index.entry_count()?));
    Ok(answers)
}

proptest! {
    #[test]
    fn kept_tables_answer_as_the_index_does(series in any_series(), matchers in any_matchers()) {
        let file = write(&series);
        let walked = IndexReader::open(file.clone()).expect("a sound file");
        let quick = IndexReader::open_with(file.clone(), Some(&kept(&file))).expect("a sound file");
        prop_assert_eq!(quick.tables_origin(), TablesOrigin::Kept);
        prop_assert_eq!(answers(&quick, &matchers).expect("sound"), answers(&walked, &matchers).expect("sound"));
        prop_assert_eq!(quick.tables_origin(), TablesOrigin::Kept);
        prop_assert_eq!(quick.encode_tables().expect("sound"), walked.encode_tables().expect("sound"));
    }
}

#[test]
fn damage_of_any_byte_is_found_and_costs_no_answer() {
    let file = write(&series());
    let (kept, expected) = (kept(&file), answers(&IndexReader::open(file.clone()).expect("sound"), &[]));
    let expected = expected.expect("sound");
    for at in 0..kept.len() {
        let mut bytes = kept.to_vec();
        bytes[at] ^= 1 << (at % 8);
        let index = IndexReader::open_with(file.clone(), Some(&bytes.into())).expect("the index is sound");
        assert_eq!(answers(&index, &[]).expect("the index is sound"), expected, "byte {at}");
        assert_ne!(index.tables_origin(), TablesOrigin::Kept, "byte {at} is not found damaged");
    }
    for len in 0..kept.len() {
        let index = IndexReader::open_with(file.clone(), Some(&kept.slice(..len))).expect("sound");
        assert_eq!(index.tables_origin(), TablesOrigin::Index, "a file of {len} bytes");
    }
    let mut longer = kept.to_vec();
    longer.push(0);
    let index = IndexReader::open_with(file, Some(&longer.into())).expect("sound");
    assert_eq!(index.tables_origin(), TablesOrigin::Index);
}

#[test]
fn damage_of_any_byte_of_the_index_is_found_as_without_kept_tables() {
    let file = write(&series());
    let (kept, expected) = (kept(&file), answers(&IndexReader::open(file.clone()).expect("sound"), &[]));
    let expected = expected.expect("sound");
    // Series entries and lists are read in the same way with and without kept tables.
    let toc = Toc::read(&file).expect("sound");
    let tables = (0..toc.series as usize).chain(toc.postings_table as usize..file.len());
    for at in tables {
        let mut bytes = file.to_vec();
        bytes[at] ^= 1 << (at % 8);
        let bytes = Bytes::from(bytes);
        let open = |kept| IndexReader::open_with(bytes.clone(), kept);
        let ask = |kept| open(kept).and_then(|index| answers(&index, &[]));
        match (ask(Some(&kept)), ask(None)) {
            // Bytes between sections, which nobody reads, and the version, of which 3 is as good as 2.
            (Ok(quick), Ok(walked)) => assert_eq!((&quick, &walked), (&expected, &expected), "byte {at}"),
            (Err(_), Err(_)) => {}
            // The entry of all series is in the kept file too.
            (Ok(quick), Err(_)) => {
                assert_eq!(quick, expected, "byte {at}");
                let verified = open(Some(&kept)).and_then(|index| index.verify_tables());
                assert!(verified.is_err(), "byte {at}");
            }
            (Err(error), Ok(_)) => panic!("byte {at}: {error}"),
        }
    }
}

#[test]
fn tables_of_another_index_are_passed_over() {
    let (file, mut other) = (write(&series()), series());
    other.pop();
    let other = write(&other);
    let index = IndexReader::open_with(file.clone(), Some(&kept(&other))).expect("a sound file");
    assert_eq!(index.tables_origin(), TablesOrigin::Index);
    let walked = IndexReader::open(file).expect("a sound file");
    assert_eq!(answers(&index, &[]).expect("sound"), answers(&walked, &[]).expect("sound"));
}

#[test]
fn an_empty_index_has_tables_too() {
    let file = write(&[]);
    let index = IndexReader::open_with(file.clone(), Some(&kept(&file))).expect("a sound file");
    assert_eq!(index.tables_origin(), TablesOrigin::Kept);
    assert_eq!(
        answers(&index, &[]).expect("sound"),
        answers(&IndexReader::open(file).expect("sound"), &[]).expect("sound")
    );
}
