//! Expressions that mostly parse: what the printers write parses to the same tree and prints to the same text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyrrha_fuzz::expression::Choices;
use pyrrha_promql::printer::pretty;
use pyrrha_promql::{Features, parse};

fuzz_target!(|input: &[u8]| {
    let query = Choices::new(input).vector(6);
    let features = Features::all();
    let Ok(expr) = parse(&query, &features) else { return };
    let printed = expr.to_string();
    for text in [&printed, &pretty(&expr)] {
        match parse(text, &features) {
            Ok(again) => {
                assert_eq!(again.to_string(), printed, "{query:?} printed as {text:?}");
                // A name inside braces is printed before them, or as a matcher.
                assert!(
                    query.contains("a.b") || query.contains("__name__") || again.eq_ignoring_pos(&expr),
                    "{query:?} printed as {text:?}"
                );
            }
            Err(error) => panic!("{query:?} printed as {text:?}: {error}"),
        }
    }
});
