//! What is under way in an instance, and what its owner has not been told yet.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use grange_protocol::agent::{Failure, FailureKind};
use grange_protocol::job::Engine;
use grange_protocol::name::OutputName;
use grange_protocol::session::Raised;

use super::order::{
    CallId, InstanceEvent, Opened, Order, RenderId, RenderOrder, RenderProgress, Rendered,
};
use super::stats::{Meter, Stats};
use super::wire::{self, Answer, FromWorker, Hello, RaisedBy};
use super::{Shared, outputs};
use crate::truths;

pub(super) struct State {
    shared: Arc<Shared>,
    /// Progress comes over the socket; what is printed of it is a repetition.
    stats_by_socket: bool,
    renders: BTreeMap<RenderId, Render>,
    /// Calls that are not answered, with their scratch directories.
    calls: BTreeMap<CallId, PathBuf>,
    /// The engine that is being tried, by the id that the worker knows.
    probes: VecDeque<Engine>,
    /// The render that has begun and not ended.
    begun: Option<RenderId>,
    untold: VecDeque<InstanceEvent>,
    progress: Option<RenderProgress>,
}

/// A render that was ordered and not answered.
struct Render {
    scratch: PathBuf,
    extras: Option<OutputName>,
    meter: Meter,
    device_peak_mib: Option<u32>,
}

impl State {
    pub(super) fn new(hello: &Hello, shared: Arc<Shared>) -> Self {
        Self {
            shared,
            stats_by_socket: hello.stats,
            renders: BTreeMap::new(),
            calls: BTreeMap::new(),
            probes: VecDeque::new(),
            begun: None,
            untold: VecDeque::new(),
            progress: None,
        }
    }

    /// Renders and calls.
    pub(super) fn unanswered(&self) -> usize {
        self.renders.len() + self.calls.len()
    }

    pub(super) fn untold(&self) -> usize {
        self.untold.len()
    }

    pub(super) fn has_news(&self) -> bool {
        !self.untold.is_empty() || self.progress.is_some()
    }

    /// The next event for the owner, progress last.
    pub(super) fn next_news(&mut self) -> Option<InstanceEvent> {
        self.untold.pop_front().or_else(|| self.progress.take().map(InstanceEvent::Progress))
    }

    /// Notes what was ordered. The line to send, unless the order is refused here.
    pub(super) fn ordered(&mut self, order: &Order) -> Option<Vec<u8>> {
        let refused = match order {
            Order::Render(render) => render.device_refusal(),
            _ => None,
        };
        let line = refused.map_or_else(|| wire::encode(order), Err);
        match (line, order) {
            (Ok(line), order) => {
                self.note(order);
                Some(line)
            }
            (Err(failure), Order::Render(render)) => {
                self.tell(InstanceEvent::Failed { id: render.id, failure });
                None
            }
            (Err(failure), Order::Call(call)) => {
                let raised = Raised::new("ValueError", failure.reason);
                self.tell(InstanceEvent::Raised { id: call.id, raised });
                None
            }
            (Err(failure), Order::Probe(engine, _)) => {
                let error = Some(failure.reason);
                self.tell(InstanceEvent::Probed { engine: engine.clone(), error });
                None
            }
            (Err(failure), _) => {
                self.tell(InstanceEvent::NotOpened(failure));
                None
            }
        }
    }

    fn note(&mut self, order: &Order) {
        match order {
            Order::Render(render) => {
                let RenderOrder { id, shot, scratch, .. } = &**render;
                let render = Render {
                    scratch: scratch.clone(),
                    extras: shot.extras.clone(),
                    meter: Meter::new(1),
                    device_peak_mib: None,
                };
                self.renders.insert(*id, render);
            }
            Order::Call(call) => drop(self.calls.insert(call.id, call.scratch.clone())),
            Order::Probe(engine, _) => self.probes.push_back(engine.clone()),
            _ => {}
        }
    }

    /// A line that Blender or an add-on printed.
    pub(super) fn printed(&mut self, line: &str) {
        match Stats::parse(line) {
            None => self.shared.log().push(line),
            Some(stats) if !self.stats_by_socket => self.advance(self.begun, &stats),
            Some(_) => {}
        }
    }

