//! How deep a syntax tree is, and room on the stack for what walks it: generated queries chain thousands of
//! operators.

use std::io;
use std::panic::resume_unwind;

use crate::ast::Expr;

/// Height of trees that are walked on the stack of any thread.
pub(crate) const ORDINARY_HEIGHT: usize = 512;

/// Stack per level, bytes: several times what evaluation takes where nothing is optimised.
const BYTES_PER_LEVEL: usize = 32 << 10;

impl Expr {
    /// Nodes on the longest way from the root to a leaf. Does not recurse.
    pub fn height(&self) -> usize {
        let mut highest = 0;
        let mut open = vec![(self, 1)];
        while let Some((expr, level)) = open.pop() {
            highest = highest.max(level);
            let below = level + 1;
            match expr {
                Self::Number(_) | Self::String(_) | Self::Selector(_) | Self::Matrix(_) => {}
                Self::Subquery(e) => open.push((&e.expr, below)),
                Self::Paren(e) => open.push((&e.expr, below)),
                Self::Unary(e) => open.push((&e.expr, below)),
                Self::Binary(e) => open.extend([(&*e.lhs, below), (&*e.rhs, below)]),
                Self::Call(e) => open.extend(e.args.iter().map(|arg| (arg, below))),
                Self::Aggregate(e) => {
                    open.push((&e.expr, below));
                    open.extend(e.param.as_deref().map(|param| (param, below)));
                }
            }
        }
        highest
    }
}

/// Runs what recurses as deep as a tree of this height: on a thread of its own if that is high. Fails if no
/// such thread starts.
pub(crate) fn with_room<T: Send>(height: usize, walk: impl FnOnce() -> T + Send) -> io::Result<T> {
    if height <= ORDINARY_HEIGHT {
        return Ok(walk());
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("deep-query".to_owned())
            // The system gives memory to what is touched of it only.
            .stack_size(height.saturating_mul(BYTES_PER_LEVEL))
            .spawn_scoped(scope, walk)?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}
