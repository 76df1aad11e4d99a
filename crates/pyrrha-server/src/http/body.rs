//! The body of a query's answer: encoded piece by piece as the client reads.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::Frame;
use pyrrha_model::StoreError;
use pyrrha_model::contract::MemoryBudget;

use crate::json::{PIECE_BYTES, ResultEncoder};

/// Bytes of a query's budget, given back on drop.
pub(crate) struct Reservation {
    budget: MemoryBudget,
    bytes: usize,
}

impl Reservation {
    /// Takes `bytes` out of `budget`.
    pub(crate) fn take(budget: &MemoryBudget, bytes: usize) -> Result<Self, StoreError> {
        budget.reserve(bytes)?;
        Ok(Self { budget: budget.clone(), bytes })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

struct ResultBody {
    encoder: ResultEncoder,
    /// Held until the last byte has left.
    _reservation: Reservation,
}

impl HttpBody for ResultBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut piece = Vec::with_capacity(PIECE_BYTES + 1024);
        let more = self.encoder.next_piece(&mut piece);
        Poll::Ready(more.then(|| Ok(Frame::data(piece.into()))))
    }
}

/// A body that encodes while it is read.
pub(crate) fn streamed(encoder: ResultEncoder, reservation: Reservation) -> Body {
    Body::new(ResultBody { encoder, _reservation: reservation })
}
