//! One live Blender process, driven over a socket of its own.
//!
//! [`Instance::start`] spawns it and waits until the worker inside says hello. From then on it
//! takes [`Order`]s and gives [`InstanceEvent`]s, of which [`Exited`](InstanceEvent::Exited) is
//! always the last. The process never outlives the [`Instance`], nor this program: the worker
//! ends itself when its socket ends.
//!
//! Owns the process, its socket and what it prints. Never decides what to render, never touches
//! a scratch directory but to look into it, never retries.

mod cores;
mod drive;
mod exit;
mod fault;
mod group;
mod log;
mod oom;
mod order;
mod outputs;
mod stand_in;
mod start;
mod state;
mod stats;
mod wire;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::{Notify, mpsc};

pub use exit::{Exit, ExitHow};
pub use order::{
    CallId, CallOrder, DeviceUsed, InstanceEvent, OpenOrder, Opened, Order, RenderId, RenderOrder,
    RenderProgress, Rendered, SessionFrame,
};
pub use outputs::RenderedFile;
pub use stand_in::StandIn;
pub use start::StartError;
pub use stats::Stats;
pub use wire::{CyclesDevice, Hello, examine};

use group::Group;
use log::Log;
use oom::OomKills;

/// Orders that may wait for an instance, the one under way not counted.
pub const ORDERS_MAX: usize = 64;
/// Events that wait for the owner before progress is left out.
const EVENTS_MAX: usize = 16;

/// How long an instance may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From spawning the process to its hello.
    pub start: Duration,
    /// From the order to quit to the end of the process, which is killed then.
    pub quit: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { start: Duration::from_secs(60), quit: Duration::from_secs(10) }
    }
}

/// A live Blender. Dropping it kills the process.
#[derive(Debug)]
pub struct Instance {
    orders: mpsc::Sender<Order>,
    shared: Arc<Shared>,
    hello: Hello,
}

/// What the handle and the driving task both need.
#[derive(Debug)]
struct Shared {
    group: Group,
    log: Mutex<Log>,
    /// Blender's own id, which is another one than the group's inside a sandbox.
    pid: OnceLock<Option<u32>>,
    /// What the kernel had killed for want of memory when the process was started.
    kills_before: OomKills,
    /// For an instance that is no process.
    killed: Arc<Notify>,
}

/// Why an order was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    #[error("the instance has {ORDERS_MAX} orders waiting")]
    Busy,
    #[error("the instance has ended")]
    Ended,
}

impl Instance {
    /// Spawns `command` — a [`Launch`](crate::runtime::Launch), perhaps inside a sandbox — in a
    /// process group of its own and waits for its hello. The command's streams and group are set
    /// here. The receiver gets every event; without it the instance is killed.
    pub async fn start(
        command: Command,
        run_dir: &Path,
        limits: Limits,
    ) -> Result<(Self, mpsc::Receiver<InstanceEvent>), StartError> {
        let started = start::start(command, run_dir, limits).await?;
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        let (happened, events) = mpsc::channel(EVENTS_MAX);
        let shared = started.shared.clone();
        let hello = started.hello.clone();
        tokio::spawn(drive::drive(started, limits, ordered, happened));
        Ok((Self { orders, shared, hello }, events))
    }

    /// Hands an order over; never waits.
    pub fn send(&self, order: Order) -> Result<(), Undelivered> {
        self.orders.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Undelivered::Busy,
            mpsc::error::TrySendError::Closed(_) => Undelivered::Ended,
        })
    }

    /// Kills the whole process group at once.
    pub fn kill(&self) {
        self.shared.group.kill();
        self.shared.killed.notify_one();
    }

    /// What this Blender is and has.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Blender's process id as this program sees it, also when a sandbox numbers its own.
    pub fn pid(&self) -> Option<u32> {
        self.shared.pid.get().copied().flatten()
    }

    /// The resident set of Blender and of processes that it started, in MiB; `None` once it has
    /// ended, and where the system does not say.
    pub fn memory_mib(&self) -> Option<u64> {
        group::resident_mib(self.pid()?)
    }

    /// Lets Blender, and whatever it has started or will, run on these cores alone. They are
    /// numbered as the system does. On Linux only.
    ///
    /// An error if it has ended, if no core is named or one that is not there, and if the system
    /// refuses.
    pub fn pin_to_cores(&self, cores: &[usize]) -> io::Result<()> {
        // The number may be another process's once it was waited for.
        match self.pid() {
            Some(pid) if !self.shared.group.is_reaped() => cores::pin(pid, cores),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "the process has ended")),
        }
    }

    /// What it printed since the last call, at most
    /// [`LOG_MAX`](grange_protocol::limits::LOG_MAX) bytes; the middle of more is cut out.
    /// Blender's lines about progress are not kept.
    pub fn take_log(&self) -> String {
        self.shared.log().take()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Shared {
    fn new(group: Group) -> Self {
        let kills_before = OomKills::now();
        let (log, pid, killed) = (Mutex::default(), OnceLock::new(), Arc::default());
        Self { group, log, pid, kills_before, killed }
    }

    /// Whether the kernel has killed anybody for want of memory since, if it says that.
    fn kernel_killed(&self) -> Option<bool> {
        OomKills::now().since(self.kills_before)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
