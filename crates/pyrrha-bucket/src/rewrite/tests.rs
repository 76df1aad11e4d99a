//! Rules, and what they make of labels and times.

use proptest::prelude::*;
use pyrrha_model::{MatchOp, TimeRange};

use super::*;

/// Reads `name=value` and `name=~value`.
fn parse(text: &str) -> Result<Vec<Matcher>, String> {
    let one = |part: &str| match part.split_once("=~") {
        Some((name, value)) => Matcher::new(MatchOp::Regex, name, value).map_err(|e| e.to_string()),
        None => {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("no matcher: {part}"))?;
            Ok(Matcher::equal(name, value))
        }
    };
    text.split(',').map(one).collect()
}

fn labels(text: &str) -> Labels {
    Labels::from_pairs(text.split(',').filter_map(|pair| pair.split_once('=')))
}

fn relabelled(yaml: &str, from: &str) -> Option<String> {
    let rules = RewriteRules::parse(None, None, Some(yaml), &parse).expect("rules");
    let to = rules.relabelled(&labels(from))?;
    Some(to.iter().map(|l| format!("{}={}", l.name, l.value)).collect::<Vec<_>>().join(","))
}

#[test]
fn series_and_times_are_deleted_or_kept() {
    let delete =
        "- matchers: a=1\n  intervals: [{mint: 10, maxt: 20}, {mint: 21, maxt: 30}]\n- matchers: b=~x.*\n";
    let rules = RewriteRules::parse(Some(delete), None, None, &parse).expect("rules");
    assert_eq!(rules.fate(&labels("a=1")), Fate::Cut(vec![TimeRange::new(10, 30)]));
    assert_eq!(rules.fate(&labels("a=1,b=xy")), Fate::Goes);
    assert_eq!(rules.fate(&labels("a=2")), Fate::Stays);
    let keep = "- matchers: a=1\n- matchers: c=1\n  intervals: [{mint: 5, maxt: 6}]\n";
    let rules = RewriteRules::parse(None, Some(keep), None, &parse).expect("rules");
    assert_eq!(rules.fate(&labels("a=1,c=1")), Fate::Stays);
    assert_eq!(rules.fate(&labels("a=2")), Fate::Goes);
    let around = vec![TimeRange::new(i64::MIN, 4), TimeRange::new(7, i64::MAX)];
    assert_eq!(rules.fate(&labels("c=1")), Fate::Cut(around));
}

#[test]
fn labels_change_as_prometheus_changes_them() {
    assert_eq!(relabelled("- {action: labeldrop, regex: 'b.*'}", "a=1,b=2,bc=3").as_deref(), Some("a=1"));
    assert_eq!(relabelled("- {action: labelkeep, regex: 'a'}", "a=1,b=2").as_deref(), Some("a=1"));
    assert_eq!(relabelled("- {action: drop, source_labels: [a, b], regex: '1;2'}", "a=1,b=2"), None);
    assert_eq!(relabelled("- {action: keep, source_labels: [a], regex: '2'}", "a=1"), None);
    let rename = "- {source_labels: [pod], target_label: instance}\n- {action: labeldrop, regex: pod}\n";
    assert_eq!(relabelled(rename, "pod=p-1,x=y").as_deref(), Some("instance=p-1,x=y"));
    let groups =
        "- {source_labels: [host], regex: '(.*):(\\d+)', target_label: 'port_$1', replacement: '${2}'}";
    assert_eq!(relabelled(groups, "host=db:80").as_deref(), Some("host=db:80,port_db=80"));
    assert_eq!(relabelled(groups, "host=db").as_deref(), Some("host=db"), "no match, no change");
    let map = "- {action: labelmap, regex: 'meta_(.*)'}";
    assert_eq!(relabelled(map, "meta_zone=a").as_deref(), Some("meta_zone=a,zone=a"));
    assert_eq!(
        relabelled("- {action: lowercase, source_labels: [a], target_label: a}", "a=Ab").as_deref(),
        Some("a=ab")
    );
    assert_eq!(relabelled("- {target_label: a, replacement: ''}", "a=1,b=2").as_deref(), Some("b=2"));
    assert_eq!(relabelled("- {action: dropequal, source_labels: [a], target_label: b}", "a=1,b=1"), None);
    assert_eq!(relabelled("- {action: labeldrop, regex: '.*'}", "a=1"), None, "no labels, no series");
}

#[test]
fn what_is_wrong_with_rules_is_said() {
    let error = |delete: Option<&str>, relabel: Option<&str>| {
        RewriteRules::parse(delete, None, relabel, &parse).expect_err("wrong").to_string()
    };
    assert_eq!(error(None, Some(" ")), "no rule says what is to be rewritten");
    assert!(error(Some("matchers"), None).starts_with("rules do not parse: delete:"));
    assert!(error(Some("- matchers: a"), None).contains("delete rule=1: no matcher: a"));
    assert!(
        error(Some("- {matchers: a=1, intervals: [{mint: 2, maxt: 1}]}"), None).contains("mint=2 maxt=1")
    );
    assert!(error(None, Some("- {action: replace}")).contains("relabel rule=1: a target_label"));
    assert!(error(None, Some("- {action: hashmod, target_label: a}")).contains("relabel"));
    assert!(error(None, Some("- {action: keep, regex: '('}")).contains("regexp"));
}

proptest! {
    #[test]
    fn what_is_kept_and_the_gaps_are_all_and_nothing_twice(
        pairs in prop::collection::vec((-50i64..50, 0i64..20), 0..8), at in -80i64..80,
    ) {
        let intervals: Vec<TimeRange> = pairs.iter().map(|&(s, l)| TimeRange::new(s, s + l)).collect();
        let within = intervals.iter().any(|i| i.start <= at && at <= i.end);
        let all = joined(intervals);
        let has = |all: &[TimeRange]| all.iter().filter(|i| i.start <= at && at <= i.end).count();
        prop_assert_eq!(has(&all), usize::from(within));
        prop_assert_eq!(has(&gaps(all)), usize::from(!within));
    }
}
