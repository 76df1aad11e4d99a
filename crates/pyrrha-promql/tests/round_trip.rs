//! What the printer writes, the parser reads back as the same tree; and no input makes the parser
//! panic.

use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;
use pyrrha_promql::printer::pretty;
use pyrrha_promql::{Features, parse};

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_][a-z0-9_]{0,6}".prop_filter("not a word of the grammar", |w| {
            !["on", "bool", "ignoring", "group_left", "group_right", "atan2", "inf", "nan", "by", "without"]
                .contains(&w.as_str())
        }),
        Just("node:cpu:rate5m".to_owned()),
        Just("sum".to_owned()),
        Just("offset".to_owned()),
    ]
}

fn text() -> impl Strategy<Value = String> {
    "[ -~äé\n\t]{0,8}".prop_map(|s| pyrrha_model::go_fmt::quote(&s))
}

fn label() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z_][a-z0-9_]{0,4}", text().prop_filter("not empty", |s| s != "\"\"")]
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<f64>().prop_filter("finite", |v| v.is_finite()).prop_map(|v| format!("{v:e}")),
        (0u32..100_000).prop_map(|v| v.to_string()),
        duration(),
        Just("NaN".to_owned()),
        Just("0x1F".to_owned()),
    ]
}

fn duration() -> impl Strategy<Value = String> {
    (1u32..5000, prop_oneof![Just("ms"), Just("s"), Just("m"), Just("h"), Just("d"), Just("w")])
        .prop_map(|(n, unit)| format!("{n}{unit}"))
}

fn duration_expr() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        duration(),
        (1u32..1000).prop_map(|n| n.to_string()),
        Just("step()".to_owned()),
        Just("range()".to_owned())
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), "[-+*/%^]", inner.clone()).prop_map(|(a, op, b)| format!("({a}) {op} {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("min_of({a}, {b})")),
            inner.prop_map(|a| format!("({a})")),
        ]
    })
    .boxed()
}

/// `@` and `offset`, in any order, each at most once.
fn modifiers() -> impl Strategy<Value = String> {
    let at = prop_oneof![
        Just(String::new()),
        (-1_000_000i64..1_000_000).prop_map(|ms| format!(" @ {}", ms as f64 / 1000.0)),
        Just(" @ start()".to_owned()),
        Just(" @ end()".to_owned()),
    ];
    let offset = prop_oneof![
        Just(String::new()),
        duration().prop_map(|d| format!(" offset {d}")),
        duration().prop_map(|d| format!(" offset -{d}")),
        duration_expr().prop_map(|d| format!(" offset ({d})")),
    ];
    (at, offset, any::<bool>()).prop_map(|(a, o, swap)| if swap { o + &a } else { a + &o })
}

fn mode() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 1 => Just(" anchored"), 1 => Just(" smoothed")]
}

fn selector() -> impl Strategy<Value = String> {
    let matcher =
        (label(), prop_oneof![Just("="), Just("!=")], text()).prop_map(|(l, op, v)| format!("{l}{op}{v}"));
    let matchers = proptest::collection::vec(matcher, 0..3).prop_map(|m| m.join(",")).boxed();
    prop_oneof![
        name(),
        (name(), matchers.clone()).prop_map(|(n, m)| format!("{n}{{{m}}}")),
        matchers.prop_map(|m| format!("{{a=\"b\",{m}}}")),
        text().prop_filter("not empty", |s| s != "\"\"").prop_map(|m| format!("{{{m}}}")),
    ]
}

fn labels() -> impl Strategy<Value = String> {
    proptest::collection::vec(label(), 0..3).prop_map(|l| l.join(", "))
}

/// An instant vector.
fn vector() -> BoxedStrategy<String> {
    let leaf = (selector(), mode(), modifiers()).prop_map(|(s, m, o)| format!("{s}{m}{o}"));
    leaf.prop_recursive(4, 24, 3, |inner| {
        let range = (selector(), duration_expr(), mode(), modifiers())
            .prop_map(|(s, d, m, o)| format!("{s}[{d}]{m}{o}"));
        let subquery =
            (inner.clone(), duration(), prop_oneof![Just(String::new()), duration_expr()], modifiers())
                .prop_map(|(e, d, s, o)| format!("({e})[{d}:{s}]{o}"));
        let matching = prop_oneof![
            Just(String::new()),
            labels().prop_map(|l| format!("on ({l}) ")),
            labels().prop_map(|l| format!("ignoring ({l}) group_left () ")),
            Just("ignoring () group_right (z) fill_left (1.5) fill_right (-2) ".to_owned()),
            Just("fill (NaN) ".to_owned()),
        ];
        let arithmetic = prop_oneof![
            Just("+"),
            Just("-"),
            Just("*"),
            Just("/"),
            Just("%"),
            Just("^"),
            Just("atan2"),
            Just("</"),
            Just(">/"),
            Just("== bool"),
            Just(">")
        ];
        prop_oneof![
            (inner.clone(), arithmetic, matching, inner.clone())
                .prop_map(|(a, op, m, b)| format!("{a} {op} {m}{b}")),
            (inner.clone(), prop_oneof![Just("and"), Just("or"), Just("unless")], inner.clone())
                .prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            (number(), inner.clone()).prop_map(|(n, b)| format!("{n} * {b}")),
            inner.clone().prop_map(|e| format!("-{e}")),
            inner.clone().prop_map(|e| format!("({e})")),
            (
                prop_oneof![Just("sum"), Just("COUNT"), Just("stddev")],
                prop_oneof![Just("by"), Just("without")],
                labels(),
                inner.clone()
            )
                .prop_map(|(a, by, l, e)| format!("{a} {by} ({l}) ({e})")),
            (number(), inner.clone()).prop_map(|(n, e)| format!("topk({n}, {e})")),
            (text(), inner.clone()).prop_map(|(n, e)| format!("count_values({n}, {e}) by (x)")),
            prop_oneof![range, subquery].prop_map(|r| format!("rate({r})")),
            inner.prop_map(|e| format!("label_replace({e}, \"a\", \"$1\", \"b\", `(.*)`)")),
        ]
    })
    .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn printed_expressions_parse_to_the_same_tree(query in vector()) {
        let features = Features::all();
        let expr = match parse(&query, &features) {
            Ok(expr) => expr,
            // What the generator gets wrong in types is no matter of the printer; syntax is.
            Err(e) => {
                prop_assert!(!e.message.starts_with("unexpected"), "{query}: {e}");
                return Ok(());
            }
        };
        for text in [expr.to_string(), pretty(&expr)] {
            let again = parse(&text, &features);
            prop_assert!(again.is_ok(), "{query} printed as {text}: {again:?}");
            prop_assert!(again.is_ok_and(|again| again.eq_ignoring_pos(&expr)), "{query} printed as {text}");
        }
    }

    #[test]
    fn no_input_panics(query in "[a-z0-9 \\[\\](){}\"'`:@=!~<>+*/^%,.#\\\\\n_-]{0,40}") {
        if let Ok(expr) = parse(&query, &Features::all()) {
            let again = parse(&expr.to_string(), &Features::all());
            prop_assert!(again.is_ok(), "{query} printed as {expr}: {again:?}");
        }
    }
}
