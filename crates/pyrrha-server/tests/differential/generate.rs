//! Random expressions that both servers understand and that have one right answer.

/// Makes expressions from a seed.
pub(crate) struct Generator {
    state: u64,
    /// Within a subquery: another one would have its windows end on full minutes, where 2.42 counts
    /// the left edge in.
    in_subquery: bool,
}

impl Generator {
    /// The same seed gives the same expressions.
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, in_subquery: false }
    }

    /// The next expression, an instant vector or scalar.
    pub(crate) fn expression(&mut self) -> String {
        let depth = 1 + self.below(3);
        self.vector(depth)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % n
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn vector(&mut self, depth: u64) -> String {
        if depth == 0 {
            return self.selector();
        }
        match self.below(10) {
            0..=1 => self.range_function(depth),
            2..=3 => self.aggregation(depth),
            4..=5 => self.binary(depth),
            6 => self.math(depth),
            7 => self.labels(depth),
            8 => self.other(depth),
            _ => self.selector(),
        }
    }

    fn selector(&mut self) -> String {
        let name = self.pick(&["load", "load", "requests_total", "sparse", "latency_bucket", "job_info"]);
        let matchers = self.pick(&[
            "",
            "",
            "{job=\"api\"}",
            "{job!=\"api\"}",
            "{job=~\"a.*|db\"}",
            "{job!~\"d.\"}",
            "{instance=~\"[ab]:1\"}",
            "{code=\"\"}",
            "{code!=\"200\"}",
            "{zone=~\"x|\"}",
            "{zone!~\".+\"}",
        ]);
        let modifier = self.pick(&["", "", "", "", " offset 3m", " offset -2m"]);
        format!("{name}{matchers}{modifier}")
    }

    fn matrix(&mut self, depth: u64) -> String {
        let range = self.pick(&["1m", "2m", "5m", "7m30s", "20m"]);
        if self.below(4) == 0 && !self.in_subquery {
            let step = self.pick(&["1m", "20s", "2m"]);
            self.in_subquery = true;
            let inner = self.vector(depth - 1);
            self.in_subquery = false;
            return format!("({inner})[{range}:{step}]");
        }
        let name = self.pick(&["load", "requests_total", "requests_total", "sparse", "latency_bucket"]);
        let matchers = self.pick(&["", "", "{job=\"db\"}", "{instance!=\"a:1\"}"]);
        let modifier = self.pick(&["", "", "", " offset 4m"]);
        format!("{name}{matchers}[{range}]{modifier}")
    }

    fn range_function(&mut self, depth: u64) -> String {
        let matrix = self.matrix(depth);
        match self.below(10) {
            // Extrapolation towards zero differs in 2.42: only counters far from zero.
            2..=4 => {
                let function = self.pick(&["rate", "rate", "increase", "irate"]);
                let range = self.pick(&["1m", "2m", "5m", "7m30s", "20m"]);
                let matchers = self.pick(&["", "{job=\"db\"}", "{code!=\"200\"}"]);
                format!("{function}(requests_total{matchers}[{range}])")
            }
            0 => format!("quantile_over_time({}, {matrix})", self.pick(&["0.1", "0.5", "0.99", "0", "1"])),
            1 => format!("predict_linear({matrix}, {})", self.pick(&["60", "3600", "-30"])),
            // Equality makes much of a last digit, too.
            6 => {
                let function = self.pick(&["changes", "resets"]);
                let range = self.pick(&["2m", "5m", "20m"]);
                format!("{function}({}[{range}])", self.pick(&["load", "sparse", "requests_total"]))
            }
            // On infinities, which functions make of large values, 2.42 gives 0 or NaN.
            5 => {
                let function = self.pick(&["stddev_over_time", "stdvar_over_time"]);
                let range = self.pick(&["2m", "5m", "20m"]);
                format!("{function}({}[{range}])", self.pick(&["load", "sparse", "requests_total"]))
            }
            _ => {
                let function = self.pick(&[
                    "delta",
                    "idelta",
                    "deriv",
                    "avg_over_time",
                    "sum_over_time",
                    "min_over_time",
                    "max_over_time",
                    "count_over_time",
                    "last_over_time",
                    "present_over_time",
                    "absent_over_time",
                ]);
                format!("{function}({matrix})")
            }
        }
    }

    fn grouping(&mut self) -> &'static str {
        self.pick(&[
            "",
            " by (job)",
            " by (job, instance)",
            " without (instance)",
            " by (code)",
            " without (code, zone)",
            " by ()",
        ])
    }

    fn aggregation(&mut self, depth: u64) -> String {
        let (grouping, inner) = (self.grouping(), self.vector(depth - 1));
        match self.below(7) {
            0 => format!("topk{grouping} ({}, load)", self.pick(&["1", "3", "100"])),
            1 => format!("bottomk{grouping} ({}, load)", self.pick(&["1", "2"])),
            2 => format!("quantile{grouping} ({}, {inner})", self.pick(&["0.5", "0.9", "0", "1"])),
            // As above: no infinities.
            4 => format!("{}{grouping} ({})", self.pick(&["stddev", "stdvar"]), self.selector()),
            3 => format!("count_values{grouping} (\"v\", job_info + {})", self.pick(&["0", "1.5", "1e22"])),
            _ => {
                let op = self.pick(&["sum", "sum", "avg", "min", "max", "count", "group"]);
                format!("{op}{grouping} ({inner})")
            }
        }
    }

    fn binary(&mut self, depth: u64) -> String {
        let inner = self.vector(depth - 1);
        match self.below(7) {
            0 => format!("({inner}) {} {}", self.arithmetic(), self.number()),
            1 => format!("{} {} ({inner})", self.number(), self.arithmetic()),
            2 => format!(
                "({inner}) {} {}",
                self.pick(&["> bool", "<", ">=", "== bool", "!=", "<= bool"]),
                self.number()
            ),
            3 => format!("({inner}) {} {}", self.pick(&["and", "or", "unless"]), self.selector()),
            4 => format!(
                "load {} on (job) group_left ({}) job_info",
                self.pick(&["*", "+", "/"]),
                self.pick(&["team", ""])
            ),
            5 => format!(
                "sum by (job) ({inner}) {} on (job) {} by (job) (load)",
                self.pick(&["/", "-", ">", "and", "unless"]),
                self.pick(&["avg", "max", "count"])
            ),
            _ => format!(
                "load {} ignoring (zone) sum without (zone) (load)",
                self.pick(&["+", "==", "-", "% "])
            ),
        }
    }

    fn arithmetic(&mut self) -> &'static str {
        // Not atan2, which kept the metric name in 2.42, nor %, which makes much of a last digit.
        self.pick(&["+", "-", "*", "/", "^"])
    }

    fn number(&mut self) -> &'static str {
        self.pick(&["0", "1", "2.5", "-3", "100", "0x10", "1e3"])
    }

    fn math(&mut self, depth: u64) -> String {
        let inner = self.vector(depth - 1);
        match self.below(6) {
            0 => format!("round({inner}, {})", self.pick(&["100", "500"])),
            1 => format!("clamp({inner}, {}, {})", self.pick(&["-10", "0"]), self.pick(&["10", "100"])),
            2 => format!("clamp_max({inner}, 5)"),
            3 => format!("-({inner})"),
            // Of large values these make much of a last digit.
            4 => format!("{}({})", self.pick(&["sin", "cos", "tan"]), self.selector()),
            _ => {
                let function = self.pick(&[
                    "abs",
                    "ceil",
                    "floor",
                    "exp",
                    "sqrt",
                    "ln",
                    "log2",
                    "log10",
                    "sgn",
                    "atan",
                    "sinh",
                    "tanh",
                    "asinh",
                    "deg",
                    "rad",
                    "minute",
                    "hour",
                    "day_of_week",
                    "month",
                    "year",
                    "days_in_month",
                ]);
                format!("{function}({inner})")
            }
        }
    }

    fn labels(&mut self, depth: u64) -> String {
        let inner = self.vector(depth - 1);
        if self.below(2) == 0 {
            let (replacement, regex) =
                (self.pick(&["$1", "x-$1-y", ""]), self.pick(&["(.*)", "(.)b?.*", "a(.*)"]));
            return format!("label_replace({inner}, \"new\", \"{replacement}\", \"job\", \"{regex}\")");
        }
        format!("label_join({inner}, \"new\", \"-\", \"job\", \"instance\")")
    }

    fn other(&mut self, depth: u64) -> String {
        match self.below(if self.in_subquery { 8 } else { 9 }) {
            0 => format!(
                "histogram_quantile({}, rate(latency_bucket[5m]))",
                self.pick(&["0.5", "0.9", "0", "1"])
            ),
            1 => "histogram_quantile(0.9, sum by (le) (rate(latency_bucket[2m])))".to_owned(),
            2 => format!("absent({})", self.selector()),
            3 => format!("scalar({})", self.pick(&["job_info{job=\"db\"}", "load", "sum(load)"])),
            4 => format!("vector({})", self.pick(&["1", "time()", "scalar(sum(load))"])),
            5 => format!("timestamp({})", self.pick(&["load", "sparse", "load offset 1m", "(load + 1)"])),
            6 => format!("sum(load @ {}) + sum(load)", self.pick(&["end()", "start()"])),
            7 => "time() - timestamp(load)".to_owned(),
            _ => {
                format!("max_over_time(rate(requests_total[2m])[{}:1m])", self.pick(&["5m", "10m"]))
                    + &self.suffix(depth)
            }
        }
    }

    fn suffix(&mut self, depth: u64) -> String {
        if depth > 1 { format!(" * {}", self.number()) } else { String::new() }
    }
}
