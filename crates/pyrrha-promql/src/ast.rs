//! The syntax tree of PromQL, as the parser builds it and the printer writes it.

use std::fmt;
use std::sync::Arc;

use pyrrha_model::{Matcher, Timestamp};

use crate::function::Function;

/// A byte range of the query text, for error and annotation positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Pos {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// The type of an expression's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One number.
    Scalar,
    /// One sample per series.
    Vector,
    /// A range of samples per series.
    Matrix,
    /// Text.
    String,
}

impl ValueType {
    /// The name in error messages: "instant vector", "range vector", "scalar", "string".
    pub fn describe(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::String => "string",
        }
    }

    /// The name in API results and in "got %s instead": "vector", "matrix", "scalar", "string".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
            Self::String => "string",
        }
    }
}

/// An expression. One of more than 512 levels ([`Expr::height`]) may be dropped, printed and evaluated on any
/// thread; cloning, comparing and debug printing it need a large stack.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// `1.5`, `0x1F`, `Inf`, `5m`.
    Number(NumberLiteral),
    /// `"text"`.
    String(StringLiteral),
    /// `m{a="b"} @ 10 offset 5m`.
    Selector(VectorSelector),
    /// `m[5m]`.
    Matrix(MatrixSelector),
    /// `expr[5m:1m]`.
    Subquery(Subquery),
    /// `(expr)`.
    Paren(Paren),
    /// `-expr`.
    Unary(Unary),
    /// `a + on (x) b`.
    Binary(Binary),
    /// `f(a, b)`.
    Call(Call),
    /// `sum by (x) (expr)`.
    Aggregate(Aggregate),
}

/// A number.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberLiteral {
    /// Its value; a duration's value is in seconds.
    pub value: f64,
    /// Whether it was written as a duration.
    pub duration: bool,
    /// Where.
    pub pos: Pos,
}

/// A string.
#[derive(Debug, Clone, PartialEq)]
pub struct StringLiteral {
    /// Its value, unquoted.
    pub value: String,
    /// Where.
    pub pos: Pos,
}

/// `@ start()` or `@ end()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AtBound {
    /// Start of the query.
    Start,
    /// End of the query.
    End,
}

/// `@` of a selector or subquery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum At {
    /// A fixed time, ms.
    Time(Timestamp),
    /// A bound of the query.
    Bound(AtBound),
}

/// `anchored` or `smoothed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RangeMode {
    /// Neither.
    #[default]
    Classic,
    /// `anchored`
    Anchored,
    /// `smoothed`
    Smoothed,
}

/// A duration as written: fixed, or an expression over `step()` and `range()`.
#[derive(Debug, Clone, PartialEq)]
pub enum Duration {
    /// Milliseconds, may be negative in an offset.
    Fixed(i64),
    /// Known once the query's step and range are.
    Expr(Arc<DurationExpr>),
}

impl Duration {
    /// No duration.
    pub const ZERO: Self = Self::Fixed(0);
}

/// A duration expression.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationExpr {
    /// Seconds, or a duration literal.
    Number(NumberLiteral),
    /// `step()`
    Step(Pos),
    /// `range()`
    Range(Pos),
    /// `min_of(a, b)`
    MinOf(Box<DurationExpr>, Box<DurationExpr>, Pos),
    /// `max_of(a, b)`
    MaxOf(Box<DurationExpr>, Box<DurationExpr>, Pos),
    /// `+a`, `-a`
    Unary {
        /// `-` if true
        negative: bool,
        /// Operand.
        expr: Box<DurationExpr>,
        /// Position of the whole.
        pos: Pos,
    },
    /// `a + b` and the like.
    Binary {
        /// One of `+ - * / % ^`.
        op: BinaryOp,
        /// Left operand.
        lhs: Box<DurationExpr>,
        /// Right operand.
        rhs: Box<DurationExpr>,
        /// Position of the whole.
        pos: Pos,
    },
    /// `(a)`
    Paren(Box<DurationExpr>, Pos),
}

