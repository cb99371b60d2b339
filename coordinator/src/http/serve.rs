//! HTTPS on TCP: who listens, what a connection may cost, and how it ends.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum::middleware::AddExtension;
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower_layer::Layer;

use crate::config::HttpListen;
use crate::connection::Shared;
use crate::strangers::{Place, Strangers};

/// Connections that have shown a token, more than there are watchers; others are told to come back.
const CONNECTIONS: usize = 1_024;
/// Connections that have not, from all and from one address. Browsers open six, and many people may
/// share one. Each takes some 20 KiB and a file.
const STRANGERS: usize = 512;
const OF_ONE_ADDRESS: usize = 128;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// For the head of a request, and between two requests of a connection.
const HEAD: Duration = Duration::from_secs(30);
const HEAD_MAX_BYTES: usize = 32 << 10;
const HEADERS_MAX: usize = 64;
const STREAMS_MAX: u32 = 64;
/// A peer that acknowledges nothing for so long is gone.
const UNHEARD_MS: u32 = 60_000;
/// How long requests that have begun may take when the coordinator stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// The API's socket, before anybody is served.
pub(crate) struct Web {
    listener: TcpListener,
    local_addr: SocketAddr,
}

/// The API, served until it is shut down.
pub(crate) struct Serving {
    local_addr: SocketAddr,
    stop: oneshot::Sender<()>,
    accepting: JoinHandle<()>,
}

impl Web {
    /// `farm` is where the farm listens for QUIC, which it may have chosen itself.
    pub(crate) async fn bind(
        listen: HttpListen,
        farm: SocketAddr,
        chosen: bool,
    ) -> anyhow::Result<Option<Self>> {
        let wanted = match listen {
            HttpListen::Off => return Ok(None),
            HttpListen::At(address) => address,
            HttpListen::LikeFarm => farm,
        };
        let bound = match TcpListener::bind(wanted).await {
            // A port that is free on UDP need not be so on TCP.
            Err(_) if chosen && listen == HttpListen::LikeFarm => {
                TcpListener::bind((wanted.ip(), 0)).await
            }
            bound => bound,
        };
        let listener = bound.with_context(|| {
            format!(
                "the address {wanted} (TCP) of the HTTP API cannot be listened on: stop what uses \
                 it, or choose another with `http_listen`"
            )
        })?;
        let local_addr = listener.local_addr().context("the socket has no address")?;
        Ok(Some(Self { listener, local_addr }))
    }

    /// What connect strings say: the farm's addresses, with the port of this API if that differs.
    pub(crate) fn addresses(&self, farm: &[String], farm_local: SocketAddr) -> Vec<String> {
        let port = self.local_addr.port();
        let own = |address: &String| match address.rsplit_once(':') {
            Some((host, _)) if port != farm_local.port() => format!("{host}:{port}"),
            _ => address.clone(),
        };
        farm.iter().map(own).collect()
    }

    /// Serves, under a certificate for these hosts.
    pub(crate) fn serve(
        self,
        shared: &Arc<Shared>,
        hosts: &BTreeSet<String>,
    ) -> anyhow::Result<Serving> {
        let tls = shared.authority.https(hosts).context("no certificate for the HTTP API")?;
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let router = super::router(shared.clone(), hosts);
        let (stop, stopped) = oneshot::channel();
        let local_addr = self.local_addr;
        let accepting =
            tokio::spawn(accept(self.listener, acceptor, router, shared.clone(), stopped));
        Ok(Serving { local_addr, stop, accepting })
    }
}

impl Serving {
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Accepts nobody any more, and waits a moment for what has begun.
    pub(crate) async fn shutdown(self) {
        let _ = self.stop.send(());
        let _ = self.accepting.await;
    }
}

/// Whoever is at the other end of a connection.
#[derive(Clone)]
pub(super) struct Guest(Arc<Seat>);

struct Seat {
    from: String,
    connections: Arc<Semaphore>,
    held: Mutex<Held>,
}

enum Held {
    Stranger(#[expect(dead_code, reason = "it is held")] Place),
    Known(#[expect(dead_code, reason = "it is held")] OwnedSemaphorePermit),
}

impl Guest {
    /// For people.
    pub(super) fn from(&self) -> &str {
        &self.0.from
    }

    /// They have shown a good token, and are no stranger from now on. False if there are too many.
    pub(super) fn is_known(&self) -> bool {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Held::Stranger(_) = *held {
            match self.0.connections.clone().try_acquire_owned() {
                Ok(permit) => *held = Held::Known(permit),
                Err(_) => return false,
            }
        }
        true
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    router: Router,
    shared: Arc<Shared>,
    mut stopped: oneshot::Receiver<()>,
) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let strangers = Strangers::new(STRANGERS, OF_ONE_ADDRESS);
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopped => break,
        };
        let (stream, from) = match accepted {
            Ok((stream, from)) => (stream, from.ip().to_canonical()),
            Err(error) => {
                let what = "the HTTP API could not accept a connection";
                shared.refusals.note(what, "this host", error);
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (place, sent_away) = strangers.admit(from);
        let guest = Guest(Arc::new(Seat {
            from: from.to_string(),
            connections: connections.clone(),
            held: Mutex::new(Held::Stranger(place)),
        }));
        let service = Extension(guest.clone()).layer(router.clone());
        let (acceptor, watcher) = (acceptor.clone(), graceful.watcher());
        let shared = shared.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = connection(stream, acceptor, service, watcher) => {}
                () = sent_away.told() => shared.refusals.note(
                    "a connection to the HTTP API was closed because others came and it had shown \
                     no token",
                    guest.from(),
                    "too many connections are being opened",
                ),
            }
        });
    }
    drop(listener);
    if timeout(FAREWELL, graceful.shutdown()).await.is_err() {
        tracing::debug!("requests to the HTTP API were cut off");
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    service: AddExtension<Router, Guest>,
    watcher: Watcher,
) {
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNHEARD_MS);
    let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEAD)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_MAX_BYTES as u32);
    let service = TowerToHyperService::new(service);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!("a connection to the HTTP API ended: {error}");
    }
}
