use super::*;
use crate::ast::*;

fn ok(query: &str) -> Expr {
    match parse(query, &Features::all()) {
        Ok(expr) => expr,
        Err(e) => panic!("{query}: {e}"),
    }
}

fn err(query: &str) -> String {
    match parse(query, &Features::all()) {
        Ok(expr) => panic!("{query} parsed as {expr:?}"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn operators_bind_by_precedence() {
    let shape = |query: &str| -> String {
        fn walk(e: &Expr) -> String {
            match e {
                Expr::Binary(b) => format!("({} {} {})", walk(&b.lhs), b.op.as_str(), walk(&b.rhs)),
                Expr::Unary(u) => format!("-{}", walk(&u.expr)),
                Expr::Number(n) => n.value.to_string(),
                Expr::Selector(s) => s.name.clone().unwrap_or_default(),
                _ => "?".into(),
            }
        }
        walk(&ok(query))
    };
    assert_eq!(shape("a or b and c == d + e * f ^ g"), "(a or (b and (c == (d + (e * (f ^ g))))))");
    assert_eq!(shape("a ^ b ^ c"), "(a ^ (b ^ c))");
    assert_eq!(shape("a - b - c"), "((a - b) - c)");
    assert_eq!(shape("-a ^ b * c"), "(-(a ^ b) * c)");
    assert_eq!(shape("-1 ^ 2"), "-(1 ^ 2)");
    assert_eq!(shape("-1 * 2"), "(-1 * 2)");
    assert_eq!(shape("2 ^ -1 * 3"), "((2 ^ -1) * 3)");
}

#[test]
fn keywords_name_metrics_and_labels() {
    for query in [
        "sum",
        "by",
        "offset",
        "and",
        "start",
        "end",
        "step",
        "range",
        "min_of",
        "anchored",
        "fill",
        "sum{a=\"b\"}",
        "sum + by",
        "sum by (by, on, bool, and, sum, offset, start) (x)",
        "sum by (a, b,) (x)",
        "fill + fill(0) fill",
        "sum without (\"my.label\") (x)",
        "start() + end()",
        "{\"my.metric\", \"a.b\"=\"c\",}",
        "count_values(\"x\", y)",
        "sum [5m]",
        "foo anchored[5m]",
        "foo[5m] smoothed @ 5 offset 1m",
        "info(a, {})",
        "rate(a[5m:1m] offset -5m @ end())",
        "a + on () group_left (x) fill_left (1) fill_right (-Inf) b",
        "foo offset step()",
        "foo[max_of(step() + 1, 5m) * 2]",
    ] {
        ok(query);
    }
    for query in ["sum by (without) (x)", "a + on (without) b", "a + on (b) group_left (without) c"] {
        assert!(err(query).contains("unexpected <without> in grouping opts, expected label"), "{query}");
    }
    for query in ["bool", "on", "ignoring", "group_left", "atan2"] {
        assert!(err(query).starts_with("1:1: parse error: unexpected <"), "{query}");
    }
}

#[test]
fn durations_are_fixed_unless_they_compute() {
    let Expr::Matrix(m) = ok("a[1h30m]") else { panic!() };
    assert_eq!(m.range, Duration::Fixed(5_400_000));
    let Expr::Selector(s) = ok("a offset -(90)") else { panic!() };
    assert_eq!(s.offset, Duration::Fixed(-90_000));
    let Expr::Matrix(m) = ok("a[5m-5m]") else { panic!() };
    assert!(matches!(m.range, Duration::Expr(_)));
    let Expr::Binary(b) = ok("a offset 100 + 2") else { panic!() };
    assert_eq!(b.op, BinaryOp::Add);
    let Expr::Number(n) = ok("1h30m") else { panic!() };
    assert_eq!((n.value, n.duration), (5400.0, true));
}

#[test]
fn errors_name_the_first_place() {
    for (query, expected) in [
        ("", "unknown position: parse error: no expression found in input"),
        ("\n", "1:1: parse error: no expression found in input"),
        ("1+", "1:3: parse error: unexpected end of input"),
        ("(1", "1:3: parse error: unclosed left parenthesis"),
        ("1))", "1:3: parse error: unexpected right parenthesis ')'"),
        ("a - on(b) ignoring(c) d", "1:11: parse error: unexpected <ignoring>"),
        ("some_metric OFFSET 1m[5m]", "1:22: parse error: no offset modifiers allowed before range"),
        ("(foo + bar)[5m]", "1:12: parse error: ranges only allowed for vector selectors"),
        ("MIN keep (m)", "1:5: parse error: unexpected identifier \"keep\""),
        ("sum(a b)", "1:7: parse error: unexpected identifier \"b\" in aggregation"),
        (
            "foo{gibberish}",
            "1:14: parse error: unexpected \"}\" in label matching, expected label matching operator",
        ),
        ("topk(m, o)", "1:6: parse error: expected type scalar in aggregation parameter, got instant vector"),
        ("\n1 == 1", "2:3: parse error: comparisons between scalars must use BOOL modifier"),
        (
            "foo[5m + ]",
            "1:10: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()",
        ),
        ("foo @ start", "1:12: parse error: unexpected end of input in @, expected timestamp"),
    ] {
        assert_eq!(err(query), expected, "{query}");
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    for query in [
        "(".repeat(100_000),
        "-".repeat(100_000) + "1",
        "abs(".repeat(100_000),
        "a[".to_owned() + &"(".repeat(100_000),
        "a".to_owned() + &" + a".repeat(100_000),
        "a[1".to_owned() + &" + 1".repeat(100_000) + "]",
        "a".to_owned() + &"[1m:]".repeat(100_000),
        "a".to_owned() + &"^a".repeat(100_000),
        "a[1".to_owned() + &(" + 1".repeat(100) + " + (1").repeat(2) + "))]",
    ] {
        let message = "expression is nested too deeply: at most 1000 levels and 4096 operators";
        assert!(err(&query).ends_with(message), "{}", &query[..10]);
    }
}

#[test]
fn generated_queries_chain_thousands_of_operators() {
    let selector = |i: usize| format!("m{{i=\"{i}\"}}");
    let queries = [
        (0..1500).map(selector).collect::<Vec<_>>().join(" or "),
        (0..4000).map(|_| "1").collect::<Vec<_>>().join(" + "),
        "(".repeat(300) + "a" + &")".repeat(300),
        "-".repeat(900) + "a",
        "abs(".repeat(900) + "a" + &")".repeat(900),
        "a".to_owned() + &" ^ a".repeat(900),
        "a + (".repeat(300) + "a" + &" - a".repeat(1000) + &")".repeat(300),
    ];
    for query in queries {
        let expr = ok(&query);
        assert!(expr.height() > 300);
        let printed = expr.to_string();
        assert_eq!(printed, query, "{}", &query[..10]);
        assert!(expr.eq_ignoring_pos(&ok(&printed)), "{}", &query[..10]);
        // The deepest lines of a long chain are mostly indent, and too long a text together.
        let pretty = crate::printer::pretty(&expr);
        if pretty.len() <= TEXT_BYTES_MAX {
            assert!(expr.eq_ignoring_pos(&ok(&pretty)), "{}", &query[..10]);
        }
    }
    // Errors of types and places are those of any query.
    let chain = "a".to_owned() + &" + a".repeat(1000);
    assert!(
        err(&(chain.clone() + " + \"x\"")).contains("1:4005: parse error: binary expression must contain")
    );
    assert!(err(&(chain + " +")).contains("1:4004: parse error: unexpected end of input"));
    let chain = |first: &str, last: &str| ok(&(first.to_owned() + &" + 1".repeat(600) + last)).value_type();
    assert_eq!(chain("1", ""), ValueType::Scalar);
    assert_eq!(chain("(-a)", ""), ValueType::Vector);
    assert_eq!(chain("1", " + a"), ValueType::Vector);
}

#[test]
fn numbers_end_where_the_text_of_go_s_numbers_ends() {
    for (query, number) in
        [("1e n", "1e"), ("1_ + 1", "1_"), ("0x + 1", "0x"), ("0x", "0x"), ("1__0", "1__0")]
    {
        let expected = match number {
            "1__0" => "1:1: parse error: bad number or duration syntax: \"1__\"".to_owned(),
            _ => format!(
                "1:1: parse error: error parsing number: strconv.ParseFloat: parsing \"{number}\": invalid syntax"
            ),
        };
        assert_eq!(err(query), expected, "{query}");
    }
    for (query, bad) in [("1e", "1e"), ("1_", "1_"), ("1e+", "1e+"), ("1_.", "1_.")] {
        assert_eq!(err(query), format!("1:1: parse error: bad number or duration syntax: \"{bad}\""));
    }
    for (query, value) in [("0x_1F", 31.0), ("1_000", 1000.0), ("1e3", 1000.0), ("1E+2", 100.0)] {
        let Expr::Number(number) = ok(query) else { panic!("{query}") };
        assert_eq!(number.value, value, "{query}");
    }
}

#[test]
fn a_lone_selector_is_nothing_else() {
    let selector = |text: &str| parse_selector(text).map(|m| m.len()).map_err(|e| e.to_string());
    assert_eq!(selector("up{job=\"a\"}"), Ok(2));
    assert_eq!(selector("{\"a.b\"}"), Ok(1));
    assert_eq!(selector("sum"), Ok(1));
    for (text, error) in [
        ("", "unknown position: parse error: unexpected end of input"),
        ("{}", "match[] must contain at least one non-empty matcher"),
        ("{a=~\".*\"}", "match[] must contain at least one non-empty matcher"),
        ("rate(x)", "1:5: parse error: unexpected \"(\""),
        ("x offset 5m", "1:3: parse error: unexpected <offset>"),
        ("x[5m]", "1:2: parse error: unexpected \"[\""),
        ("1", "1:1: parse error: unexpected number \"1\""),
        ("a{__name__=\"b\"}", "1:1: parse error: metric name must not be set twice: \"a\" or \"b\""),
    ] {
        assert_eq!(selector(text), Err(error.to_owned()), "{text}");
    }
}

#[test]
fn texts_and_regular_expressions_are_bounded() {
    let long = " ".repeat(TEXT_BYTES_MAX) + "1";
    assert!(err(&long).contains("query is too long: bytes=1048577 limit=1048576"));
    assert_eq!(err(&long), parse_selector(&long).expect_err("too long").to_string());
    let large = |n: usize| vec![r#"{a=~"\\pL{100}"}"#; n].join(" + ");
    let one = parse_selector(&large(1)).expect("in bounds");
    assert!(program_bytes(&one) > 1 << 20, "a small text may mean a large program");
    assert!(err(&large(20)).contains("regular expressions are too large together: limit=67108864 bytes"));
    let small = vec![r#"{a=~"b.*c|d.*e",f=~"g|h",i!~"j.+"}"#; 200].join(" + ");
    let bytes = program_bytes(&parse_selector(r#"{a=~"b.*c|d.*e",f=~"g|h",i!~"j.+"}"#).expect("in bounds"));
    assert!((1..1 << 18).contains(&bytes), "{bytes}");
    ok(&small);
}
