//! Random expressions with random parameters: whatever is asked, the answer is Prometheus' envelope,
//! and never an internal error.
//!
//! Environment: `PYRRHA_HOSTILE_QUERIES` (600), `PYRRHA_HOSTILE_SEED` (1).

use pyrrha_model::{FloatHistogram, contract};

use super::*;

/// A seed's state, and whether what it makes may be nonsense.
struct Generator(u64, bool);

impl Generator {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % n as u64) as usize
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn number(&mut self) -> &'static str {
        if !self.1 {
            return self.pick(&["0", "1", "-1", "2.5", "0.5", "NaN", "Inf", "1e308", "0.3", "60"]);
        }
        self.pick(&[
            "0",
            "1",
            "-1",
            "2.5",
            "NaN",
            "Inf",
            "-Inf",
            "1e308",
            "-1e308",
            "5e-324",
            "0x1F",
            "1_000",
            "9223372036854775807",
            "-9223372036854775809",
            "1e19",
            "5m",
            "1h30m",
            "300y",
            "077",
        ])
    }

    fn duration(&mut self) -> String {
        if !self.1 {
            return self.pick(&["1s", "30s", "1m", "5m", "1h", "1d", "90", "1m * 2"]).to_owned();
        }
        match self.below(6) {
            0 => self.number().to_owned(),
            1 => {
                format!("{} {} {}", self.number(), self.pick(&["+", "-", "*", "/", "%", "^"]), self.number())
            }
            2 => self
                .pick(&["step()", "range()", "min_of(step(), 1m)", "max_of(range(), 5m)", "-step()", "(1m)"])
                .to_owned(),
            _ => self
                .pick(&["1ms", "1s", "30s", "1m", "5m", "1h", "1d", "1w", "10y", "290y", "1ms1ms"])
                .to_owned(),
        }
    }

    fn selector(&mut self) -> String {
        let name = self.pick(&[
            "up",
            "gauge",
            "counter_total",
            "hist",
            "nhcb",
            "mixed",
            "b_bucket",
            "target_info",
            "",
            "none",
        ]);
        if !self.1 {
            let name = if name.is_empty() { "up" } else { name };
            return format!("{name}{}", self.pick(&["", "", "{i=\"a\"}", "{i!~\"b\"}", "{le!=\"\"}"]));
        }
        let matchers = self.pick(&[
            "",
            "",
            "{i=\"a\"}",
            "{i!=\"\"}",
            "{i=~\".*\"}",
            "{i!~\"a|b\"}",
            "{}",
            "{\"a.b\"=\"c\"}",
            "{__name__=~\".+\"}",
            "{i=~\"(\"}",
            "{i=~\"a{2000}\"}",
            "{i=~\"[[:foo:]]\"}",
            "{le=\"+Inf\"}",
            "{\"up\"}",
            "{i=\"\\xff\"}",
            "{i=\"\u{1F600}\"}",
        ]);
        format!("{name}{matchers}")
    }

    fn modifiers(&mut self) -> String {
        if !self.1 {
            return self.pick(&["", "", "", " offset 1m", " @ end()", " offset -30s"]).to_owned();
        }
        let mut out = String::new();
        for _ in 0..self.below(3) {
            out += &match self.below(5) {
                0 => format!(" offset {}", self.duration()),
                1 => format!(" offset -{}", self.duration()),
                2 => format!(" @ {}", self.number()),
                3 => self.pick(&[" @ start()", " @ end()"]).to_owned(),
                _ => self.pick(&[" anchored", " smoothed", ""]).to_owned(),
            };
        }
        out
    }

    fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            return if self.below(4) == 0 {
                format!("vector({})", self.number())
            } else {
                self.selector() + &self.modifiers()
            };
        }
        let d = depth - 1;
        match self.below(if self.1 { 12 } else { 9 }) {
            0..=2 => self.call(d),
            3 | 4 => self.aggregation(d),
            5 | 6 => self.binary(d),
            7 => format!("-({})", self.vector(d)),
            8 => format!("({})", self.vector(d)),
            9 => self.matrix(d),
            10 => format!("\"{}\"", self.pick(&["", "a", "\\n", "$1"])),
            _ => self.selector() + &self.modifiers(),
        }
    }

    fn matrix(&mut self, depth: usize) -> String {
        let range = self.duration();
        let modifiers = self.modifiers();
        if self.below(3) == 0 {
            let step = if self.below(2) == 0 { String::new() } else { self.duration() };
            return format!("({})[{range}:{step}]{modifiers}", self.vector(depth.saturating_sub(1)));
        }
        format!("{}[{range}]{modifiers}", self.selector())
    }

    fn call(&mut self, depth: usize) -> String {
        // All that there are, and some that there are not.
        const FUNCTIONS: &[&str] = &[
            "abs",
            "absent",
            "absent_over_time",
            "acos",
            "acosh",
            "asin",
            "asinh",
            "atan",
            "atanh",
            "avg_over_time",
            "ceil",
            "changes",
            "clamp",
            "clamp_max",
            "clamp_min",
            "cos",
            "cosh",
            "count_over_time",
            "day_of_month",
            "day_of_week",
            "day_of_year",
            "days_in_month",
            "deg",
            "delta",
            "deriv",
            "double_exponential_smoothing",
            "end",
            "exp",
            "first_over_time",
            "floor",
            "histogram_avg",
            "histogram_count",
            "histogram_fraction",
            "histogram_quantile",
            "histogram_quantiles",
            "histogram_stddev",
            "histogram_stdvar",
            "histogram_sum",
            "hour",
            "idelta",
            "increase",
            "info",
            "irate",
            "label_join",
            "label_replace",
            "last_over_time",
            "ln",
            "log10",
            "log2",
            "mad_over_time",
            "max_of",
            "max_over_time",
            "min_of",
            "min_over_time",
            "minute",
            "month",
            "pi",
            "predict_linear",
            "present_over_time",
            "quantile_over_time",
            "rad",
            "range",
            "rate",
            "resets",
            "round",
            "scalar",
            "sgn",
            "sin",
            "sinh",
            "sort",
            "sort_by_label",
            "sort_by_label_desc",
            "sort_desc",
            "sqrt",
            "start",
            "start_timestamp",
            "stddev_over_time",
            "stdvar_over_time",
            "step",
            "sum_over_time",
            "tan",
            "tanh",
            "time",
            "timestamp",
            "ts_of_first_over_time",
            "ts_of_last_over_time",
            "ts_of_max_over_time",
            "ts_of_min_over_time",
            "vector",
            "year",
            "holt_winters",
            "nonsense",
        ];
        let name = self.pick(FUNCTIONS);
        let vector = self.vector(depth);
        match name {
            "label_replace" => {
                let (to, from) = (
                    self.pick(&["new", "i", "__name__", "", "a b", "le"]),
                    self.pick(&["i", "none", "__name__"]),
                );
                let regex = self.pick(&["(.*)", "(", "", "(?P<x>.)", "a|b", ".{1001}"]);
                let with = self.pick(&["$1", "${x}", "$99", "", "\\xff"]);
                format!("label_replace({vector}, \"{to}\", \"{with}\", \"{from}\", \"{regex}\")")
            }
            "label_join" => format!(
                "label_join({vector}, \"{}\", \"-\", \"i\", \"le\")",
                self.pick(&["new", "", "i", "__name__"])
            ),
            "histogram_quantile" => format!("{name}({}, {vector})", self.number()),
            "histogram_quantiles" => format!(
                "{name}({vector}, \"{}\", {}, {})",
                self.pick(&["q", "", "le"]),
                self.number(),
                self.number()
            ),
            "histogram_fraction" | "clamp" => {
                format!("histogram_fraction({}, {}, {vector})", self.number(), self.number())
            }
            "quantile_over_time" => format!("{name}({}, {})", self.number(), self.matrix(depth)),
            "predict_linear" => format!("{name}({}, {})", self.matrix(depth), self.number()),
            "double_exponential_smoothing" => {
                format!("{name}({}, {}, 0.5)", self.matrix(depth), self.pick(&["0.3", "2"]))
            }
            "time" | "pi" | "start" | "end" | "step" | "range" => format!("{name}()"),
            "min_of" | "max_of" => format!("{name}({}, time())", self.number()),
            "info" => {
                format!("info({vector}{})", self.pick(&["", ", {}", ", {i=\"a\"}", ", {__name__=~\".+\"}"]))
            }
            "sort_by_label" | "sort_by_label_desc" => format!("{name}({vector}, \"i\")"),
            "round" | "clamp_max" | "clamp_min" => format!("{name}({vector}, {})", self.number()),
            name if name.contains("over_time")
                || ["rate", "irate", "increase", "delta", "idelta", "deriv", "changes", "resets"]
                    .contains(&name) =>
            {
                format!("{name}({})", self.matrix(depth))
            }
            _ => format!("{name}({vector})"),
        }
    }

    fn aggregation(&mut self, depth: usize) -> String {
        let by =
            self.pick(&["", " by (i)", " without (i, le)", " by ()", " by (\"a.b\")", " without (__name__)"]);
        let vector = self.vector(depth);
        match self.below(4) {
            0 => format!(
                "{}{by} ({}, {vector})",
                self.pick(&["topk", "bottomk", "quantile", "limitk", "limit_ratio"]),
                self.number()
            ),
            1 => format!("count_values{by} (\"{}\", {vector})", self.pick(&["v", "", "i", "a b"])),
            _ => format!(
                "{}{by} ({vector})",
                self.pick(&["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"])
            ),
        }
    }

    fn binary(&mut self, depth: usize) -> String {
        let (a, b) = (self.vector(depth), self.vector(depth));
        let op = self.pick(&[
            "+", "-", "*", "/", "%", "^", "atan2", "==", "!=", "> bool", "<", ">=", "<= bool", "and", "or",
            "unless", "</", ">/",
        ]);
        let matching = self.pick(&[
            "",
            "",
            " on ()",
            " on (i)",
            " ignoring (i)",
            " ignoring () group_left",
            " on (i) group_right (le)",
            " on (i) group_left (i)",
            " fill (0)",
            " on (i) fill_left (NaN) fill_right (1)",
        ]);
        format!("({a}) {op}{matching} ({b})")
    }

    /// Now and then something that is no expression.
    fn query(&mut self) -> String {
        let depth = self.below(5);
        self.1 = self.below(4) == 0;
        let mut text = self.vector(depth);
        if self.1 && self.below(3) == 0 {
            let at = (0..=text.len()).filter(|i| text.is_char_boundary(*i)).collect::<Vec<_>>();
            let (from, to) = (at[self.below(at.len())], at[self.below(at.len())]);
            let with = self.pick(&["", "(", "}", "\"", "\0", "[", " by ", "é", "# ", "`", "@", "e"]);
            text.replace_range(from.min(to)..from.max(to), with);
        }
        text
    }

    fn time(&mut self) -> String {
        match self.below(if self.1 { 5 } else { 1 }) + usize::from(!self.1) {
            0 => self
                .pick(&[
                    "0",
                    "-1",
                    "1e18",
                    "-1e18",
                    "NaN",
                    "Inf",
                    "now",
                    "",
                    "1700000000.0005",
                    "2023-11-14T22:13:20Z",
                    "9e15",
                ])
                .to_owned(),
            _ => (T / 1000 + self.below(600) as i64 - 100).to_string(),
        }
    }

    fn parameters(&mut self, range: bool) -> String {
        let mut out = String::new();
        let mut add = |name: &str, value: String| out += &format!("&{name}={}", encode(&value));
        if range {
            let start = T / 1000 + self.below(300) as i64 - 100;
            if self.1 && self.below(3) == 0 {
                add("start", self.time());
                add("end", self.time());
            } else {
                add("start", start.to_string());
                add("end", (start + self.below(400) as i64).to_string());
            }
            let step = if self.1 {
                self.pick(&["1", "60", "0.001", "0", "-1", "1e300", "290y", ""])
            } else {
                self.pick(&["1", "15", "60", "7.5", "1m"])
            };
            add("step", step.to_owned());
        } else {
            add("time", self.time());
        }
        if self.1 && self.below(4) == 0 {
            add("limit", self.pick(&["0", "1", "-1", "x", "99999999999999999999", "3"]).to_owned());
        }
        if self.1 && self.below(4) == 0 {
            add(
                "lookback_delta",
                self.pick(&["1m", "0", "-5m", "290y", "1ms", "x", "NaN", "1e300"]).to_owned(),
            );
        }
        if self.below(4) == 0 {
            add("stats", self.pick(&["true", "all", "none", "%"]).to_owned());
        }
        if self.below(4) == 0 {
            add("explain", "true".to_owned());
        }
        let timeout = if self.1 { self.pick(&["2s", "1ms", "0", "-1", "x"]) } else { "2s" };
        add("timeout", timeout.to_owned());
        out
    }
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { (b as char).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Floats, histograms of both kinds, a series that is both, stale markers, values at the edges.
fn hostile_app() -> Arc<App> {
    let flags = Flags {
        query_memory_budget: Some("32MiB".into()),
        query_max_samples: Some(2_000_000),
        enable_feature: [
            "promql-experimental-functions",
            "promql-extended-range-selectors",
            "promql-binop-fill-modifiers",
            "promql-per-step-stats",
            "use-start-timestamps",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..Flags::default()
    };
    let settings = Settings::resolve(flags).expect("valid");
    let app = App::new(settings, Arc::new(SystemClock::new())).expect("put together");
    let db = ModelDb::new();
    let mut appender = db.appender(&TenantId::anonymous()).expect("open");
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let edges =
        [0.0, -0.0, 1.0, f64::MAX, f64::MIN, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5e-324, stale];
    let mut floats = |labels: &[(&str, &str)], value: &dyn Fn(usize) -> f64| {
        let series = appender.resolve(None, &Labels::from_pairs(labels.iter().copied())).expect("resolved");
        for i in 0..20 {
            appender.append(series, 0, T + i as i64 * 15_000, value(i)).expect("appended");
        }
    };
    for (n, i) in ["a", "b"].into_iter().enumerate() {
        floats(&[("__name__", "up"), ("i", i)], &|k| (k % 2 + n) as f64);
        floats(&[("__name__", "gauge"), ("i", i), ("a.b", "c")], &|k| edges[(k + n) % edges.len()]);
        floats(&[("__name__", "counter_total"), ("i", i)], &|k| (k % 7 * 10) as f64);
        floats(&[("__name__", "target_info"), ("i", i), ("job", "j"), ("instance", i)], &|_| 1.0);
        for (b, le) in ["0.1", "1", "+Inf", "x"].into_iter().enumerate() {
            floats(&[("__name__", "b_bucket"), ("i", i), ("le", le)], &|k| ((b + 1) * k) as f64);
        }
    }
    for (name, scale) in [("hist", 0), ("nhcb", -53), ("mixed", 2)] {
        let series =
            appender.resolve(None, &Labels::from_pairs([("__name__", name), ("i", "a")])).expect("resolved");
        for k in 0..20 {
            let t = T + k * 15_000;
            if name == "mixed" && k % 3 == 0 {
                appender.append(series, 0, t, k as f64).expect("appended");
                continue;
            }
            let mut h = FloatHistogram {
                schema: scale,
                count: (3 * k) as f64,
                sum: k as f64 * 2.5,
                positive_spans: vec![pyrrha_model::histogram::Span { offset: 0, length: 2 }],
                positive_buckets: vec![k as f64, (2 * k) as f64],
                ..FloatHistogram::default()
            };
            if name == "nhcb" {
                h.custom_values = vec![1.0, 2.0, 5.0].into();
            }
            appender
                .append_histogram(series, 0, t, contract::Value::FloatHistogram(Box::new(h)))
                .expect("appended");
        }
    }
    appender.commit().expect("committed");
    app.set_store(Arc::new(db));
    Arc::new(app)
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_queries_get_a_proper_answer() {
    let app = hostile_app();
    let (queries, seed) = (setting("PYRRHA_HOSTILE_QUERIES", 600), setting("PYRRHA_HOSTILE_SEED", 1));
    let mut generator = Generator(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, false);
    let mut codes = std::collections::BTreeMap::<u16, u64>::new();
    for number in 0..queries {
        let query = generator.query();
        let range = number % 2 == 0;
        let path = if range { "query_range" } else { "query" };
        let uri = format!("/api/v1/{path}?query={}{}", encode(&query), generator.parameters(range));
        let answer = get_(&app, &uri).await;
        *codes.entry(answer.code).or_default() += 1;
        assert!(
            [200, 400, 422, 503].contains(&answer.code),
            "{}: {query}\n{uri}\n{}",
            answer.code,
            answer.text
        );
        let json = answer.json();
        let good = answer.code == 200;
        assert_eq!(json["status"], if good { "success" } else { "error" }, "{uri}");
        assert!(good || json["error"].as_str().is_some_and(|e| !e.is_empty()), "{uri}: {json}");
        let formatted = get_(&app, &format!("/api/v1/format_query?query={}", encode(&query))).await;
        if formatted.code == 200 {
            let text = formatted.json()["data"].as_str().unwrap_or("").to_owned();
            let again = get_(&app, &format!("/api/v1/format_query?query={}", encode(&text))).await;
            // A duration of less than a millisecond prints as none, as it does in Prometheus.
            assert!(again.json()["data"] == text || text.contains("0s"), "{query}: {text}: {}", again.text);
            assert_eq!(
                get_(&app, &format!("/api/v1/parse_query?query={}", encode(&query))).await.code,
                200,
                "{query}"
            );
        } else {
            assert_eq!(formatted.code, 400, "{query}");
            assert!(!good, "{query}");
        }
        assert_eq!(app.budgets.used(), 0, "{uri}");
    }
    println!("seed {seed}: {codes:?}");
    assert!(codes.get(&200).copied().unwrap_or(0) > queries / 10, "{codes:?}");
}
