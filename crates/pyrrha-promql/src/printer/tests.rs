use super::*;
use crate::{Features, parse};

fn parsed(query: &str) -> Expr {
    parse(query, &Features::all()).unwrap_or_else(|e| panic!("{query}: {e}"))
}

#[test]
fn expressions_print_as_prometheus_prints_them() {
    for (query, printed) in [
        ("SUM BY(a,b)(x)", "sum by (a, b) (x)"),
        ("sum(x)without()", "sum without () (x)"),
        ("sum by () (x)", "sum(x)"),
        ("topk(5,x)", "topk(5, x)"),
        ("count_values('v',x)", "count_values(\"v\", x)"),
        ("a+on()b", "a + on () b"),
        ("a==bool ignoring(x)b", "a == bool ignoring (x) b"),
        ("a*on(x)group_left b", "a * on (x) group_left () b"),
        ("a/ignoring(x)group_right(y,\"z.z\")b", "a / ignoring (x) group_right (y, \"z.z\") b"),
        ("a+fill_left(1)fill_right(1)b", "a + fill (1) b"),
        ("a+fill_right(-2.5)fill_left(1e7)b", "a + fill_left (1e+07) fill_right (-2.5) b"),
        ("a and b", "a and b"),
        ("m{b='2',a!=\"1\",c=~`x`}", "m{a!=\"1\",b=\"2\",c=~\"x\"}"),
        ("{__name__='m'}", "{__name__=\"m\"}"),
        ("m{}", "m"),
        ("{\"my.m\",\"a.b\"='c'}", "{\"a.b\"=\"c\",__name__=\"my.m\"}"),
        ("m[5m]@1 offset 1m", "m[5m] @ 1.000 offset 1m"),
        ("m offset -1m @ 0.0005 anchored", "m @ 0.001 anchored offset -1m"),
        ("m[90s]smoothed @ start()", "m[1m30s] smoothed @ start()"),
        ("m[5m:]", "m[5m:]"),
        ("(a+b)[1d:1h]offset 1w@end()", "(a + b)[1d:1h] @ end() offset 1w"),
        ("m offset 0s", "m"),
        ("m[step()*2]", "m[step() * 2]"),
        ("m[(1m+2)*3:min_of(range(),1)]", "m[(1m + 2) * 3:min_of(range(), 1)]"),
        ("m offset -step()", "m offset -step()"),
        ("0x1F + 1e3 + 5m + -0.5", "31 + 1000 + 5m + -0.5"),
        ("inf - nan", "+Inf - NaN"),
        ("inf ^ m", "Inf ^ m"),
        ("-inf ^ +inf ^ inf", "-Inf ^ +Inf ^ +Inf"),
        ("-(a)", "-(a)"),
        ("'it\\'s'", "\"it's\""),
        ("a </ 5", "a </ 5"),
        ("m{a=\"\\275\"}", "m{a=\"\\xbd\"}"),
        ("m{a=\"\\\\U0010ff80\\uFFFD\"}", "m{a=\"\\\\U0010ff80\\ufffd\"}"),
        ("sum by ('\\xff') (m)", "sum by (\"\\xff\") (m)"),
        ("rate(a[1m])", "rate(a[1m])"),
    ] {
        let expr = parsed(query);
        assert_eq!(expr.to_string(), printed, "{query}");
        let again = parsed(printed);
        assert!(
            again.eq_ignoring_pos(&expr) || query.contains("__name__") || query.contains("my.m"),
            "{query}"
        );
        assert_eq!(again.to_string(), printed);
    }
}

#[test]
fn long_expressions_split_at_their_parts() {
    let name = "x".repeat(60);
    let query = format!("sum by (a) (rate({name}[5m])) / on (a) group_left (b) topk(3, -({name}))");
    let expected = format!("  sum by (a) (rate({name}[5m]))\n/ on (a) group_left (b) \n  topk(3, -({name}))");
    assert_eq!(pretty(&parsed(&query)), expected.replace(" \n", "\n"));
    let query = format!("inf ^ {name}{name}");
    assert_eq!(pretty(&parsed(&query)), format!("  Inf\n^\n  {name}{name}"));
    let query = format!("topk(3, label_replace({name}, \"a\", \"b\", \"c\", \"{name}\"))");
    let expected = format!(
        "topk(\n  3,\n  label_replace(\n    {name},\n    \"a\",\n    \"b\",\n    \"c\",\n    \"{name}\"\n  )\n)"
    );
    assert_eq!(pretty(&parsed(&query)), expected);
    // A subquery that fits is not indented.
    let query = format!("max_over_time(sum_over_time({name}[1m])[10m:1m] offset 1h)");
    let expected = format!("max_over_time(\nsum_over_time({name}[1m])[10m:1m] offset 1h\n)");
    assert_eq!(pretty(&parsed(&query)), expected);
}
