use super::*;
use crate::target::LoadedValue;

#[test]
fn a_script_splits_into_commands() {
    let script = "load 5m\n  a 1 2\n  # ends the block\n  b 1\n\nclear\neval instant at 5m a\n  expect warn msg: text\n  {x=\"1\"} 2\neval_fail instant at 0 b\n\neval range from 0 to 10m step 5m a + b\n  {} 1 _\n";
    let items = parse_script(script);
    let lines: Vec<usize> = items.iter().map(|i| i.line).collect();
    assert_eq!(lines, [1, 4, 6, 7, 12]);
    assert!(matches!(&items[0].command, Ok(Command::Load(l)) if l.series.len() == 1));
    assert!(matches!(&items[1].command, Err(e) if e.message.contains("invalid command") && !e.is_case));
    // Without an empty line the next command belongs to the block, and is no series.
    assert!(matches!(&items[3].command, Err(e) if e.is_case));
    let Ok(Command::Eval(eval)) = &items[4].command else { panic!() };
    assert_eq!(eval.when, When::Range(Range { start: 0, end: 600_000, step: 300_000 }));
    assert_eq!(eval.expect.series[0].values.len(), 2);
}

#[test]
fn starts_belong_to_the_line_below() {
    let items = parse_script("load 1m\n  m{a=\"b\"}@st _ -30s\n  m{a=\"b\"} 1 2");
    let Ok(Command::Load(load)) = &items[0].command else { panic!("{items:?}") };
    assert_eq!(
        load.series[0].samples,
        [(0, 0, LoadedValue::Float(1.0)), (30_000, 60_000, LoadedValue::Float(2.0))]
    );
    for bad in ["load 1m\n m@st _\n n 1", "load 1m\n m@st _ _\n m 1", "load 1m\n m@st _"] {
        assert!(parse_script(bad)[0].command.is_err(), "{bad}");
    }
}

#[test]
fn expectations_are_read() {
    let script = "eval instant at 1m a\n  expect fail msg: a: b\n\neval instant at 1m 1\n  0x10\n\neval instant at -1m a[5m]\n  expect range vector from 1m to 2m step 60s\n  {} 1 2\n\neval instant at 1m \"a\"\n  expect string `a`\n";
    let evals: Vec<_> = parse_script(script)
        .into_iter()
        .map(|i| match i.command {
            Ok(Command::Eval(e)) => e,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(evals[0].expect.fail.as_ref().is_some_and(|f| f.matches("a: b") && !f.matches("a: bc")));
    assert_eq!(evals[1].expect.scalar, Some(16.0));
    assert_eq!(evals[2].when, When::Instant(-60_000));
    assert_eq!(evals[2].expect.range_vector, Some(Range { start: 60_000, end: 120_000, step: 60_000 }));
    assert_eq!(evals[3].expect.string.as_deref(), Some("a"));
}
