//! The deepest expressions that the parser lets through are printed, evaluated and dropped by an
//! ordinary thread.

use pyrrha_model::contract::QueryContext;
use pyrrha_promql::ast_json::to_json;
use pyrrha_promql::printer::pretty;
use pyrrha_promql::{Engine, Features, parse};
use pyrrha_promqltest::script_options;
use pyrrha_testkit::ModelDb;

#[test]
fn the_deepest_expressions_are_evaluated() {
    let queries = [
        "vector(1)".to_owned() + &" + vector(1)".repeat(500),
        "1".to_owned() + &" + 1".repeat(500),
        "vector(1)".to_owned() + &" or vector(1)".repeat(500),
        "abs(".repeat(120) + "vector(1)" + &")".repeat(120),
        "max_over_time(".repeat(100) + "vector(1)" + &"[1m:1m])".repeat(100),
        "vector(1)".to_owned() + &" + vector(1)".repeat(4000),
        "1".to_owned() + &" + 1".repeat(4000),
        "vector(1)".to_owned() + &" or vector(1)".repeat(4000),
        "abs(".repeat(990) + "vector(1)" + &")".repeat(990),
        "(".repeat(990) + "vector(1)" + &")".repeat(990),
        "-".repeat(990) + "vector(1)",
        "vector(1)".to_owned() + &" ^ vector(1)".repeat(990),
        "sum(".repeat(990) + "vector(1)" + &")".repeat(990),
        "max_over_time(".repeat(700) + "vector(1)" + &"[1m:1m])".repeat(700),
        "(time() + ".repeat(490) + "time()" + &" + time()".repeat(3000) + &")".repeat(490),
    ];
    let (engine, store) = (Engine::new(script_options()), ModelDb::new());
    for query in queries {
        let short = &query[..20];
        let expr = parse(&query, &Features::all()).unwrap_or_else(|e| panic!("{short}: {e}"));
        assert!(
            parse(&expr.to_string(), &Features::all()).is_ok_and(|e| e.eq_ignoring_pos(&expr)),
            "{short}"
        );
        assert!(pretty(&expr).len() >= query.len(), "{short}");
        assert_eq!(to_json(&expr).is_ok_and(|tree| tree.is_object()), expr.height() <= 512, "{short}");
        // An error of a limit would do as well as a value; a crash would not.
        let _ = engine.instant(&QueryContext::unlimited(), &store, &expr, 0);
        let _ = engine.range(&QueryContext::unlimited(), &store, &expr, 0, 60_000, 60_000);
        assert!(engine.explain(&expr, 0, 0, 0).is_ok(), "{short}");
    }
}
