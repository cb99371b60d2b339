//! Real QUIC on a simulated network: turmoil carries the datagrams, or loses them with the links that
//! are cut; what else networks do to single datagrams is done here, by a seed.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use grange_transport::Socket;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use turmoil::net::UdpSocket;

/// What of an Ethernet's 1,500 bytes is a datagram's. Larger ones get lost, as QUIC finds out.
const ETHERNET_BYTES: usize = 1_472;
const LARGEST_BYTES: usize = 65_527;
/// QUIC has no smaller datagram.
const END_BYTES: usize = 20;

/// What happens to datagrams, each for itself. Parts of 1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) loss: f64,
    pub(crate) repetition: f64,
    pub(crate) damage: f64,
}

/// What happened to how many.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) damaged: u64,
}

/// The network as the hosts of one simulation see it.
#[derive(Clone, Debug)]
pub(crate) struct Network(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    weather: Weather,
    random: fastrand::Rng,
    counts: Counts,
}

impl Network {
    pub(crate) fn new(weather: Weather, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self(Arc::new(Mutex::new(State { weather, random, counts: Counts::default() })))
    }

    pub(crate) fn clear_up(&self) {
        self.0.lock().unwrap().weather = Weather::default();
    }

    pub(crate) fn counts(&self) -> Counts {
        self.0.lock().unwrap().counts
    }

    /// A socket of the host that calls this; port 0 is any.
    pub(crate) async fn bind(&self, port: u16) -> io::Result<Socket> {
        let inner = Arc::new(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).await?);
        let mut seed = [0; 32];
        self.0.lock().unwrap().random.fill(&mut seed);
        let (arrived, arriving) = mpsc::unbounded_channel();
        let receiving = tokio::spawn(receive(inner.clone(), arrived)).abort_handle();
        let network = self.clone();
        let arriving = Mutex::new(arriving);
        Ok(Socket::on(Arc::new(Datagrams { inner, network, arriving, receiving }), seed))
    }
}

async fn receive(socket: Arc<UdpSocket>, arrived: mpsc::UnboundedSender<(SocketAddr, Vec<u8>)>) {
    let mut buffer = vec![0; LARGEST_BYTES];
    while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
        if arrived.send((from, buffer[..len].to_vec())).is_err() {
            return;
        }
    }
}

/// A socket as quinn wants it.
#[derive(Debug)]
struct Datagrams {
    inner: Arc<UdpSocket>,
    network: Network,
    /// Turmoil's socket has nothing to poll, so somebody waits for it.
    arriving: Mutex<mpsc::UnboundedReceiver<(SocketAddr, Vec<u8>)>>,
    receiving: AbortHandle,
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.receiving.abort();
    }
}

impl AsyncUdpSocket for Datagrams {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut state = self.network.0.lock().unwrap();
        let Weather { loss, repetition, damage } = state.weather;
        state.counts.sent += 1;
        let (len, to) = (transmit.contents.len(), transmit.destination);
        tracing::trace!("{len} bytes to {to}");
        if transmit.contents.len() > ETHERNET_BYTES {
            return Ok(());
        }
        if state.random.f64() < loss {
            state.counts.lost += 1;
            return Ok(());
        }
        let mut bytes = transmit.contents.to_vec();
        if state.random.f64() < damage {
            state.counts.damaged += 1;
            // Wherever it is, the lengths of signatures before it shall not matter.
            let at = state.random.usize(..END_BYTES);
            let at = if state.random.bool() { at } else { bytes.len() - 1 - at };
            bytes[at] ^= 1 << state.random.u8(..8);
        }
        let times = if state.random.f64() < repetition { 2 } else { 1 };
        state.counts.repeated += times - 1;
        for _ in 0..times {
            self.inner.try_send_to(&bytes, transmit.destination)?;
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let arrived = ready!(self.arriving.lock().unwrap().poll_recv(context));
        let (addr, bytes) = arrived.ok_or_else(|| io::Error::other("the host is gone"))?;
        let len = bytes.len().min(buffers[0].len());
        buffers[0][..len].copy_from_slice(&bytes[..len]);
        metas[0] = RecvMeta { addr, len, stride: len, ..RecvMeta::default() };
        Poll::Ready(Ok(1))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