    /// A message of the worker's. Answers to what was not asked are passed over.
    pub(super) async fn heard(&mut self, message: FromWorker) {
        match message {
            FromWorker::Hello(_) => {}
            FromWorker::Opened { seconds, warnings } => {
                let warnings = wire::bounded(warnings);
                self.tell(InstanceEvent::Opened(Opened { seconds, warnings }));
            }
            FromWorker::NotOpened { fault, reason } => {
                self.tell(InstanceEvent::NotOpened(Failure::new(fault, reason)));
            }
            FromWorker::Began { id, passes } => self.began(RenderId(id), passes),
            FromWorker::Stats { id, text } => {
                if let Some(stats) = Stats::parse(&text) {
                    self.advance(Some(RenderId(id)), &stats);
                }
            }
            FromWorker::Rendered(answer) => self.rendered(answer).await,
            FromWorker::Failed { id, fault, reason } => {
                let failure = wire::failure(fault, &reason);
                self.answer(RenderId(id), |id| InstanceEvent::Failed { id, failure });
            }
            FromWorker::Canceled { id } => {
                self.answer(RenderId(id), |id| InstanceEvent::Canceled { id });
            }
            FromWorker::CannotCancel { id } => {
                let id = RenderId(id);
                if self.renders.contains_key(&id) {
                    self.tell(InstanceEvent::CannotCancel { id });
                }
            }
            FromWorker::Returned { id, value, warnings } => {
                self.returned(CallId(id), value, wire::bounded(warnings)).await;
            }
            FromWorker::Raised(RaisedBy { id, raised }) => {
                let id = CallId(id);
                if self.calls.remove(&id).is_some() {
                    self.tell(InstanceEvent::Raised { id, raised });
                }
            }
            FromWorker::Probed { error } => {
                if let Some(engine) = self.probes.pop_front() {
                    self.tell(InstanceEvent::Probed { engine, error });
                }
            }
            FromWorker::Pong => self.tell(InstanceEvent::Pong),
        }
    }

    fn began(&mut self, id: RenderId, passes: u32) {
        if let Some(render) = self.renders.get_mut(&id) {
            render.meter = Meter::new(passes);
            self.begun = Some(id);
            self.advance(Some(id), &Stats::default());
        }
    }

    fn advance(&mut self, id: Option<RenderId>, stats: &Stats) {
        let Some((id, render)) = id.and_then(|id| Some((id, self.renders.get_mut(&id)?))) else {
            return;
        };
        render.device_peak_mib = render.device_peak_mib.max(stats.device_peak_mib);
        self.progress = Some(RenderProgress {
            id,
            fraction: render.meter.advance(stats.fraction()),
            sample: stats.sample,
            samples: stats.samples,
            device_mib: stats.device_mib,
        });
    }

    async fn rendered(&mut self, mut answer: Answer) {
        let id = RenderId(answer.id);
        let Some(render) = self.renders.get(&id) else { return };
        let (scratch, extras) = (render.scratch.clone(), render.extras.clone());
        let device_peak_mib = render.device_peak_mib;
        let truths = truths::told(&mut answer.data, extras.as_ref());
        let looking =
            tokio::task::spawn_blocking(move || outputs::collect(&scratch, extras.as_ref()));
        let files = looking
            .await
            .unwrap_or_else(|error| Err(Failure::new(FailureKind::Other, error.to_string())));
        self.answer(id, |id| match files.and_then(|files| Ok((files, truths?))) {
            Ok((files, truths)) => InstanceEvent::Rendered(Rendered {
                id,
                files,
                seconds: answer.seconds,
                width: answer.width,
                height: answer.height,
                device: answer.device,
                peak_mib: answer.peak_mib,
                device_peak_mib,
                warnings: wire::bounded(answer.warnings),
                data: answer.data,
                truths,
            }),
            Err(failure) => InstanceEvent::Failed { id, failure },
        });
    }

    async fn returned(&mut self, id: CallId, value: serde_json::Value, warnings: Vec<String>) {
        let Some(scratch) = self.calls.remove(&id) else { return };
        let looking = tokio::task::spawn_blocking(move || outputs::written(&scratch));
        let files = looking
            .await
            .unwrap_or_else(|error| Err(Failure::new(FailureKind::Other, error.to_string())));
        self.tell(match files {
            Ok(files) => InstanceEvent::Returned { id, value, warnings, files },
            Err(failure) => {
                InstanceEvent::Raised { id, raised: Raised::new("OSError", failure.reason) }
            }
        });
    }

    /// Ends a render: no progress of it is told after its answer.
    fn answer(&mut self, id: RenderId, event: impl FnOnce(RenderId) -> InstanceEvent) {
        if self.renders.remove(&id).is_none() {
            return;
        }
        self.progress.take_if(|progress| progress.id == id);
        self.begun.take_if(|begun| *begun == id);
        self.tell(event(id));
    }

    fn tell(&mut self, event: InstanceEvent) {
        self.untold.push_back(event);
    }
}
