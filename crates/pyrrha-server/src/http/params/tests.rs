//! Tests of parameters: decoding, times, durations, limits, with Prometheus' texts.

use super::*;

fn params(encoded: &str) -> Params {
    let mut params = Params::default();
    params.add(encoded).expect("well-formed");
    params
}

#[test]
fn body_and_query_are_one_form() {
    let mut both = params("query=up%7Ba%3D%22b+c%22%7D&match[]=x");
    both.add("query=second&match%5B%5D=y&empty=").expect("well-formed");
    assert_eq!(both.get("query"), Some(r#"up{a="b c"}"#));
    assert_eq!(both.all("match[]").collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!((both.get("empty"), both.get("absent")), (None, None));
}

#[test]
fn malformed_encoding_is_refused() {
    for (bad, part) in [("a=%zz", "%zz"), ("a=%4", "%4"), ("a;b=1", "semicolon")] {
        let params = params(&format!("query=1&{bad}&c=2"));
        assert_eq!((params.get("query"), params.get("a"), params.get("c")), (Some("1"), None, Some("2")));
        let error = params.check().expect_err(bad);
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(params("a=1").check().is_ok());
    let odd = params("a=x%ff%C3%A4");
    assert_eq!((odd.get("a"), odd.check().is_ok()), (Some("x\u{fffd}ä"), true), "it is read as Go does");
    assert!(Params::default().add(&"a=1&".repeat(PARAMS_MAX + 1)).is_err());
}

#[test]
fn switches_have_words_of_go() {
    for (text, on) in
        [("x=1", true), ("x=t", true), ("x=True", true), ("x=0", false), ("x=F", false), ("", false)]
    {
        assert_eq!(params(text).flag("x"), Ok(on), "{text}");
    }
    assert_eq!(
        params("x=yes").flag("x").map_err(|e| e.to_string()),
        Err(r#"invalid parameter "x": unable to parse boolean: strconv.ParseBool: parsing "yes": invalid syntax"#.into())
    );
}

#[test]
fn times_are_seconds_or_rfc3339() {
    for (text, ms) in [
        ("0", 0),
        ("4", 4000),
        ("1732000000.5", 1_732_000_000_500),
        ("1.0005", 1_000),
        ("1.0016", 1_002),
        ("-1.5", -1500),
        ("1e3", 1_000_000),
        ("2015-07-01T20:10:51.781Z", 1_435_781_451_781),
        ("2015-07-01T22:10:51+02:00", 1_435_781_451_000),
        (MIN_TIME_TEXT, MIN_TIME),
        (MAX_TIME_TEXT, MAX_TIME),
        ("1e300", MAX_TIME),
        ("1e13", 10_000_000_000_000_000),
        ("-1e13", -10_000_000_000_000_000),
        ("1730000000000", 1_730_000_000_000_000),
    ] {
        assert_eq!(parse_time(text), Ok(ms), "{text}");
    }
    for bad in [
        "",
        "foo",
        "30s",
        "NaN",
        "2015-07-01",
        "2015-13-01T00:00:00Z",
        "2015-02-30T00:00:00Z",
        "1e400",
        "-1e999",
    ] {
        assert_eq!(parse_time(bad), Err(format!("cannot parse {bad:?} to a valid timestamp")), "{bad}");
    }
}

#[test]
fn durations_are_seconds_or_units() {
    for (text, ms) in [
        ("15", 15_000),
        ("0.5", 500),
        ("1m30s", 90_000),
        ("-1", -1000),
        ("0.0001", 1),
        ("1e-10", 0),
        ("NaN", i64::MIN / 1_000_000),
        ("-0.0001", 0),
        ("0", 0),
    ] {
        assert_eq!(parse_span(text), Ok(ms), "{text}");
    }
    assert_eq!(parse_span("x"), Err(r#"cannot parse "x" to a valid duration"#.into()));
    assert_eq!(parse_span("1e400"), Err(r#"cannot parse "1e400" to a valid duration"#.into()));
    assert_eq!(
        parse_span("1e300"),
        Err(r#"cannot parse "1e300" to a valid duration. It overflows int64"#.into())
    );
}

#[test]
fn limits_are_not_negative() {
    assert_eq!(params("").limit().expect("absent"), 0);
    assert_eq!(params("limit=7").limit().expect("given"), 7);
    let text = |e: ApiError| e.to_string();
    assert_eq!(
        params("limit=-1").limit().map_err(text),
        Err(r#"invalid parameter "limit": limit must be non-negative"#.into())
    );
    assert_eq!(
        params("limit=x").limit().map_err(text),
        Err(r#"invalid parameter "limit": strconv.Atoi: parsing "x": invalid syntax"#.into())
    );
}
