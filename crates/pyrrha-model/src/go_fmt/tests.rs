use super::*;

fn json(value: f64) -> String {
    json_float(value)
}

// Expected texts: written down from the rules of Go's documentation.
#[test]
fn shortest_forms() {
    let table: &[(f64, &str, &str, &str)] = &[
        // value, 'f', %g, JSON
        (0.0, "0", "0", "0"),
        (-0.0, "-0", "-0", "-0"),
        (1.0, "1", "1", "1"),
        (-1.5, "-1.5", "-1.5", "-1.5"),
        (0.1, "0.1", "0.1", "0.1"),
        (100000.0, "100000", "100000", "100000"),
        (1e6, "1000000", "1e+06", "1000000"),
        (1234567.0, "1234567", "1.234567e+06", "1234567"),
        (123456789.125, "123456789.125", "1.23456789125e+08", "123456789.125"),
        (0.0001, "0.0001", "0.0001", "0.0001"),
        (0.00001, "0.00001", "1e-05", "0.00001"),
        (1e-6, "0.000001", "1e-06", "0.000001"),
        (1.5e-7, "0.00000015", "1.5e-07", "1.5e-07"),
        (1e20, "100000000000000000000", "1e+20", "100000000000000000000"),
        (1e21, "1000000000000000000000", "1e+21", "1e+21"),
        (-1.25e100, &format!("-125{}", "0".repeat(98)), "-1.25e+100", "-1.25e+100"),
        (5e-324, &format!("0.{}5", "0".repeat(323)), "5e-324", "5e-324"),
        (9007199254740993.0, "9007199254740992", "9.007199254740992e+15", "9007199254740992"),
        (f64::NAN, "NaN", "NaN", "NaN"),
        (f64::INFINITY, "+Inf", "+Inf", "+Inf"),
        (f64::NEG_INFINITY, "-Inf", "-Inf", "-Inf"),
    ];
    for (value, f, g, j) in table {
        assert_eq!(&float_f(*value), f);
        assert_eq!(&float_g(*value), g);
        assert_eq!(&json(*value), j);
        assert_eq!(Plain(*value).to_string(), *f);
        assert_eq!(General(*value).to_string(), *g);
    }
}

#[test]
fn given_precisions() {
    let table = [
        (format!("{:.2}", General(1234.0)), "1.2e+03"),
        (format!("{:.2}", General(0.000012345)), "1.2e-05"),
        (format!("{:.4}", General(1.0)), "1"),
        (format!("{:.4}", General(100.0)), "100"),
        (format!("{:.3}", General(100.0)), "100"),
        (format!("{:.2}", General(100.0)), "1e+02"),
        (format!("{:.4}", General(12.34567)), "12.35"),
        (format!("{:.4}", General(0.0)), "0"),
        (format!("{:.2}", General(f64::NAN)), "NaN"),
        (format!("{}", Exponent(12345.678)), "1.234568e+04"),
        (format!("{:.0}", Exponent(2.5)), "2e+00"),
        (format!("{:.3}", Exponent(0.0)), "0.000e+00"),
        (format!("{}", Fixed(0.5)), "0.500000"),
        (format!("{:.3}", Fixed(-1.0005)), "-1.000"),
        (format!("{}", Fixed(f64::INFINITY)), "+Inf"),
    ];
    for (got, want) in table {
        assert_eq!(got, want);
    }
    let mut out = Vec::new();
    push_float_e(&mut out, 1.25);
    assert_eq!(out, b"1.25e+00");
}

#[test]
fn timestamps_have_three_decimals_or_none() {
    for (ms, want) in [
        (0, "0"),
        (1500, "1.500"),
        (1005, "1.005"),
        (-1, "-0.001"),
        (60_000, "60"),
        (i64::MIN, "-9223372036854775.808"),
    ] {
        let mut out = Vec::new();
        push_json_timestamp(&mut out, ms);
        assert_eq!(String::from_utf8_lossy(&out), want);
    }
}

#[test]
fn quoting_follows_strconv() {
    for (text, want) in [
        ("", r#""""#),
        ("plain", r#""plain""#),
        ("a\"b\\c", r#""a\"b\\c""#),
        ("tab\tnl\nbell\u{7}", r#""tab\tnl\nbell\a""#),
        ("\u{0}\u{7f}", r#""\x00\x7f""#),
        ("naïve ☺ 日本", r#""naïve ☺ 日本""#),
        ("e\u{301}", "\"e\u{301}\""),
        ("\u{a0}\u{ad}\u{2028}\u{feff}", r#""\u00a0\u00ad\u2028\ufeff""#),
        ("\u{e0001}", r#""\U000e0001""#),
    ] {
        assert_eq!(quote(text), want);
    }
    assert_eq!(quote_bytes(b"a\xffb\xe2\x82"), r#""a\xffb\xe2\x82""#);
    assert_eq!(quote_char('\''), r"'\''");
    assert_eq!(quote_char('"'), "'\"'");
    assert_eq!(unicode_point('A'), "U+0041 'A'");
    assert_eq!(unicode_point('\n'), "U+000A");
}

proptest::proptest! {
    #[test]
    fn shortest_forms_read_back(bits in proptest::prelude::any::<u64>()) {
        let value = f64::from_bits(bits);
        if value.is_finite() {
            for text in [float_f(value), float_g(value), json(value)] {
                proptest::prop_assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(bits));
            }
        }
    }
}
