//! Bad weather between an agent and its coordinator: a UDP relay that loses, delays, reorders,
//! repeats and damages datagrams, cuts the line, keeps to a bandwidth, and moves to other ports as a
//! router does that forgot its connections. What it does follows from its seed and from what
//! arrives in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// No datagram is longer.
const DATAGRAM_MAX: usize = 65_536;
/// What a link with a rate keeps before it drops, as routers do.
const QUEUE: Duration = Duration::from_millis(200);

/// What happens to datagrams, of both directions alike. Chances are from 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) loss: f64,
    pub(crate) duplication: f64,
    /// One bit is another one.
    pub(crate) corruption: f64,
    /// The datagram comes up to 30 ms later than others.
    pub(crate) reordering: f64,
    pub(crate) delay_ms: u64,
    pub(crate) kbit_per_s: Option<u64>,
    /// Nothing gets through.
    pub(crate) cut: bool,
}

/// What has happened to datagrams so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) passed: AtomicU64,
    pub(crate) passed_bytes: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) duplicated: AtomicU64,
    pub(crate) corrupted: AtomicU64,
    pub(crate) reordered: AtomicU64,
    pub(crate) cut: AtomicU64,
    /// By a full queue before a slow link.
    pub(crate) dropped: AtomicU64,
    pub(crate) rebound: AtomicU64,
}

pub(crate) struct Relay {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    /// Ends with the value, and everything on it.
    _runtime: tokio::runtime::Runtime,
}

struct Shared {
    coordinator: SocketAddr,
    listening: UdpSocket,
    weather: Mutex<Weather>,
    random: Mutex<fastrand::Rng>,
    counts: Counts,
    /// Whoever sends to the relay, and how it reaches the coordinator for them.
    flows: Mutex<BTreeMap<SocketAddr, Flow>>,
    /// Those that nothing gets through to or from, whatever the weather.
    severed: Mutex<BTreeSet<SocketAddr>>,
    rebind: AtomicBool,
}

struct Flow {
    upstream: Arc<UdpSocket>,
    answers: JoinHandle<()>,
    /// When a link with a rate is free again: to the coordinator, and back.
    free: [Arc<Mutex<Instant>>; 2],
}

impl Relay {
    /// A relay to a port of this host, in fair weather.
    pub(crate) fn to(port: u16, seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listening = runtime.block_on(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let own = listening.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            coordinator: (Ipv4Addr::LOCALHOST, port).into(),
            listening,
            weather: Mutex::default(),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            counts: Counts::default(),
            flows: Mutex::default(),
            severed: Mutex::default(),
            rebind: AtomicBool::new(false),
        });
        runtime.spawn(listen(shared.clone()));
        Self { port: own, shared, _runtime: runtime }
    }

    pub(crate) fn set(&self, weather: Weather) {
        *lock(&self.shared.weather) = weather;
    }

    /// From the next datagram on everybody comes from another port.
    pub(crate) fn rebind(&self) {
        self.shared.rebind.store(true, Ordering::Relaxed);
    }

    /// Cuts off all who have come so far, and nobody who comes later.
    pub(crate) fn sever(&self) {
        lock(&self.shared.severed).extend(lock(&self.shared.flows).keys());
    }

    /// Lets everybody through again.
    pub(crate) fn mend(&self) {
        lock(&self.shared.severed).clear();
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.shared.counts
    }
}

async fn listen(shared: Arc<Shared>) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        // Errors of earlier sends come back here; they are the other side's restarts.
        let Ok((len, from)) = shared.listening.recv_from(&mut buffer).await else { continue };
        if shared.rebind.swap(false, Ordering::Relaxed) {
            let flows = std::mem::take(&mut *lock(&shared.flows));
            flows.into_values().for_each(|flow| flow.answers.abort());
            shared.counts.rebound.fetch_add(1, Ordering::Relaxed);
        }
        let known = lock(&shared.flows)
            .get(&from)
            .map(|flow| (flow.upstream.clone(), flow.free[0].clone()));
        let (upstream, free) = match known {
            Some(known) => known,
            None => {
                let upstream = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
                upstream.connect(shared.coordinator).await.unwrap();
                let free = [(); 2].map(|()| Arc::new(Mutex::new(Instant::now())));
                let answers = answer(shared.clone(), upstream.clone(), from, free[1].clone());
                let first = free[0].clone();
                let flow =
                    Flow { upstream: upstream.clone(), answers: tokio::spawn(answers), free };
                lock(&shared.flows).insert(from, flow);
                (upstream, first)
            }
        };
        for (delay, datagram) in shared.fates(from, &buffer[..len], &free) {
            let upstream = upstream.clone();
            after(delay, async move { drop(upstream.send(&datagram).await) });
        }
    }
}

/// What the coordinator says to one of those behind the relay.
async fn answer(
    shared: Arc<Shared>,
    upstream: Arc<UdpSocket>,
    to: SocketAddr,
    free: Arc<Mutex<Instant>>,
) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        // A coordinator that is away answers with an error.
        let Ok(len) = upstream.recv(&mut buffer).await else { continue };
        for (delay, datagram) in shared.fates(to, &buffer[..len], &free) {
            let shared = shared.clone();
            after(delay, async move { drop(shared.listening.send_to(&datagram, to).await) });
        }
    }
}

fn after(delay: Duration, send: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(async move {
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        send.await;
    });
}

impl Shared {
    /// What becomes of a datagram: its copies, and when each arrives.
    fn fates(
        &self,
        of: SocketAddr,
        datagram: &[u8],
        free: &Mutex<Instant>,
    ) -> Vec<(Duration, Vec<u8>)> {
        let weather = *lock(&self.weather);
        let random = &mut *lock(&self.random);
        let counts = &self.counts;
        let count = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        let mut happens = |chance: f64| chance > 0.0 && random.f64() < chance;
        if weather.cut || lock(&self.severed).contains(&of) {
            count(&counts.cut);
            return Vec::new();
        }
        if happens(weather.loss) {
            count(&counts.lost);
            return Vec::new();
        }
        let copies = if happens(weather.duplication) { 2 } else { 1 };
        if copies == 2 {
            count(&counts.duplicated);
        }
        let mut fates = Vec::new();
        for _ in 0..copies {
            let mut delay = Duration::from_millis(weather.delay_ms);
            if let Some(kbit_per_s) = weather.kbit_per_s {
                let Some(queued) = queue(free, datagram.len(), kbit_per_s) else {
                    count(&counts.dropped);
                    continue;
                };
                delay += queued;
            }
            let mut bytes = datagram.to_vec();
            if weather.reordering > 0.0 && random.f64() < weather.reordering {
                delay += Duration::from_millis(random.u64(1..=30));
                count(&counts.reordered);
            }
            if weather.corruption > 0.0 && random.f64() < weather.corruption && !bytes.is_empty() {
                let at = random.usize(..bytes.len());
                bytes[at] ^= 1 << random.u8(..8);
                count(&counts.corrupted);
            }
            count(&counts.passed);
            counts.passed_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            fates.push((delay, bytes));
        }
        fates
    }
}

/// How long a datagram takes through a link with a rate; `None` if too many wait before it.
fn queue(free: &Mutex<Instant>, len: usize, kbit_per_s: u64) -> Option<Duration> {
    let mut free = lock(free);
    let now = Instant::now();
    let begins = (*free).max(now);
    if begins - now > QUEUE {
        return None;
    }
    *free = begins + Duration::from_secs_f64(len as f64 * 8.0 / (kbit_per_s as f64 * 1000.0));
    Some(*free - now)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
