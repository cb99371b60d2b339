//! The agent's one loop: events in, the core decides, its commands are run.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use grange_daemon::clock::Clock;
use grange_protocol::agent::{Assignment, Failure, FailureKind, FromAgent, ToAgent};
use grange_protocol::footprint::{MeasuredEnd, Measurement};
use grange_protocol::{LeaseId, Millis};
use grange_transport::Connection;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

use crate::core::{Command, Core, Event, Frame, Said};
use crate::deliver::{Delivery, NotDelivered};
use crate::gpu::Read;
use crate::host::Host;
use crate::instances::Instances;
use crate::link::FromLink;
use crate::pictures::Pictures;
use crate::scenes::Scenes;
use crate::sessions::Sessions;
use crate::space::Places;
use crate::work::{Report, Workshop, perform};

/// Events that wait for the loop. Full, it blocks whoever brings more.
pub(crate) const EVENTS: usize = 4_096;
const EVENTS_PER_TURN: usize = 256;
const HEARTBEAT: Duration = Duration::from_secs(2);
/// When it stops at once, the agent waits so long for the coordinator to hear of it.
const GOODBYE: Duration = Duration::from_millis(700);

/// What people want of a running agent.
pub(crate) enum Wish {
    /// Finish what has begun, then end.
    Drain,
    /// Stop everything and end.
    Stop,
    /// Say that the loop turns.
    Answer(oneshot::Sender<()>),
}

/// All that the loop owns.
pub(crate) struct Shell {
    pub(crate) core: Core,
    pub(crate) clock: Clock,
    pub(crate) host: Host,
    pub(crate) places: Places,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) instances: Instances,
    pub(crate) scenes: Scenes,
    pub(crate) sessions: Sessions,
    pub(crate) delivery: Delivery,
    pub(crate) pictures: Pictures,
    pub(crate) workshop: Workshop,
    pub(crate) outgoing: mpsc::Sender<FromAgent>,
    pub(crate) connection: watch::Receiver<Option<Connection>>,
    /// Messages that must not be lost and found the way to the link full. At most a few per task.
    pub(crate) backlog: VecDeque<FromAgent>,
    pub(crate) storing: HashMap<LeaseId, Vec<(AbortHandle, Arc<Frame>)>>,
    pub(crate) working: HashMap<LeaseId, AbortHandle>,
}

/// Where the loop's inputs come from.
pub(crate) struct Inputs {
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) link: mpsc::Receiver<FromLink>,
    pub(crate) wishes: mpsc::Receiver<Wish>,
    pub(crate) readings: mpsc::Receiver<Vec<Read>>,
}

/// How the loop goes on after an input.
enum Next {
    GoOn,
    End(anyhow::Result<()>),
}

impl Shell {
    /// Runs until the agent is drained, stopped, or not wanted by its farm.
    pub(crate) async fn run(mut self, mut inputs: Inputs) -> anyhow::Result<()> {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let mut batch = Vec::with_capacity(EVENTS_PER_TURN);
        loop {
            let deadline = self.core.next_deadline().map(|at| self.clock.instant_at(at.0));
            let next = tokio::select! {
                _ = inputs.events.recv_many(&mut batch, EVENTS_PER_TURN) => {
                    for event in batch.drain(..) {
                        self.handle(self.places.blame(event));
                    }
                    Next::GoOn
                }
                Some(message) = inputs.link.recv() => self.hear(message),
                Some(readings) = inputs.readings.recv() => {
                    self.handle(Event::SpacesRead(self.places.spaces()));
                    self.handle(Event::DevicesRead(readings));
                    Next::GoOn
                }
                Some(wish) = inputs.wishes.recv() => match wish {
                    Wish::Drain => {
                        self.handle(Event::Drain);
                        Next::GoOn
                    }
                    Wish::Stop => Next::End(Ok(())),
                    Wish::Answer(reply) => {
                        let _ = reply.send(());
                        Next::GoOn
                    }
                },
                () = sleep_until(deadline) => {
                    self.handle(Event::Tick);
                    Next::GoOn
                }
                Ok(permit) = self.outgoing.clone().reserve_owned(), if !self.backlog.is_empty() => {
                    if let Some(message) = self.backlog.pop_front() {
                        permit.send(message);
                    }
                    Next::GoOn
                }
                _ = heartbeat.tick() => {
                    let load = self.host.load(self.core.instance_count());
                    self.tell(FromAgent::Heartbeat(load));
                    Next::GoOn
                }
            };
            if let Next::End(result) = next {
                self.stop(inputs).await;
                return result;
            }
            if self.core.is_drained() {
                self.stop(inputs).await;
                return Ok(());
            }
        }
    }

    /// Ends everything that runs, and lets the coordinator know.
    async fn stop(mut self, mut inputs: Inputs) {
        self.handle(Event::Abandon);
        self.instances.kill_all();
        let goodbye = Instant::now() + GOODBYE;
        while !self.core.holding().is_empty() && self.connection.borrow().is_some() {
            tokio::select! {
                Some(message) = inputs.link.recv() => drop(self.hear(message)),
                Some(event) = inputs.events.recv() => self.handle(event),
                () = tokio::time::sleep_until(goodbye) => break,
            }
        }
        self.instances.wait_gone().await;
    }

    fn handle(&mut self, event: Event) {
        tracing::trace!("{}", event.name());
        self.core.handle(Millis(self.clock.now_ms()), event);
        while let Some(command) = self.core.next_command() {
            self.run_command(command);
        }
    }

