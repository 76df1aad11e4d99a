//! An operator between two columns.

use crate::annotations::Annotation;
use crate::ast::{BinaryOp, Pos};
use crate::exec::operator::{Element, element};
use crate::exec::{arithmetic, compare};
use crate::value::{Bits, Column};

/// What is computed for each pair of samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct Elements {
    pub(super) op: BinaryOp,
    pub(super) return_bool: bool,
    /// Whether the first column is the right operand.
    pub(super) swapped: bool,
    pub(super) pos: Pos,
}

impl Elements {
    /// The result at steps where both columns hold something (of those of `only`), and these steps but
    /// for those whose samples have no result at all.
    pub(super) fn columns(
        &self,
        many: &Column,
        one: &Column,
        only: Option<&Bits>,
        notes: &mut Vec<Annotation>,
    ) -> (Column, Bits) {
        let mut met = many.presence();
        met.intersect(&one.presence());
        if let Some(only) = only {
            met.intersect(only);
        }
        let (lhs, rhs) = if self.swapped { (one, many) } else { (many, one) };
        let trims = matches!(self.op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
        if lhs.histograms().is_empty() && rhs.histograms().is_empty() && !trims {
            return (self.floats(lhs, rhs, &met), met);
        }
        self.mixed(lhs, rhs, met, notes)
    }

    fn floats(&self, lhs: &Column, rhs: &Column, met: &Bits) -> Column {
        let (a, b) = (lhs.floats().0, rhs.floats().0);
        if self.op.is_comparison() {
            return self.compared(a, b, met);
        }
        let pairs = a.iter().zip(b);
        // Values where nothing is present are computed too: cheaper than asking.
        let mut column = match self.op {
            BinaryOp::Add => Column::from_floats(pairs.map(|(a, b)| a + b)),
            BinaryOp::Sub => Column::from_floats(pairs.map(|(a, b)| a - b)),
            BinaryOp::Mul => Column::from_floats(pairs.map(|(a, b)| a * b)),
            BinaryOp::Div => Column::from_floats(pairs.map(|(a, b)| a / b)),
            op => Column::from_floats(pairs.map(|(a, b)| arithmetic(op, *a, *b).unwrap_or(f64::NAN))),
        };
        column.retain(met);
        column
    }

    fn compared(&self, a: &[f64], b: &[f64], met: &Bits) -> Column {
        let mut column = Column::new(a.len());
        for step in met.iter() {
            let holds = compare(self.op, a[step], b[step]);
            if self.return_bool {
                column.set_float(step, f64::from(u8::from(holds)));
            } else if holds {
                column.set_float(step, a[step]);
            }
        }
        column
    }

    fn mixed(&self, lhs: &Column, rhs: &Column, both: Bits, notes: &mut Vec<Annotation>) -> (Column, Bits) {
        let mut column = Column::new(lhs.steps());
        let mut met = both.clone();
        for step in both.iter() {
            let (Some(a), Some(b)) = (lhs.get(step), rhs.get(step)) else { continue };
            let Element { value, keep } = element(self.op, &a, &b, self.pos, notes);
            match (keep, self.return_bool) {
                (Some(keep), true) => column.set_float(step, f64::from(u8::from(keep))),
                (Some(true), false) => column.set(step, a),
                (Some(false), false) => {}
                (None, _) => match value {
                    Some(value) => column.set(step, value),
                    None => met.clear(step),
                },
            }
        }
        (column, met)
    }
}