/// An instant selector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// Metric name written before or instead of braces; also among `matchers`.
    pub name: Option<String>,
    /// All matchers, the name's included, in the order written.
    pub matchers: Vec<Matcher>,
    /// `@`
    pub at: Option<At>,
    /// `offset` as written.
    pub offset: Duration,
    /// `anchored` / `smoothed`
    pub mode: RangeMode,
    /// Where, modifiers included.
    pub pos: Pos,
}

/// A range selector; `@`, offset and mode are its selector's.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSelector {
    /// The selector before the brackets.
    pub selector: VectorSelector,
    /// Length of the range.
    pub range: Duration,
    /// Where.
    pub pos: Pos,
}

/// A subquery.
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// What is evaluated.
    pub expr: Box<Expr>,
    /// Length of the range.
    pub range: Duration,
    /// Step; `None` is the default step.
    pub step: Option<Duration>,
    /// `@`
    pub at: Option<At>,
    /// `offset` as written.
    pub offset: Duration,
    /// Where.
    pub pos: Pos,
}

/// A parenthesised expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Paren {
    /// What is inside.
    pub expr: Box<Expr>,
    /// Where, parentheses included.
    pub pos: Pos,
}

/// `+expr` or `-expr`.
#[derive(Debug, Clone, PartialEq)]
pub struct Unary {
    /// `-` if true.
    pub negative: bool,
    /// Operand.
    pub expr: Box<Expr>,
    /// Where.
    pub pos: Pos,
}

/// Binary operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
    /// `atan2`
    Atan2,
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `>`
    Gt,
    /// `<`
    Lt,
    /// `>=`
    Ge,
    /// `<=`
    Le,
    /// `and`
    And,
    /// `or`
    Or,
    /// `unless`
    Unless,
    /// `</`: keep observations below
    TrimUpper,
    /// `>/`: keep observations above
    TrimLower,
}

impl BinaryOp {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::Div,
        Self::Mod,
        Self::Pow,
        Self::Atan2,
        Self::Eq,
        Self::Ne,
        Self::Gt,
        Self::Lt,
        Self::Ge,
        Self::Le,
        Self::And,
        Self::Or,
        Self::Unless,
        Self::TrimUpper,
        Self::TrimLower,
    ];

    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Gt => ">",
            Self::Lt => "<",
            Self::Ge => ">=",
            Self::Le => "<=",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
        }
    }

    /// `== != > < >= <=`
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Eq | Self::Ne | Self::Gt | Self::Lt | Self::Ge | Self::Le)
    }

    /// `and or unless`
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

/// How many samples of each side may match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Cardinality {
    /// One to one.
    #[default]
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// How the sides of a vector/vector operator are matched.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VectorMatching {
    /// Cardinality.
    pub card: Cardinality,
    /// `on` if true, else `ignoring` (also when neither is written).
    pub on: bool,
    /// Labels of `on` or `ignoring`, in the order written.
    pub labels: Vec<String>,
    /// Labels of `group_left` or `group_right`.
    pub include: Vec<String>,
    /// `fill_left`
    pub fill_left: Option<f64>,
    /// `fill_right`
    pub fill_right: Option<f64>,
}

/// A binary expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// Operator.
    pub op: BinaryOp,
    /// Left operand.
    pub lhs: Box<Expr>,
    /// Right operand.
    pub rhs: Box<Expr>,
    /// `bool`
    pub return_bool: bool,
    /// Present iff both operands are instant vectors.
    pub matching: Option<VectorMatching>,
    /// Where, operands included.
    pub pos: Pos,
}

/// A function call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Which.
    pub function: &'static Function,
    /// Arguments as written.
    pub args: Vec<Expr>,
    /// Where.
    pub pos: Pos,
}

/// Aggregation operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AggregateOp {
    /// `sum`
    Sum,
    /// `avg`
    Avg,
    /// `min`
    Min,
    /// `max`
    Max,
    /// `count`
    Count,
    /// `group`
    Group,
    /// `stddev`
    Stddev,
    /// `stdvar`
    Stdvar,
    /// `topk`
    Topk,
    /// `bottomk`
    Bottomk,
    /// `quantile`
    Quantile,
    /// `count_values`
    CountValues,
    /// `limitk`
    Limitk,
    /// `limit_ratio`
    LimitRatio,
}