    fn hear(&mut self, message: FromLink) -> Next {
        match message {
            FromLink::Connecting(reply) => {
                let _ = reply.send(self.core.holding());
            }
            FromLink::Welcomed(welcome) => {
                self.pictures.set_wanted(welcome.pictures);
                self.handle(Event::Welcomed { drop: welcome.drop });
            }
            FromLink::Messages(messages) => {
                for message in messages {
                    self.handle(match message {
                        ToAgent::Assign(assignment) => Event::Assigned(assignment),
                        ToAgent::Revoke(lease) => Event::Revoked(lease),
                        ToAgent::Recall(lease) => Event::Recalled(lease),
                        ToAgent::Settled(lease) => Event::Settled(lease),
                    });
                }
            }
            FromLink::Rejected(error) => return Next::End(Err(error.into())),
        }
        Next::GoOn
    }

    fn run_command(&mut self, command: Command) {
        match command {
            Command::PrepareScene(manifest) => {
                let (scenes, events) = (self.scenes.clone(), self.events.clone());
                tokio::spawn(async move {
                    let event = match scenes.prepare(manifest).await {
                        Ok(()) => Event::SceneReady(manifest),
                        Err(failure) => Event::SceneFailed(manifest, failure),
                    };
                    let _ = events.send(event).await;
                });
            }
            Command::ReleaseScene(manifest) => self.scenes.release(manifest),
            Command::StartInstance(start) => {
                let layout = self.scenes.layout(start.manifest);
                self.instances.start(*start, layout);
            }
            Command::OpenScene { instance, manifest, blend, allow_missing } => {
                let layout = self.scenes.layout(manifest);
                self.instances.open(instance, &layout, &blend, allow_missing);
            }
            Command::Render(order) => self.instances.render(*order),
            Command::Call { instance, operation, arguments } => {
                self.instances.call(instance, operation, arguments);
            }
            Command::OpenSession(open) => self.sessions.open(*open),
            Command::TellSession(lease, message) => self.sessions.tell(lease, message),
            Command::CloseSession(lease) => self.sessions.close(lease),
            Command::CancelRender(instance) => self.instances.cancel(instance),
            Command::Quit(instance) => self.instances.quit(instance),
            Command::Kill(instance) => self.instances.kill(instance),
            Command::Store { lease, assignment, frame } => self.store(lease, *assignment, *frame),
            Command::Discard(frame) => self.delivery.discard(&frame),
            Command::StopStoring(lease) => {
                for (storing, frame) in self.storing.remove(&lease).unwrap_or_default() {
                    storing.abort();
                    self.delivery.discard(&frame);
                }
            }
            Command::Work(assignment) => self.work(*assignment),
            Command::StopWork(lease) => {
                if let Some(working) = self.working.remove(&lease) {
                    working.abort();
                }
            }
            Command::Tell(message) => self.tell(message),
            Command::Note { device, text } => tracing::info!(%device, "device {device}: {text}"),
        }
    }

    fn store(&mut self, lease: LeaseId, assignment: Assignment, frame: Frame) {
        let (delivery, events) = (self.delivery.clone(), self.events.clone());
        let frame = Arc::new(frame);
        let delivering = frame.clone();
        let storing = tokio::spawn(async move {
            let event = match delivery.deliver(&assignment, &delivering).await {
                Ok(outputs) => {
                    let said = || Said {
                        value: delivering.value.clone(),
                        warnings: delivering.warnings.clone(),
                    };
                    let reply = delivering.call.map(|call| (call, said()));
                    Event::Stored { lease, reply, outputs }
                }
                Err(reason) => {
                    delivery.discard(&delivering);
                    let failure = match reason {
                        NotDelivered::Stale => None,
                        NotDelivered::Failed(failure) => Some(failure),
                    };
                    Event::NotStored { lease, call: delivering.call, failure }
                }
            };
            let _ = events.send(event).await;
        });
        self.storing.retain(|_, under_way| {
            under_way.retain(|(storing, _)| !storing.is_finished());
            !under_way.is_empty()
        });
        self.storing.entry(lease).or_default().push((storing.abort_handle(), frame));
    }

    fn work(&mut self, assignment: Assignment) {
        let (workshop, events, lease) =
            (self.workshop.clone(), self.events.clone(), assignment.lease);
        let working: JoinHandle<()> = tokio::spawn(async move {
            let work = tokio::spawn(async move { perform(&workshop, &assignment).await });
            // Aborting this task must end the work too.
            let _guard = AbortOnDrop(work.abort_handle());
            let Report { result, log } = work.await.unwrap_or_else(|error| Report {
                result: Err(Failure::new(FailureKind::Other, error.to_string())),
                log: String::new(),
            });
            let _ = events.send(Event::WorkDone { lease, result, log }).await;
        });
        self.working.retain(|_, working| !working.is_finished());
        self.working.insert(lease, working.abort_handle());
    }

    /// While the coordinator is away nothing is told: what matters is told again when it is back.
    fn tell(&mut self, message: FromAgent) {
        if self.connection.borrow().is_none() {
            self.backlog.clear();
            return;
        }
        // What an instance ran out of is a lesson that must not be lost.
        let is_lesson =
            |measured: &Measurement| matches!(measured.end, MeasuredEnd::OutOfMemory { .. });
        let passing = match &message {
            FromAgent::Progress(_) | FromAgent::Heartbeat(_) | FromAgent::Decided(_) => true,
            FromAgent::Devices(_) => true,
            FromAgent::Measured(measured) => !is_lesson(measured),
            FromAgent::Ended(_) | FromAgent::Returned(_) | FromAgent::Draining => false,
        };
        if self.backlog.is_empty() {
            if let Err(mpsc::error::TrySendError::Full(message)) = self.outgoing.try_send(message)
                && !passing
            {
                self.backlog.push_back(message);
            }
        } else if !passing {
            self.backlog.push_back(message);
        }
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
