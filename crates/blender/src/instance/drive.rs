//! The task that serves one instance: orders to the worker, its answers to the owner.
//!
//! It never waits for one side while another has something: what cannot be handed on yet is
//! kept, in bounded amounts. While much is kept no orders are taken, so their channel fills and
//! their sender is told; and the worker is not listened to, so it waits.

use std::future::pending;
use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::exit::{Exit, ExitHow};
use super::order::{InstanceEvent, Order};
use super::start::{Output, Started};
use super::state::State;
use super::wire::{BadLine, FromWorker, LineReader};
use super::{Limits, ORDERS_MAX, Shared};

/// Bytes that wait for the worker before no more orders are taken.
const UNSENT_MAX: usize = 64 << 10;
/// Renders and calls that are ordered and not answered before no more orders are taken.
const UNANSWERED_MAX: usize = ORDERS_MAX;
/// Events that wait for the owner before the worker is not listened to.
const UNTOLD_MAX: usize = 2 * ORDERS_MAX;
/// How long the streams of a process may drain after its end: something else may hold them open.
const DRAIN: Duration = Duration::from_secs(2);
/// Last lines of the log that tell why a process died.
const LAST_LINES: usize = 20;

/// Runs until the process is gone, and tells so.
pub(super) async fn drive(
    started: Started,
    limits: Limits,
    orders: mpsc::Receiver<Order>,
    events: mpsc::Sender<InstanceEvent>,
) {
    let Started { child, shared, hello, from_worker, to_worker, output } = started;
    let mut driver = Driver {
        state: State::new(&hello, shared.clone()),
        shared,
        orders: Some(orders),
        events,
        to_worker: Some(to_worker),
        unsent: Vec::new(),
        ending: Ending::No,
        limits,
    };
    let status = driver.serve(child, from_worker, output).await;
    driver.shared.group.reaped();
    let last_lines = driver.shared.log().last_lines(LAST_LINES);
    let who = format!("Blender {}", hello.full_version);
    let exit = Exit::new(driver.how(status), who, &last_lines, driver.shared.kernel_killed());
    driver.tell_the_rest(exit).await;
}

struct Driver {
    state: State,
    shared: Arc<Shared>,
    /// `None` once no more are taken.
    orders: Option<mpsc::Receiver<Order>>,
    events: mpsc::Sender<InstanceEvent>,
    /// `None` once the worker does not listen.
    to_worker: Option<OwnedWriteHalf>,
    unsent: Vec<u8>,
    ending: Ending,
    limits: Limits,
}

/// Whether the process is meant to end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    No,
    /// It was told to, or has closed its socket, and is killed at this time.
    By(Instant),
    Killed,
    /// Killed for what it said.
    Misbehaved,
}

impl Driver {
    async fn serve(
        &mut self,
        mut child: Child,
        mut from_worker: LineReader<OwnedReadHalf>,
        mut output: Output,
    ) -> io::Result<ExitStatus> {
        let events = self.events.clone();
        let (mut printing, mut listening) = (true, true);
        let status = loop {
            let has_room = self.state.untold() < UNTOLD_MAX;
            tokio::select! {
                status = child.wait() => break status,
                more = output.read(|line| self.state.printed(line)), if printing => {
                    printing = more;
                }
                line = from_worker.next(), if listening && has_room => {
                    listening = self.heard(line).await;
                }
                order = next(&mut self.orders), if self.takes_orders() => self.ordered(order),
                sent = send(&mut self.to_worker, &self.unsent) => self.sent(sent),
                permit = events.reserve(), if self.state.has_news() => {
                    if let (Ok(permit), Some(news)) = (permit, self.state.next_news()) {
                        permit.send(news);
                    }
                }
                () = events.closed(), if self.ending != Ending::Killed => self.kill(),
                () = end_of_patience(self.ending) => self.kill(),
            }
        };
        self.drain(from_worker, output, listening, printing).await;
        status
    }

    fn takes_orders(&self) -> bool {
        self.unsent.len() < UNSENT_MAX && self.state.unanswered() < UNANSWERED_MAX
    }

    fn ordered(&mut self, order: Option<Order>) {
        let Some(order) = order else {
            self.orders = None;
            return;
        };
        if let Some(line) = self.state.ordered(&order) {
            self.unsent.extend(line);
        }
        if order == Order::Quit {
            self.orders = None;
            self.end_by(self.limits.quit);
        }
    }

    fn sent(&mut self, sent: io::Result<usize>) {
        match sent {
            Ok(sent) => drop(self.unsent.drain(..sent)),
            // Its end is told when the process has ended.
            Err(_) => self.to_worker = None,
        }
    }

    /// Whether there may be more to hear.
    async fn heard(&mut self, line: Result<Option<Vec<u8>>, BadLine>) -> bool {
        match line {
            Ok(Some(line)) => match FromWorker::parse(&line) {
                Ok(message) => {
                    self.state.heard(message).await;
                    true
                }
                Err(error) => self.misbehaved(&error.to_string()),
            },
            Err(error @ BadLine::TooLong) => self.misbehaved(&error.to_string()),
            Ok(None) | Err(BadLine::Io(_)) => {
                self.end_by(DRAIN);
                false
            }
        }
    }

    fn misbehaved(&mut self, why: &str) -> bool {
        self.shared.log().push(&format!("grange: {why}"));
        self.kill();
        self.ending = Ending::Misbehaved;
        false
    }

    fn end_by(&mut self, patience: Duration) {
        if self.ending == Ending::No {
            self.ending = Ending::By(Instant::now() + patience);
        }
    }

    fn kill(&mut self) {
        self.shared.group.kill();
        self.ending = Ending::Killed;
    }

    /// Takes in what the process said before its end.
    async fn drain(
        &mut self,
        mut from_worker: LineReader<OwnedReadHalf>,
        mut output: Output,
        mut listening: bool,
        mut printing: bool,
    ) {
        let both = async {
            while listening || printing {
                tokio::select! {
                    line = from_worker.next(), if listening => {
                        listening = self.heard(line).await;
                    }
                    more = output.read(|line| self.state.printed(line)), if printing => {
                        printing = more;
                    }
                }
            }
        };
        let _ = timeout(DRAIN, both).await;
    }

    fn how(&self, status: io::Result<ExitStatus>) -> ExitHow {
        match (self.ending, status) {
            (Ending::Misbehaved, _) => ExitHow::Misbehaved,
            _ if self.shared.group.was_killed() => ExitHow::Asked,
            (_, Err(_)) => ExitHow::Code(-1),
            (_, Ok(status)) if self.orders.is_none() && status.success() => ExitHow::Asked,
            (_, Ok(status)) => ExitHow::from_status(status),
        }
    }

    /// Everything that is untold, then the end; as slowly as the owner takes it.
    async fn tell_the_rest(mut self, exit: Exit) {
        while let Some(news) = self.state.next_news() {
            if self.events.send(news).await.is_err() {
                return;
            }
        }
        let _ = self.events.send(InstanceEvent::Exited(exit)).await;
    }
}

async fn next(orders: &mut Option<mpsc::Receiver<Order>>) -> Option<Order> {
    match orders {
        Some(orders) => orders.recv().await,
        None => pending().await,
    }
}

async fn send(to: &mut Option<OwnedWriteHalf>, bytes: &[u8]) -> io::Result<usize> {
    match to {
        Some(to) if !bytes.is_empty() => to.write(bytes).await,
        _ => pending().await,
    }
}

async fn end_of_patience(ending: Ending) {
    match ending {
        Ending::By(when) => sleep_until(when).await,
        _ => pending().await,
    }
}
