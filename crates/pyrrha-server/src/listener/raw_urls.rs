//! A stream whose reader sees request lines with their raw bytes percent-encoded, and all else as it came.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::request_lines::RequestLines;

/// The stream. What is read goes where it is asked for, and only from the first byte that has to be encoded on
/// it takes a way around: at most three times as much as was read at once.
#[derive(Debug)]
pub(super) struct RawUrls<S> {
    stream: S,
    lines: RequestLines,
    /// What has been read, in its new form, and not been taken yet.
    encoded: Vec<u8>,
    taken: usize,
}

impl<S> RawUrls<S> {
    /// Before the first byte of a connection.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, lines: RequestLines::new(), encoded: Vec::new(), taken: 0 }
    }

    /// Gives out of what is encoded.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let rest = &self.encoded[self.taken..];
        let now = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..now]);
        self.taken += now;
        if self.taken == self.encoded.len() {
            (self.encoded, self.taken) = (Vec::new(), 0);
        }
    }

    /// Encodes `bytes`, the first of which has to be.
    fn encode(&mut self, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let mut rest = bytes;
        while let Some((raw, after)) = rest.split_first() {
            let hex = [b'%', DIGITS[usize::from(raw >> 4)], DIGITS[usize::from(raw & 15)]];
            self.encoded.extend_from_slice(&hex);
            let next = self.lines.next_escaped(after).unwrap_or(after.len());
            self.encoded.extend_from_slice(&after[..next]);
            rest = &after[next..];
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for RawUrls<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.encoded.is_empty() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
            let arrived = buffer.filled().get(before..).unwrap_or_default();
            let Some(first) = this.lines.next_escaped(arrived) else { return Poll::Ready(Ok(())) };
            this.encode(&arrived[first..]);
            buffer.set_filled(before + first);
        }
        this.give(buffer);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RawUrls<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
