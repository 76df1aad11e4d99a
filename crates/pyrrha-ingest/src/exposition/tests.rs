use super::*;

fn one(text: &str, format: Format) -> ExposedSample {
    let mut exposition = parse(text, format).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(exposition.samples.len(), 1);
    exposition.samples.remove(0)
}

#[test]
fn a_page_of_the_classic_format_is_read() {
    let text = "# HELP http_requests_total The \\\\ total.\\nSecond line.\n# TYPE http_requests_total counter\n\
                http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n\
                http_requests_total{ method = \"post\" , code=\"400\" , }    3\n\n\
                # a comment\nmsdos{path=\"C:\\\\DIR\\\\F\\\"x\\\"\\n\"} 1.5e3\nnothing +Inf\nbare{} NaN\n";
    let page = parse(text, Format::Prometheus).expect("readable");
    let metadata = &page.metadata["http_requests_total"];
    assert_eq!(
        (metadata.metric_type, metadata.help.as_str()),
        (MetricType::Counter, "The \\ total.\nSecond line.")
    );
    let lines: Vec<_> = page.samples.iter().map(|s| (s.labels.to_string(), s.timestamp)).collect();
    assert_eq!(
        lines[0],
        (r#"http_requests_total{code="200", method="post"}"#.into(), Some(1_395_066_363_000))
    );
    assert_eq!(lines[1], (r#"http_requests_total{code="400", method="post"}"#.into(), None));
    assert_eq!(page.samples[2].labels.get("path"), Some("C:\\DIR\\F\"x\"\n"));
    assert_eq!(page.samples[2].value, 1500.0);
    assert_eq!(page.samples[3].value, f64::INFINITY);
    assert!(page.samples[4].value.is_nan());
}

#[test]
fn openmetrics_times_are_seconds_and_exemplars_are_read() {
    let line = r#"foo_bucket{le="10.0"} 17 1520879607.789 # {trace_id="KOO5S4vxi0o"} 9.8 1520879607.5"#;
    let sample = one(&format!("{line}\n# EOF\ngarbage"), Format::OpenMetrics);
    assert_eq!(sample.timestamp, Some(1_520_879_607_789));
    let exemplar = sample.exemplar.expect("an exemplar");
    assert_eq!((exemplar.value, exemplar.timestamp), (9.8, 1_520_879_607_500));
    assert_eq!(exemplar.labels.get("trace_id"), Some("KOO5S4vxi0o"));
}

#[test]
fn a_backslash_before_any_other_character_stands_for_itself() {
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let sample = one("a{re=\"\\d+\\.\\\\\"} 1\n# EOF\n", format);
        assert_eq!(sample.labels.get("re"), Some(r"\d+\.\"));
    }
    assert!(parse("a{b=\"\\\n\"} 1\n", Format::Prometheus).is_err(), "a line ends there");
}

#[test]
fn names_may_be_quoted() {
    let sample = one(r#"{"my.metric", "a.b"="c", d="e"} 1"#, Format::Prometheus);
    assert_eq!(sample.labels.to_string(), r#"{"my.metric", "a.b"="c", d="e"}"#);
    let page = parse("# TYPE \"my.metric\" gauge\n", Format::Prometheus).expect("readable");
    assert_eq!(page.metadata["my.metric"].metric_type, MetricType::Gauge);
}

#[test]
fn a_bad_line_is_named_with_its_place() {
    for (text, part) in [
        ("a 1\nb{x=\"1\" 2\n", "line 2"),
        ("a one\n", "\"one\" is not a number"),
        ("a 1 1.5\n", "not a timestamp"),
        ("a 1 5 six\n", "unexpected text"),
        ("a{x=\"1\",x=\"2\"} 1\n", "label \"x\" is given twice"),
        ("{x=\"1\"} 1\n", "no metric name"),
        ("# TYPE a thing\n", "invalid metric type"),
        ("a{x=\"q} 1\n", "line 1"),
        ("9a 1\n", "line 1"),
    ] {
        let error = parse(text, Format::Prometheus).expect_err(text);
        assert!(error.to_string().contains(part), "{text:?}: {error}");
    }
}

proptest::proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "[a-z{}=\", #\\\\\n0-9.+-]{0,200}") {
        let _ = parse(&text, Format::Prometheus);
        let _ = parse(&text, Format::OpenMetrics);
    }
}

fn take_all(text: &str) -> Result<Vec<ExposedSample>, ExpositionError> {
    let (mut lines, mut samples) = (OpenMetricsLines::default(), Vec::new());
    for line in text.lines() {
        samples.extend(lines.take(line.as_bytes())?);
    }
    lines.finish().map(|_| samples)
}

#[test]
fn history_needs_times_and_an_end() {
    let good = "# TYPE a counter\na_total{x=\"1\"} 5 1.5\na_created{x=\"1\"} 1 1.5\n# EOF\n";
    let samples = take_all(good).expect("readable");
    assert_eq!(samples.len(), 2);
    assert_eq!(samples[1].labels.metric_name(), "a_created");
    for (text, part) in [
        ("a 1 1\n", "line 2: text does not end with # EOF"),
        ("a 1 1\nb 1\n# EOF", "line 2: sample has no timestamp: b"),
        ("a 1 1\n# EOF\nb 1 1\n", "line 3: text after # EOF"),
        ("a 1 1\n# EOFF\nb{ 1 1\n# EOF", "line 3: cannot read sample"),
    ] {
        let error = take_all(text).expect_err(text);
        assert!(error.to_string().contains(part), "{text:?}: {error}");
    }
    let bad = OpenMetricsLines::default().take(b"a\xff 1 1").expect_err("not UTF-8");
    assert_eq!(bad.to_string(), "exposition text, line 1: not UTF-8 at byte 1");
}

proptest::proptest! {
    #[test]
    fn what_is_written_is_read_back(
        pairs in proptest::collection::btree_map("[a-z_.µ]{1,5}", "[a-z\"\\\\\n ,={}µ]{1,8}", 0..4),
        name in "[a-z_:.]{1,6}",
        samples in proptest::collection::vec((-4_000_000_000_000i64..4_000_000_000_000, proptest::num::f64::ANY), 1..5),
    ) {
        let mut pairs: Vec<(String, String)> = pairs.into_iter().collect();
        pairs.push(("__name__".to_owned(), name));
        let labels = Labels::from_pairs(pairs);
        let (mut writer, mut out) = (OpenMetricsWriter::default(), Vec::new());
        writer.series(&labels);
        samples.iter().for_each(|&(t, v)| writer.sample(v, t, &mut out));
        OpenMetricsWriter::end(&mut out);
        let text = String::from_utf8(out).expect("text");
        let read = take_all(&text).expect("readable");
        proptest::prop_assert_eq!(read.len(), samples.len());
        for (read, (t, v)) in read.iter().zip(samples) {
            proptest::prop_assert_eq!(&read.labels, &labels);
            proptest::prop_assert_eq!(read.timestamp, Some(t));
            proptest::prop_assert!(read.value == v || (read.value.is_nan() && v.is_nan()));
        }
    }
}
