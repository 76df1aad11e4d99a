//! Random expressions that both servers understand and that have one right answer.

/// Makes expressions from a seed.
pub(crate) struct Generator {
    state: u64,
    /// Within a subquery: another one would have its windows end on full minutes, where 2.42 counts
    /// the left edge in.
    in_subquery: bool,
    /// What `@` counts back from, seconds since 1970.
    pin_s: i64,
}

impl Generator {
    /// The same seed gives the same expressions; `@` pins them to times before `pin_s`.
    pub(crate) fn new(seed: u64, pin_s: i64) -> Self {
        Self { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, in_subquery: false, pin_s }
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
        let modifier = self.modifier();
        format!("{name}{matchers}{modifier}")
    }

    /// `offset` and `@`, mostly neither.
    fn modifier(&mut self) -> String {
        match self.below(12) {
            0 => " offset 3m".to_owned(),
            1 => " offset -2m".to_owned(),
            2 => " @ end()".to_owned(),
            3 => self.pick(&[" @ start()", " @ start() offset -1m", " offset 2m @ end()"]).to_owned(),
            4 => format!(" @ {}", self.pin_s - 60 * (1 + self.below(30) as i64)),
            5 => format!(" @ {}.5 offset 1m", self.pin_s - 60 * (1 + self.below(20) as i64)),
            _ => String::new(),
        }
    }

    fn matrix(&mut self, depth: u64) -> String {
        let range = self.pick(&["1m", "2m", "5m", "7m30s", "20m"]);
        if self.below(4) == 0 && !self.in_subquery {
            let step = self.pick(&["1m", "20s", "2m"]);
            self.in_subquery = true;
            let inner = self.vector(depth - 1);
            self.in_subquery = false;
            let modifier = self.modifier();
            return format!("({inner})[{range}:{step}]{modifier}");
        }
        let name = self.pick(&["load", "requests_total", "requests_total", "sparse", "latency_bucket"]);
        let matchers = self.pick(&["", "", "{job=\"db\"}", "{instance!=\"a:1\"}"]);
        let modifier = self.modifier();
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
            // With `@`, 2.42 loses points of predict_linear.
            1 if !matrix.contains('@') => {
                format!("predict_linear({matrix}, {})", self.pick(&["60", "3600", "-30"]))
            }
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
        match self.below(13) {
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
            6 => format!(
                "job_info {} on (job) group_right ({}) load{}",
                self.pick(&["*", "+", "-", "< bool", "<="]),
                self.pick(&["team", "", "team, zone"]),
                self.modifier()
            ),
            7 => format!(
                "requests_total{} {} on (instance, job) group_left ({}) load",
                self.modifier(),
                self.pick(&["/", "-", "> bool", "!=", "=="]),
                self.pick(&["zone", ""])
            ),
            8 => {
                let op = self.pick(&["and", "or", "unless"]);
                let matching = self.pick(&[
                    "on (job)",
                    "on (job, instance)",
                    "ignoring (zone, code)",
                    "on ()",
                    "ignoring (le)",
                ]);
                format!("({inner}) {op} {matching} ({})", self.vector(depth - 1))
            }
            // Of exact values: comparisons make much of a last digit, too.
            9 => format!(
                "max by (job) ({}) {} min by (job) ({})",
                self.selector(),
                self.pick(&["== bool", "> bool", "<", "!= bool", ">="]),
                self.selector()
            ),
            10 => format!("({inner}) {} ({inner})", self.pick(&["+", "and", "or", "unless"])),
            11 => format!(
                "({inner}) {} scalar({})",
                self.arithmetic(),
                self.pick(&["sum(load)", "load", "max(sparse)"])
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
        match self.below(6) {
            0 => {
                let (to, from) =
                    (self.pick(&["job", "instance", "zone", "code"]), self.pick(&["job", "team", "le"]));
                return format!("label_replace({inner}, \"{to}\", \"$1$2\", \"{from}\", \"(.)(.*)\")");
            }
            1 => {
                return format!(
                    "label_join({inner}, \"{}\", \"\", \"zone\", \"code\", \"none\")",
                    self.pick(&["zone", "new"])
                );
            }
            2 => return format!("{}({inner})", self.pick(&["sort", "sort_desc"])),
            _ => {}
        }
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
            // With `@`, 2.42 forgets the offset of what timestamp() is asked of.
            5 if self.below(2) == 0 => {
                let modifier = self.modifier();
                let modifier = if modifier.contains("offset") { " @ end()" } else { &modifier };
                format!("timestamp(load{modifier})")
            }
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
