//! Runs scripts. An `eval` is one case however often its query is executed.

use pyrrha_model::Timestamp;
use pyrrha_promql::QueryValue;
use pyrrha_promql::ast::Expr;
use pyrrha_promql::value::Sample;

use crate::compare::{self, Mismatch};
use crate::report::{Failure, ScriptReport};
use crate::script::{Command, Eval, TextMatch, When, parse_script};
use crate::target::{Answer, Target};
use crate::variants;

/// Half of the range of the check as a range query, and its step, ms.
const MINUTE: i64 = 60_000;

/// Runs a script from an empty store. A failed case does not end it.
pub fn run_script(name: &str, text: &str, target: &mut dyn Target) -> ScriptReport {
    let mut report = ScriptReport { name: name.to_owned(), ..ScriptReport::default() };
    let note = |report: &mut ScriptReport, failure| report.failures.push(failure);
    if let Err(error) = target.clear() {
        note(&mut report, command_failure(0, "clear", error));
    }
    for item in parse_script(text) {
        match item.command {
            Ok(Command::Clear) => {
                if let Err(error) = target.clear() {
                    note(&mut report, command_failure(item.line, "clear", error));
                }
            }
            Ok(Command::Load(load)) => {
                if let Err(error) = target.load(&load.series) {
                    note(&mut report, command_failure(item.line, "load", error));
                }
            }
            Ok(Command::Eval(eval)) => match case(&eval, target) {
                Ok(()) => report.passed += 1,
                Err((execution, Mismatch { expected, got })) => {
                    report.failed += 1;
                    let query = eval.query;
                    note(&mut report, Failure { line: eval.line, query, execution, expected, got });
                }
            },
            Err(error) => {
                // Whoever looks at the numbers alone shall see a command that cannot be read, too.
                report.failed += 1;
                let failure = Failure {
                    line: error.line,
                    query: error.text,
                    execution: "reading the script".to_owned(),
                    expected: "a command".to_owned(),
                    got: error.message,
                };
                note(&mut report, failure);
            }
        }
    }
    report
}

fn command_failure(line: usize, command: &str, error: String) -> Failure {
    Failure {
        line,
        query: command.to_owned(),
        execution: command.to_owned(),
        expected: "no error".to_owned(),
        got: error,
    }
}

/// The failing execution and what was wrong with it.
type CaseResult = Result<(), (String, Mismatch)>;

fn case(eval: &Eval, target: &mut dyn Target) -> CaseResult {
    let expect = &eval.expect;
    let t = match eval.when {
        When::Instant(t) => t,
        When::Range(range) => {
            let run = "range query";
            let answer = target.range(&eval.query, &eval.expr, range.start, range.end, range.step);
            let check = outcome(eval, answer).and_then(|answer| match answer {
                Some(answer) => {
                    annotations(eval, &answer)?;
                    compare::matrix(expect, &answer.value, range)
                }
                None => Ok(()),
            });
            return check.map_err(|m| (run.to_owned(), m));
        }
    };
    instant(eval, &eval.query, &eval.expr, t, target)?;
    let Some(pinned) = variants::pinned(&eval.expr, t) else { return Ok(()) };
    let text = pinned.to_string();
    let pinned = pyrrha_promql::parse(&text, &crate::target::script_features()).map_err(|e| {
        (format!("re-parsing {text}"), Mismatch { expected: "no error".to_owned(), got: e.to_string() })
    })?;
    for at in variants::times(t) {
        instant(eval, &text, &pinned, at, target)?;
    }
    Ok(())
}