impl AggregateOp {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Sum,
        Self::Avg,
        Self::Min,
        Self::Max,
        Self::Count,
        Self::Group,
        Self::Stddev,
        Self::Stdvar,
        Self::Topk,
        Self::Bottomk,
        Self::Quantile,
        Self::CountValues,
        Self::Limitk,
        Self::LimitRatio,
    ];

    /// Only with `promql-experimental-functions`.
    pub fn is_experimental(self) -> bool {
        matches!(self, Self::Limitk | Self::LimitRatio)
    }

    /// The operator's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Count => "count",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Topk => "topk",
            Self::Bottomk => "bottomk",
            Self::Quantile => "quantile",
            Self::CountValues => "count_values",
            Self::Limitk => "limitk",
            Self::LimitRatio => "limit_ratio",
        }
    }

    /// Whether a parameter precedes the aggregated expression.
    pub fn has_param(self) -> bool {
        matches!(
            self,
            Self::Topk | Self::Bottomk | Self::Quantile | Self::CountValues | Self::Limitk | Self::LimitRatio
        )
    }
}

/// An aggregation.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// Operator.
    pub op: AggregateOp,
    /// What is aggregated.
    pub expr: Box<Expr>,
    /// Parameter of `topk` and the like.
    pub param: Option<Box<Expr>>,
    /// Labels of `by` or `without`, in the order written.
    pub grouping: Vec<String>,
    /// `without` if true, else `by` (also when neither is written).
    pub without: bool,
    /// Where.
    pub pos: Pos,
}

impl Expr {
    /// Where in the query text.
    pub fn pos(&self) -> Pos {
        match self {
            Self::Number(e) => e.pos,
            Self::String(e) => e.pos,
            Self::Selector(e) => e.pos,
            Self::Matrix(e) => e.pos,
            Self::Subquery(e) => e.pos,
            Self::Paren(e) => e.pos,
            Self::Unary(e) => e.pos,
            Self::Binary(e) => e.pos,
            Self::Call(e) => e.pos,
            Self::Aggregate(e) => e.pos,
        }
    }

    /// The type of its value.
    pub fn value_type(&self) -> ValueType {
        let (mut expr, mut is_operand) = (self, false);
        let ty = loop {
            break match expr {
                Self::Number(_) => ValueType::Scalar,
                Self::String(_) => ValueType::String,
                Self::Selector(_) | Self::Aggregate(_) => ValueType::Vector,
                Self::Matrix(_) | Self::Subquery(_) => ValueType::Matrix,
                Self::Paren(e) => {
                    expr = &e.expr;
                    continue;
                }
                Self::Unary(e) => {
                    expr = &e.expr;
                    continue;
                }
                // Down the left operands in a loop: chains may be long.
                Self::Binary(e) if e.rhs.value_type() == ValueType::Scalar => {
                    (expr, is_operand) = (&e.lhs, true);
                    continue;
                }
                Self::Binary(_) => ValueType::Vector,
                Self::Call(e) => e.function.returns,
            };
        };
        if is_operand && ty != ValueType::Scalar { ValueType::Vector } else { ty }
    }

    /// The expression without parentheses around it.
    pub fn unparen(&self) -> &Expr {
        let mut expr = self;
        while let Self::Paren(e) = expr {
            expr = &e.expr;
        }
        expr
    }
}

impl Drop for Binary {
    /// Left operands go one by one: the stack of any thread is enough for a long chain.
    fn drop(&mut self) {
        let leaf = || Expr::Number(NumberLiteral { value: 0.0, duration: false, pos: Pos::default() });
        let mut next = std::mem::replace(&mut *self.lhs, leaf());
        while let Expr::Binary(binary) = &mut next {
            let lhs = std::mem::replace(&mut *binary.lhs, leaf());
            next = lhs;
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
