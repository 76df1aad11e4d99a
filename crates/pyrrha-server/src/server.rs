//! The life of a server: bind, open the store, serve, stop.

use std::net::SocketAddr;
use std::sync::Arc;

use pyrrha_env::{Clock, SystemClock};
use pyrrha_model::ErrorKind;
use tokio::net::TcpListener;

use crate::app::{App, AppError, Store};
use crate::config::Settings;
use crate::{http, listener, self_scrape, telemetry};

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen: address={address}: {source}; choose another with --web.listen-address, or stop \
         the process that uses it"
    )]
    Listen { address: String, source: std::io::Error },
    /// The runtime does not start.
    #[error("cannot start threads: {0}")]
    Runtime(std::io::Error),
    #[error(transparent)]
    App(#[from] AppError),
    /// The store does not open.
    #[error("{0}")]
    Store(String),
}

impl ServerError {
    #[allow(dead_code, reason = "every error enum says what to do next")]
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Listen { .. } | Self::Runtime(_) | Self::Store(_) => ErrorKind::Unavailable,
            Self::App(error) => error.kind(),
        }
    }
}

/// A store with what belongs to its life.
pub(crate) struct OpenStore {
    pub(crate) store: Arc<dyn Store>,
    /// Stops writes and makes restart quick.
    pub(crate) close: Box<dyn FnOnce() -> Result<(), String> + Send>,
}

/// Runs until SIGINT or SIGTERM.
pub(crate) fn run(
    settings: Settings,
    open: impl FnOnce(&Settings, Arc<dyn Clock>, &App) -> Result<OpenStore, String>,
) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("http")
        .build()
        .map_err(ServerError::Runtime)?;
    let listener = runtime.block_on(bind(&settings.listen_address))?;
    let address = listener.local_addr().map_err(|source| listen_error(&settings.listen_address, source))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let app = Arc::new(App::new(settings, clock.clone())?);
    app.telemetry.add_collector(telemetry::QueryGauges(Arc::downgrade(&app)));
    let serving = runtime.spawn(listener::serve(listener, http::router(app.clone()), {
        let app = app.clone();
        async move { app.stop.notified().await }
    }));
    // Requests are answered 503 until the store is open.
    let OpenStore { store, close } = open(&app.settings, clock, &app).map_err(ServerError::Store)?;
    app.set_store(store);
    announce(address, &app);
    runtime.block_on(async {
        tokio::spawn(drop_stalled(app.clone()));
        if app.settings.self_scrape {
            tokio::spawn(self_scrape::run(app.clone(), address.to_string()));
        }
        let signal = signal().await;
        tracing::info!(signal, "stopping");
        app.begin_stop();
        let _ = serving.await;
    });
    if let Err(error) = close() {
        tracing::error!(error, "the store did not close well; nothing acknowledged is lost");
    }
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    tracing::info!("stopped");
    Ok(())
}

/// Drops results that nobody reads, round after round.
async fn drop_stalled(app: Arc<App>) {
    loop {
        tokio::time::sleep(listener::WRITE_STALL_MAX / 10).await;
        app.active.drop_stalled(app.clock.monotonic(), listener::WRITE_STALL_MAX);
    }
}

async fn bind(address: &str) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|source| listen_error(address, source))
}

fn listen_error(address: &str, source: std::io::Error) -> ServerError {
    ServerError::Listen { address: address.to_owned(), source }
}

/// The line that tells a new user what to do next.
fn announce(address: SocketAddr, app: &App) {
    let url = format!("http://{address}");
    // `count({__name__=~".+"})`, in letters that shells, browsers and log formats leave as they are.
    let all = "count(%7B__name__%3D~%22.%2B%22%7D)";
    let query = if app.settings.self_scrape { "pyrrha_build_info" } else { all };
    tracing::info!(
        url,
        remote_write = format!("{url}/api/v1/write"),
        try_query = format!("{url}/api/v1/query?query={query}"),
        data = %app.settings.storage_path.display(),
        "Pyrrha is ready"
    );
}

async fn signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::warn!("signals cannot be caught; the server stops only by force");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}
