use std::collections::VecDeque;

use super::*;
use crate::target::LoadedSeries;

/// Answers what it was told to, and remembers what it was asked.
#[derive(Default)]
struct Scripted {
    answers: VecDeque<Result<Answer, String>>,
    asked: Vec<String>,
}

impl Scripted {
    fn next(&mut self, what: String) -> Result<Answer, String> {
        self.asked.push(what);
        self.answers.pop_front().unwrap_or_else(|| Err("nothing to answer".to_owned()))
    }
}

impl Target for Scripted {
    fn clear(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn load(&mut self, _series: &[LoadedSeries]) -> Result<(), String> {
        Ok(())
    }

    fn instant(&mut self, query: &str, _expr: &Expr, t: Timestamp) -> Result<Answer, String> {
        self.next(format!("{query} @{t}"))
    }

    fn range(&mut self, query: &str, _: &Expr, start: i64, end: i64, step: i64) -> Result<Answer, String> {
        self.next(format!("{query} {start}..{end}/{step}"))
    }
}

fn answer(value: QueryValue, warnings: &[&str]) -> Result<Answer, String> {
    Ok(Answer { value, warnings: warnings.iter().map(|w| (*w).to_owned()).collect(), infos: Vec::new() })
}

#[test]
fn an_instant_case_is_executed_in_all_its_variants() {
    let mut target = Scripted { answers: VecDeque::new(), asked: Vec::new() };
    for _ in 0..6 {
        target.answers.push_back(answer(QueryValue::Vector(Vec::new()), &[]));
        target.answers.push_back(answer(QueryValue::Matrix(Vec::new()), &[]));
    }
    let report = run_script("s", "eval instant at 5m a\n", &mut target);
    assert!(report.is_ok(), "{report}");
    assert_eq!((report.passed, report.failed), (1, 0));
    assert_eq!(target.asked[0], "a @300000");
    assert_eq!(target.asked[1], "a 240000..360000/60000");
    assert_eq!(target.asked[2], "a @ 300.000 @-3000000");
    assert_eq!(target.asked.len(), 12);
}

#[test]
fn failures_name_line_query_and_both_sides() {
    let mut target = Scripted::default();
    target.answers.push_back(answer(QueryValue::Scalar { t: 0, v: 2.0 }, &[]));
    let report = run_script("s", "\neval instant at 5m time()\n  3\n", &mut target);
    assert_eq!((report.passed, report.failed), (0, 1));
    let failure = &report.failures[0];
    assert_eq!((failure.line, failure.query.as_str()), (2, "time()"));
    assert_eq!((failure.expected.as_str(), failure.got.as_str()), ("scalar 3", "scalar 2"));
}

#[test]
fn annotations_match_both_ways() {
    let any = [TextMatch::Any];
    let text = [TextMatch::Text("a".to_owned())];
    let got = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    assert!(texts("warning", &[], false, &got(&["a"])).is_ok());
    assert!(texts("warning", &[], true, &got(&["a"])).is_err());
    assert!(texts("warning", &any, false, &got(&[])).is_err());
    assert!(texts("warning", &text, false, &got(&["a"])).is_ok());
    assert!(texts("warning", &text, false, &got(&["a", "b"])).is_err());
    assert!(texts("warning", &text, false, &got(&["b"])).is_err());
}

#[test]
fn an_expected_error_is_a_pass_and_its_absence_is_not() {
    let script = "eval instant at 0 time()\n  expect fail msg: boom\n";
    let mut target = Scripted::default();
    target.answers.push_back(Err("boom".to_owned()));
    assert_eq!(run_script("s", script, &mut target).passed, 1);
    target.answers.push_back(Err("bang".to_owned()));
    assert_eq!(run_script("s", script, &mut target).failed, 1);
}
