//! Accepts connections, serves HTTP/1.1 and HTTP/2 on them, drops clients that say or read nothing, and
//! ends them well when the server stops.

mod first_head;
mod raw_urls;
mod request_lines;

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use tower::ServiceExt;

use first_head::FirstHead;
use raw_urls::RawUrls;

/// A client that takes no byte for so long is dropped (decision 38).
pub(crate) const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// Open connections at once; further ones wait in the system's queue.
const CONNECTIONS_MAX: usize = 4096;
/// Time that requests in flight have once the server stops.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Who sent a request: among its extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client(pub(crate) IpAddr);

/// How long clients may be silent.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// Time for the head of a connection's first request to arrive.
    first_head: Duration,
    /// Time for the next one, with the wait for it.
    next_head: Duration,
    /// How often a client of HTTP/2 that says nothing is asked whether it is there, and how long it has to
    /// answer.
    ping: Duration,
    /// Time in which a byte is taken of what is written.
    write: Duration,
}

const PATIENCE: Patience = Patience {
    first_head: Duration::from_secs(30),
    // Longer than the refresh interval of most dashboards; Prometheus has the same.
    next_head: Duration::from_secs(300),
    ping: Duration::from_secs(30),
    write: WRITE_STALL_MAX,
};

/// Serves until `stop` ends, then finishes what is in flight.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut stop = std::pin::pin!(stop);
    loop {
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot,
            () = &mut stop => break,
        };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: let some connections end.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        let _ = stream.set_nodelay(true);
        let watcher = graceful.watcher();
        let router = router.clone();
        tokio::spawn(async move {
            let connection = connection(stream, Client(peer.ip()), router, PATIENCE);
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(%error, "connection ended badly");
            }
            drop(slot);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!(seconds = DRAIN_MAX.as_secs(), "requests were still running and are cut off");
    }
}

/// Serves what comes on one connection.
fn connection<S>(
    stream: S,
    client: Client,
    router: Router,
    patience: Patience,
) -> impl GracefulConnection<Error: std::fmt::Display>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(patience.next_head);
    let http2 = &mut server.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(patience.ping).keep_alive_timeout(patience.ping);
    let stream = ImpatientStream::new(stream, patience.first_head, patience.write);
    let io = TokioIo::new(RawUrls::new(stream));
    let router = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(client);
        request
    });
    server.serve_connection(io, TowerToHyperService::new(router)).into_owned()
}

/// A stream whose reads fail if the peer does not begin to speak in time, and whose writes fail once it has
/// taken nothing for some time.
struct ImpatientStream<S> {
    stream: S,
    /// What is missing of the first request, and until when it is waited for.
    first: Option<(FirstHead, Pin<Box<Sleep>>)>,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> ImpatientStream<S> {
    fn new(stream: S, first: Duration, patience: Duration) -> Self {
        let first = Some((FirstHead::default(), Box::pin(tokio::time::sleep(first))));
        Self { stream, first, patience, stalled: None }
    }

    fn patience<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.stalled = None;
            return progress;
        }
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.patience)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ImpatientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        let Some((head, deadline)) = &mut this.first else { return read };
        if read.is_ready() {
            head.hear(buffer.filled().get(before..).unwrap_or_default());
        }
        if head.is_complete() {
            this.first = None;
        } else if deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client asks for nothing")));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ImpatientStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.patience(cx, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.patience(cx, progress)
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
