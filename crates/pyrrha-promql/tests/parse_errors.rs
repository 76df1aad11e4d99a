//! Refused queries have Prometheus' messages: `testdata/promql/parse_errors.txt`.

use std::path::Path;

use pyrrha_promql::{Features, parse};

#[test]
fn refused_queries_have_their_exact_messages() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/promql/parse_errors.txt");
    let text = std::fs::read_to_string(path).expect("the table is there");
    let mut features = Features::all();
    let mut query = None;
    let (mut cases, mut wrong) = (0, Vec::new());
    for line in text.lines() {
        if line == "features none" {
            features = Features::default();
        } else if let Some(text) = line.strip_prefix("> ") {
            query = Some(text.replace('⏎', "\n"));
        } else if let (Some(expected), Some(query)) = (line.strip_prefix("! "), query.take()) {
            cases += 1;
            let got = parse(&query, &features).map_or_else(|e| e.to_string(), |e| format!("parsed as {e}"));
            if got != expected {
                wrong.push(format!("{query:?}\n  expected: {expected}\n  got:      {got}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {cases} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases >= 300, "only {cases} cases");
}
