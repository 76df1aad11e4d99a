//! Any text as a query: no panic, and what parses prints to a text that parses to the same tree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyrrha_promql::ast_json::to_json;
use pyrrha_promql::parser::TEXT_BYTES_MAX;
use pyrrha_promql::printer::pretty;
use pyrrha_promql::{Features, parse};

fuzz_target!(|input: &[u8]| {
    let query = String::from_utf8_lossy(input);
    let features = Features::all();
    let expr = match parse(&query, &features) {
        Ok(expr) => expr,
        Err(error) => {
            // A position outside the query would be of no use to anybody.
            assert!(error.pos.start as usize <= query.len() && error.line >= 1 && error.column >= 1);
            return;
        }
    };
    let _ = to_json(&expr);
    for text in [expr.to_string(), pretty(&expr)] {
        // Deep trees are printed with a line and a deeper indent per level.
        if text.len() > TEXT_BYTES_MAX {
            continue;
        }
        let again = parse(&text, &features);
        assert!(again.is_ok(), "{query:?} printed as {text:?}: {again:?}");
    }
});
