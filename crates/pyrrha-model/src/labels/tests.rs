//! Tests of label sets: order, printing, building, hashing.

use super::*;

#[test]
fn pairs_are_sorted_and_the_last_of_a_name_wins() {
    let labels = Labels::from_pairs([("b", "1"), ("a", "2"), ("b", "3"), ("c", "")]);
    assert_eq!(labels.to_string(), r#"{a="2", b="3"}"#);
}

#[test]
fn a_prefix_sorts_before_the_longer_set() {
    let short = Labels::from_pairs([("a", "1")]);
    let long = Labels::from_pairs([("a", "1"), ("b", "1")]);
    assert!(short < long);
    assert!(long < Labels::from_pairs([("a", "2")]));
}

#[test]
fn names_outside_the_classic_alphabet_are_quoted() {
    let labels = Labels::from_pairs([("__name__", "my.metric"), ("a.b", "x\"y")]);
    assert_eq!(labels.to_string(), r#"{"my.metric", "a.b"="x\"y"}"#);
    assert_eq!(Labels::from_pairs([("__name__", "a:b")]).to_string(), "a:b");
    assert_eq!(Labels::empty().to_string(), "{}");
}

#[test]
fn a_builder_removes_by_empty_value() {
    let mut builder = Labels::from_pairs([("a", "1"), ("b", "2")]).to_builder();
    builder.set("a", "").set("c", "3").remove("b");
    assert_eq!(builder.build(), Labels::from_pairs([("c", "3")]));
}