/// An execution as instant query, and its check as range query.
fn instant(eval: &Eval, query: &str, expr: &Expr, t: Timestamp, target: &mut dyn Target) -> CaseResult {
    let named = |m| (format!("instant query {query} at t={t}"), m);
    let answer = match outcome(eval, target.instant(query, expr, t)).map_err(named)? {
        Some(answer) => answer,
        None => return Ok(()),
    };
    annotations(eval, &answer).map_err(named)?;
    compare::instant(&eval.expect, &answer.value).map_err(named)?;

    let excluded = eval.expect.range_vector.is_some() || eval.expect.string.is_some();
    let steps = ["start()", "end()", "range()", "step()"].iter().any(|f| query.contains(f));
    if excluded || steps {
        return Ok(());
    }
    let named = |m| (format!("range query {query} around t={t}"), m);
    let range = target
        .range(query, expr, t - MINUTE, t + MINUTE, MINUTE)
        .map_err(|e| named(Mismatch { expected: "no error".to_owned(), got: e }))?;
    if eval.expect.ordered {
        return Ok(());
    }
    compare::sorted(&range.value).map_err(named)?;
    middle(eval, &answer.value, &range.value, t).map_err(named)
}

/// Compares what a range query says at `t`.
fn middle(eval: &Eval, instant: &QueryValue, range: &QueryValue, t: Timestamp) -> Result<(), Mismatch> {
    let QueryValue::Matrix(series) = range else {
        return Err(Mismatch { expected: "matrix".to_owned(), got: compare::describe(range) });
    };
    let mut samples = Vec::new();
    for s in series {
        if let Some((_, v)) = s.floats.iter().find(|(at, _)| *at == t) {
            samples.push((&s.labels, Sample::Float(*v)));
        } else if let Some((_, h)) = s.histograms.iter().find(|(at, _)| *at == t) {
            samples.push((&s.labels, Sample::Histogram(h.clone())));
        }
    }
    if let QueryValue::Scalar { .. } = instant {
        return match samples.first() {
            Some((_, Sample::Float(v))) => compare::instant(&eval.expect, &QueryValue::Scalar { t, v: *v }),
            _ => Err(Mismatch { expected: "a float".to_owned(), got: compare::describe(range) }),
        };
    }
    compare::vector(&eval.expect, samples.iter().map(|(l, v)| (*l, v)).collect())
}

/// The answer, or nothing if an expected failure came.
fn outcome(eval: &Eval, result: Result<Answer, String>) -> Result<Option<Answer>, Mismatch> {
    match (result, &eval.expect.fail) {
        (Ok(answer), None) => Ok(Some(answer)),
        (Err(error), Some(wanted)) if wanted.matches(&error) => Ok(None),
        (Err(error), None) => Err(Mismatch { expected: "no error".to_owned(), got: error }),
        (Err(error), Some(wanted)) => Err(Mismatch { expected: format!("error: {wanted}"), got: error }),
        (Ok(answer), Some(wanted)) => {
            Err(Mismatch { expected: format!("error: {wanted}"), got: compare::describe(&answer.value) })
        }
    }
}

fn annotations(eval: &Eval, answer: &Answer) -> Result<(), Mismatch> {
    let expect = &eval.expect;
    texts("warning", &expect.warn, expect.no_warn, &answer.warnings)?;
    texts("info", &expect.info, expect.no_info, &answer.infos)
}

/// Every expectation matches some text, and every text some expectation.
fn texts(kind: &str, wanted: &[TextMatch], none: bool, got: &[String]) -> Result<(), Mismatch> {
    let described = || if got.is_empty() { format!("no {kind}") } else { format!("{kind}s {got:?}") };
    if none && !got.is_empty() {
        return Err(Mismatch { expected: format!("no {kind}"), got: described() });
    }
    if wanted.is_empty() {
        return Ok(());
    }
    if let Some(unmet) = wanted.iter().find(|w| !got.iter().any(|text| w.matches(text))) {
        return Err(Mismatch { expected: format!("{kind}: {unmet}"), got: described() });
    }
    match got.iter().find(|text| !wanted.iter().any(|w| w.matches(text))) {
        Some(extra) => Err(Mismatch { expected: format!("no {kind} {extra:?}"), got: described() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
