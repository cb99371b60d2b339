//! A cable between somebody and the HTTP API of a farm: a TCP relay that counts what goes up, lets
//! only so much of it through, and may be cut or torn out.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::eventually;

pub(crate) struct Cable {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    to: u16,
    up_bytes: AtomicU64,
    /// What is more waits.
    allowed_bytes: AtomicU64,
    connections: AtomicU64,
    /// The near and the far end of each connection. Whoever reads from an end owns it, so that one that
    /// is given up is closed, and all that was not read with it.
    open: Mutex<Vec<[Weak<TcpStream>; 2]>>,
    /// What connections that there were by then have to say is heard by nobody.
    dead_below: AtomicU64,
    ended: AtomicBool,
}

impl Cable {
    /// To a port of this host.
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let own = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            to: port,
            up_bytes: AtomicU64::new(0),
            allowed_bytes: AtomicU64::new(u64::MAX),
            connections: AtomicU64::new(0),
            open: Mutex::default(),
            dead_below: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.ended.load(Ordering::Relaxed) {
                    break;
                }
                accepting.clone().connect(stream.unwrap());
            }
        });
        Self { port: own, shared }
    }

    /// Bytes that have reached the farm, with what TLS adds.
    pub(crate) fn up_bytes(&self) -> u64 {
        self.shared.up_bytes.load(Ordering::Relaxed)
    }

    /// Lets about so many bytes go up in all, and no more until it is told again.
    pub(crate) fn allow(&self, bytes: u64) {
        self.shared.allowed_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Waits until all that may go up has.
    pub(crate) fn wait_until_full(&self) {
        let shared = &self.shared;
        eventually("the cable has carried what it may", || shared.is_full().then_some(()));
    }

    /// So far.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Breaks all connections, which both ends notice.
    pub(crate) fn cut(&self) {
        self.shared.cut(&[0, 1]);
    }

    /// Breaks all connections so that only who is on this side notices.
    pub(crate) fn tear(&self) {
        self.shared.dead_below.store(self.connections(), Ordering::Relaxed);
        self.shared.cut(&[0]);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.allow(u64::MAX);
        self.cut();
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Shared {
    fn connect(self: Arc<Self>, near: TcpStream) {
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        // A farm that is away: the connection ends here.
        let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.to)) else { return };
        let (near, far) = (Arc::new(near), Arc::new(far));
        let (to_near, to_far) = (Arc::downgrade(&near), Arc::downgrade(&far));
        let ends = [to_near.clone(), to_far.clone()];
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(ends);
        let shared = self.clone();
        thread::spawn(move || shared.carry(&near, &to_far, number, true));
        thread::spawn(move || self.carry(&far, &to_near, number, false));
    }

    fn carry(&self, mut from: &TcpStream, to: &Weak<TcpStream>, number: u64, up: bool) {
        let mut piece = vec![0; 64 << 10];
        while let Ok(got @ 1..) = from.read(&mut piece) {
            while up && self.is_full() {
                thread::sleep(Duration::from_millis(2));
            }
            if self.is_dead(number)
                || to.upgrade().is_none_or(|to| (&*to).write_all(&piece[..got]).is_err())
            {
                break;
            }
            if up {
                self.up_bytes.fetch_add(got as u64, Ordering::Relaxed);
            }
        }
        // The end of a connection that was torn out is told to nobody.
        if let Some(to) = to.upgrade().filter(|_| !self.is_dead(number)) {
            let _ = to.shutdown(Shutdown::Both);
        }
    }

    fn cut(&self, ends: &[usize]) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for connection in &*open {
            for end in ends.iter().filter_map(|end| connection[*end].upgrade()) {
                let _ = end.shutdown(Shutdown::Both);
            }
        }
    }

    fn is_dead(&self, number: u64) -> bool {
        number < self.dead_below.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        self.up_bytes.load(Ordering::Relaxed) >= self.allowed_bytes.load(Ordering::Relaxed)
    }
}
