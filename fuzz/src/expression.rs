//! Expressions of PromQL made of arbitrary bytes: each byte picks among what the grammar allows there, so that
//! few inputs are lost to syntax errors. Types are mostly right; where they are not, the parser says so.

/// Bytes that decide. When they have run out, whatever comes first is taken.
pub struct Choices<'a>(&'a [u8]);

const NAMES: &[&str] =
    &["m", "c", "h", "x{k=\"a\"}", "{__name__=~\"m|h\"}", "{\"a.b\", k!=\"\"}", "sum", "{a=~\"\",b=\"c\"}"];
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "0.5",
    "2.5e3",
    "NaN",
    "Inf",
    "-Inf",
    "1e308",
    "5e-324",
    "0x1F",
    "5m",
    "3",
    "time()",
    "pi()",
    "100",
    "scalar(m)",
    "step()",
];
const DURATIONS: &[&str] = &[
    "1m",
    "15s",
    "1ms",
    "10m",
    "1h30m",
    "30",
    "0.001",
    "step()",
    "(1m + 2) * 3",
    "min_of(range(), 5m)",
    "-(-1m)",
    "2 ^ 4",
];
/// Those of [`DURATIONS`] that may be milliseconds.
const TINY: &[&str] = &["1ms", "0.001", "step()"];
const SHORT: &[&str] = &["1s", "0.2", "2ms", "step() * 30"];
const MODIFIERS: &[&str] = &[
    "",
    "",
    "",
    "",
    " offset 20s",
    " offset -1m",
    " @ 100",
    " @ start()",
    " @ end() offset 1m",
    " @ -1.5",
    " anchored",
    " smoothed",
    " offset (step() * 2)",
];
const OPERATORS: &[&str] = &[
    "+", "-", "*", "/", "%", "^", "atan2", "==", "!=", "<", "> bool", ">=", "<= bool", "and", "or", "unless",
    "</", ">/",
];
const MATCHINGS: &[&str] = &[
    "",
    "",
    "",
    "on (k)",
    "ignoring (k)",
    "on (k) group_left ()",
    "ignoring (le) group_right (j)",
    "on () group_left (\"k\")",
    "fill (1)",
    "on (k) fill_left (2) fill_right (-1)",
];
const AGGREGATIONS: &[&str] = &[
    "sum",
    "avg",
    "min",
    "max",
    "count",
    "group",
    "stddev",
    "stdvar",
    "topk(2,",
    "bottomk(1,",
    "quantile(0.3,",
    "count_values(\"v\",",
    "limitk(2,",
    "limit_ratio(-0.5,",
];
const GROUPINGS: &[&str] = &["", " by (k)", " without (le)", " by ()", " by (k, \"a.b\")"];
const OVER: &[&str] = &[
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "resets",
    "changes",
    "deriv",
    "avg_over_time",
    "sum_over_time",
    "min_over_time",
    "max_over_time",
    "count_over_time",
    "last_over_time",
    "first_over_time",
    "present_over_time",
    "absent_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "mad_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
];
const MAPS: &[&str] = &[
    "abs",
    "ceil",
    "exp",
    "ln",
    "sqrt",
    "sgn",
    "acosh",
    "day_of_month",
    "year",
    "round",
    "histogram_count",
    "histogram_sum",
    "histogram_avg",
    "histogram_stddev",
    "histogram_stdvar",
    "timestamp",
    "absent",
    "sort",
    "sort_desc",
    "start_timestamp",
    "info",
    "-",
    "+",
    "floor",
    "days_in_month",
    "",
];

impl<'a> Choices<'a> {
    /// Choices by these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Whether bytes are left.
    pub fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// One of the words.
    pub fn pick<'w>(&mut self, words: &[&'w str]) -> &'w str {
        words[usize::from(self.byte()) % words.len()]
    }

    /// A range vector.
    fn matrix(&mut self, depth: u32) -> String {
        if self.byte() % 4 == 0 && depth > 0 {
            let inner = self.vector(depth - 1);
            let step = if self.byte() % 2 == 0 { "" } else { self.pick(DURATIONS) };
            // Millions of steps find nothing that a thousand do not.
            let range = if TINY.contains(&step) { self.pick(SHORT) } else { self.pick(DURATIONS) };
            return format!("({inner})[{range}:{step}]{}", self.pick(MODIFIERS));
        }
        format!("{}[{}]{}", self.pick(NAMES), self.pick(DURATIONS), self.pick(MODIFIERS))
    }

    /// An instant vector whose parts are nested at most `depth` deep.
    pub fn vector(&mut self, depth: u32) -> String {
        if depth == 0 || !self.any() {
            return format!("{}{}", self.pick(NAMES), self.pick(MODIFIERS));
        }
        let d = depth - 1;
        match self.byte() % 14 {
            0 => format!("{}{}", self.pick(NAMES), self.pick(MODIFIERS)),
            1 => format!("vector({})", self.pick(NUMBERS)),
            2 | 3 => format!("{}({})", self.pick(OVER), self.matrix(d)),
            4 => format!("{}({})", self.pick(MAPS), self.vector(d)),
            5 => format!("({}) {} {}", self.vector(d), self.pick(OPERATORS), self.pick(NUMBERS)),
            6 => format!("{} {} {}", self.pick(NUMBERS), self.pick(OPERATORS), self.vector(d)),
            7 | 8 => format!(
                "({}) {} {} {}",
                self.vector(d),
                self.pick(OPERATORS),
                self.pick(MATCHINGS),
                self.vector(d)
            ),
            9 => {
                let (op, grouping) = (self.pick(AGGREGATIONS), self.pick(GROUPINGS));
                let open = if op.ends_with(',') { ' ' } else { '(' };
                format!("{op}{open}{}){grouping}", self.vector(d))
            }
            10 => format!("histogram_quantile({}, {})", self.pick(NUMBERS), self.vector(d)),
            11 => format!("label_replace({}, \"k\", \"z$1\", \"k\", \"(a|b)\")", self.vector(d)),
            12 => format!("clamp({}, {}, {})", self.vector(d), self.pick(NUMBERS), self.pick(NUMBERS)),
            _ => match self.byte() % 5 {
                0 => format!(
                    "histogram_fraction({}, {}, {})",
                    self.pick(NUMBERS),
                    self.pick(NUMBERS),
                    self.vector(d)
                ),
                1 => format!("quantile_over_time({}, {})", self.pick(NUMBERS), self.matrix(d)),
                2 => format!("predict_linear({}, {})", self.matrix(d), self.pick(NUMBERS)),
                3 => format!("double_exponential_smoothing({}, 0.3, 0.6)", self.matrix(d)),
                _ => format!("label_join({}, \"__name__\", \"-\", \"k\", \"j\")", self.vector(d)),
            },
        }
    }
}
