//! Every index against the simplest oracle: testing each series with each matcher.

use std::collections::BTreeSet;

use proptest::prelude::*;
use pyrrha_model::Labels;

use super::*;
use crate::{MemIndex, MemPostings, SymbolPool};

const NAMES: [&str; 4] = ["__name__", "job", "instance", "zone"];
const VALUES: [&str; 8] = ["", "a", "b", "ab", "abc", "c", "a|b", "ü"];
const EXPRESSIONS: [&str; 18] = [
    "", ".*", ".+", "a", "a|b", "a|", "a.*", "ab?", "(a|b)c?", "a+", "[^a]", "b|c|zz", "ab.+", "a*", "x.*",
    "|", "()", "a\\|b",
];

pub(crate) fn any_series() -> impl Strategy<Value = Vec<Labels>> {
    let labels = prop::collection::vec((prop::sample::select(&NAMES), prop::sample::select(&VALUES)), 1..5);
    prop::collection::btree_set(labels.prop_map(Labels::from_pairs), 0..40)
        .prop_map(|set| set.into_iter().filter(|l| !l.is_empty()).collect())
}

pub(crate) fn any_matchers() -> impl Strategy<Value = Vec<Matcher>> {
    let name = prop::sample::select(&["__name__", "job", "instance", "zone", "none"][..]);
    let literal =
        (prop::sample::select(&[MatchOp::Equal, MatchOp::NotEqual][..]), prop::sample::select(&VALUES[..]));
    let regex = (
        prop::sample::select(&[MatchOp::Regex, MatchOp::NotRegex][..]),
        prop::sample::select(&EXPRESSIONS[..]),
    );
    let matcher = (name, prop_oneof![literal, regex])
        .prop_map(|(name, (op, value))| Matcher::new(op, name, value).expect("a valid expression"));
    prop::collection::vec(matcher, 0..4)
}

/// Checks every question that an index answers; `reference` gives the index's reference of the
/// n-th series.
pub(crate) fn agree(index: &impl LabelIndex, series: &[Labels], references: &[u32], matchers: &[Matcher]) {
    let cancel = CancelToken::default();
    let chosen = |l: &&Labels| matchers.iter().all(|m| m.matches(l.get(&m.name).unwrap_or("")));
    let expected: BTreeSet<u32> =
        series.iter().zip(references).filter(|(l, _)| chosen(l)).map(|(_, &r)| r).collect();
    let found = postings_for_matchers(index, matchers, &cancel).expect("a sound index");
    assert_eq!(found.iter().collect::<BTreeSet<_>>(), expected, "{matchers:?}");

    let names: BTreeSet<&str> = series.iter().filter(chosen).flatten().map(|l| l.name.as_str()).collect();
    let found = label_names(index, matchers, 0, &cancel).expect("a sound index");
    assert_eq!(found, names.iter().copied().collect::<Vec<_>>(), "names {matchers:?}");
    let found = label_names(index, matchers, 2, &cancel).expect("a sound index");
    assert_eq!(found, names.into_iter().take(2).collect::<Vec<_>>());
    for name in NAMES.iter().chain(&["none"]) {
        let values: BTreeSet<&str> = series.iter().filter(chosen).filter_map(|l| l.get(name)).collect();
        let found = label_values(index, name, matchers, 0, &cancel).expect("a sound index");
        assert_eq!(found, values.iter().copied().collect::<Vec<_>>(), "values of {name} {matchers:?}");
        let found = label_values(index, name, matchers, 1, &cancel).expect("a sound index");
        assert_eq!(found, values.into_iter().take(1).collect::<Vec<_>>());
    }
}

fn insert(symbols: &mut SymbolPool, postings: &mut MemPostings, series: u32, labels: &Labels) {
    postings.insert(series, &ids(symbols, labels));
}

fn ids(symbols: &mut SymbolPool, labels: &Labels) -> Vec<(u32, u32)> {
    labels.iter().map(|l| (symbols.intern(&l.name), symbols.intern(&l.value))).collect()
}

proptest! {
    #[test]
    fn the_head_index_agrees_with_the_oracle(series in any_series(), matchers in any_matchers()) {
        let (mut symbols, mut postings) = (SymbolPool::new(), MemPostings::new());
        for (i, labels) in series.iter().enumerate() {
            insert(&mut symbols, &mut postings, i as u32 * 3, labels);
        }
        let references: Vec<u32> = (0..series.len() as u32).map(|i| i * 3).collect();
        agree(&MemIndex { symbols: &symbols, postings: &postings }, &series, &references, &matchers);
    }

    #[test]
    fn removed_series_are_gone(series in any_series(), matchers in any_matchers(), step in 1u32..4) {
        let (mut symbols, mut postings) = (SymbolPool::new(), MemPostings::new());
        let (mut dead, mut pairs) = (RoaringBitmap::new(), Vec::new());
        let (mut left, mut references) = (Vec::new(), Vec::new());
        for (i, labels) in series.iter().enumerate() {
            let i = i as u32;
            insert(&mut symbols, &mut postings, i, labels);
            if i.is_multiple_of(step) {
                dead.insert(i);
                pairs.extend(ids(&mut symbols, labels));
            } else {
                left.push(labels.clone());
                references.push(i);
            }
        }
        postings.remove(&dead, pairs);
        let live: std::collections::HashSet<u32> =
            postings.pairs().flat_map(|((n, v), _)| [n, v]).collect();
        symbols.sweep(|id| live.contains(&id));
        agree(&MemIndex { symbols: &symbols, postings: &postings }, &left, &references, &matchers);
    }
}

#[test]
fn a_cancelled_query_stops() {
    let (mut symbols, mut postings) = (SymbolPool::new(), MemPostings::new());
    for i in 0..3000 {
        insert(&mut symbols, &mut postings, i, &Labels::from_pairs([("a", i.to_string())]));
    }
    let cancel = CancelToken::default();
    cancel.cancel(pyrrha_model::contract::CancelReason::TimedOut);
    let matcher = Matcher::new(MatchOp::Regex, "a", ".*9").expect("a valid expression");
    let index = MemIndex { symbols: &symbols, postings: &postings };
    let error = postings_for_matchers(&index, &[matcher], &cancel).expect_err("stopped");
    assert_eq!(error.kind(), pyrrha_model::ErrorKind::Timeout);
}
