//! Function calls whose value is a vector.

use crate::error::QueryError;
use crate::exec::{Exec, Table, mismatch};
use crate::function::FunctionId;
use crate::labels::LabelIds;
use crate::plan::{Call, Kind, Node};
use crate::value::{Column, Series, Steps};

impl<'a> Exec<'a> {
    /// Evaluates an instant-vector expression into a table.
    pub(crate) fn vector(&'a self, node: &'a Node, steps: Steps) -> Result<Table<'a>, QueryError> {
        match &node.kind {
            Kind::Call(call) => self.call(call, steps),
            _ => Err(mismatch(node.ty)),
        }
    }

    fn call(&'a self, call: &'a Call, steps: Steps) -> Result<Table<'a>, QueryError> {
        match (call.id(), call.args.as_slice()) {
            (FunctionId::Vector, [scalar]) => {
                let scalar = self.scalar(scalar, steps)?;
                let column = Column::dense((0..steps.count).map(|i| scalar.at(i)).collect());
                Table::charged(self, vec![Series { labels: LabelIds::empty(), drop_name: false, column }])
            }
            _ => Err(mismatch(call.function.returns)),
        }
    }
}
