//! Render hosts: what an agent does with leases, as its own core does it, and what its devices
//! really hold.

use std::collections::BTreeMap;

use grange_protocol::agent::{
    AgentHello, Assignment, Completed, Failure, FailureKind, Holding, Outcome,
};
use grange_protocol::file::{Blob, Output, OutputRole};
use grange_protocol::footprint::{DeviceState, MeasuredEnd, Measurement, Memory};
use grange_protocol::job::{Needs, RenderWork, TaskWork, Work};
use grange_protocol::{AgentId, BlobHash, LeaseId, RefusalCode};
use grange_scheduler::{Answer, Event, RequestId};
use uuid::Uuid;

use super::{Ask, Input, Next, ToHost, World};

/// A dead connection is noticed after so long.
const SILENCE_MS: (u64, u64) = (5_000, 12_000);
const LATENCY_MS: (u64, u64) = (1, 40);

pub(super) struct Host {
    pub(super) id: AgentId,
    pub(super) hello: AgentHello,
    /// Rises with each start of its process.
    pub(super) life: u32,
    pub(super) is_up: bool,
    pub(super) draining: bool,
    /// The connection that it believes it has.
    pub(super) link: Option<u64>,
    /// The coordinator has greeted it over that.
    welcomed: bool,
    tries: u32,
    /// Nothing gets through before.
    pub(super) parted_until_ms: u64,
    /// When the latest message arrives, each way: streams keep their order.
    sent_ms: u64,
    told_ms: u64,
    pub(super) devices: Vec<Device>,
    attempts: BTreeMap<LeaseId, Attempt>,
    /// Frames take so many percent of their time.
    pub(super) slowness_percent: u64,
}

pub(super) struct Device {
    pub(super) memory_mib: u64,
    pub(super) others_mib: u64,
    pub(super) slots: u16,
    pub(super) lost: bool,
}

struct Attempt {
    assignment: Assignment,
    stage: Stage,
    /// Files that are not committed yet, and how many are.
    storing: Vec<Output>,
    stored: u32,
}

enum Stage {
    Queued,
    Working { end: End, began_ms: u64 },
    Storing,
    Ended(Outcome),
}

/// How the work of an attempt will end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Fails(FailureKind),
    /// The device had so much for it.
    OutOfMemory {
        had_mib: u32,
    },
}

impl Host {
    pub(super) fn new(at: usize, hello: AgentHello) -> Self {
        let devices = (hello.devices.iter())
            .map(|info| Device {
                memory_mib: info.memory_mib,
                others_mib: 0,
                slots: info.slots,
                lost: false,
            })
            .collect();
        Self {
            id: AgentId(Uuid::from_u128(at as u128)),
            hello,
            life: 0,
            is_up: false,
            draining: false,
            link: None,
            welcomed: false,
            tries: 0,
            parted_until_ms: 0,
            sent_ms: 0,
            told_ms: 0,
            devices,
            attempts: BTreeMap::new(),
            slowness_percent: 100,
        }
    }

    /// Whether it has what the work asks for when all is well.
    pub(super) fn could_do(&self, work: &Work) -> bool {
        let has = match work.needs() {
            Needs::Blender(needs) => self.hello.runtimes.iter().any(|runtime| {
                runtime.version.can_open(needs.saved_by)
                    && needs.engines.is_subset(&runtime.engines)
                    && (runtime.denoiser || !needs.denoiser)
            }),
            Needs::Ffmpeg => self.hello.ffmpeg,
            Needs::Nothing => true,
        };
        let serves = |render: &RenderWork| {
            let mut kinds = self.hello.devices.iter().map(|device| device.kind);
            kinds.any(|kind| kind.serves(render.settings.device))
        };
        has && work.render().is_none_or(serves)
    }

    fn holding(&self) -> Vec<Holding> {
        let attempts = self.attempts.values().map(|attempt| &attempt.assignment);
        attempts
            .map(|one| Holding { lease: one.lease, task: one.task, device: one.device })
            .collect()
    }

    fn states(&self) -> Vec<DeviceState> {
        let states = self.devices.iter().map(|device| DeviceState {
            total_mib: device.memory_mib,
            others_mib: device.others_mib,
            slots: device.slots,
            problem: device.lost.then(|| "the driver has lost it".into()),
            ..DeviceState::default()
        });
        states.collect()
    }

    fn working_on(&self, device: u16) -> impl Iterator<Item = &Attempt> {
        self.attempts.values().filter(move |attempt| {
            attempt.assignment.device == device && matches!(attempt.stage, Stage::Working { .. })
        })
    }

    /// What was set aside for an attempt, in MiB; the share of its device if nobody knows.
    fn share_of(&self, assignment: &Assignment) -> u64 {
        let device = &self.devices[usize::from(assignment.device)];
        let expected = assignment.expected;
        let known = match (expected.plain, expected.kept) {
            (Some(plain), Some(kept)) => Some(plain.min(kept)),
            (one, other) => one.or(other),
        };
        let all = device.memory_mib / u64::from(device.slots.max(1));
        known.map_or(all, |need| need.device_mib.into())
    }

    /// The next attempt that has a slot and its memory.
    fn next_to_begin(&self) -> Option<LeaseId> {
        self.attempts.iter().find_map(|(lease, attempt)| {
            if !matches!(attempt.stage, Stage::Queued) {
                return None;
            }
            let at = attempt.assignment.device;
            let device = self.devices.get(usize::from(at))?;
            let running = self.working_on(at).count();
            let taken: u64 = self.working_on(at).map(|one| self.share_of(&one.assignment)).sum();
            let free_mib = device.memory_mib.saturating_sub(device.others_mib + taken);
            let fits = running == 0 || self.share_of(&attempt.assignment) <= free_mib;
            let begins = fits && running < usize::from(device.slots) && !device.lost;
            // What needs no device's memory begins at once.
            (begins || attempt.assignment.work.render().is_none()).then_some(*lease)
        })
    }
}

impl World {
    pub(super) fn start_host(&mut self, at: usize, life: u32) {
        let host = &mut self.hosts[at];
        if host.life != life || host.is_up {
            return;
        }
        host.is_up = true;
        host.draining = false;
        host.tries = 0;
        self.at(0, Next::Connect { host: at, life });
    }

    /// Its process is gone, and all that it held.
    pub(super) fn stop_host(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        host.is_up = false;
        host.life += 1;
        let attempts = std::mem::take(&mut host.attempts);
        drop(attempts);
        if let Some(link) = host.link.take() {
            self.break_link(at, link);
        }
        if let Some(link) = self.coordinator.link_of(at) {
            self.break_link(at, link);
        }
    }

    /// Nothing travels over it any more; both sides find out.
    pub(super) fn break_link(&mut self, host: usize, link: u64) {
        if !self.cut.insert(link) {
            return;
        }
        let (soon, late) = SILENCE_MS;
        // A process that ends says so; a network does not.
        let theirs = if self.random.percent(40) { 10 } else { self.random.between(soon, late) };
        let ours = self.random.between(soon / 2, late);
        self.at(theirs, Next::LinkDied { host, link });
        self.at(ours, Next::LinkLost { host, link });
    }

    pub(super) fn link_lost(&mut self, at: usize, link: u64) {
        let host = &mut self.hosts[at];
        if host.link == Some(link) {
            host.link = None;
            host.welcomed = false;
            let life = host.life;
            self.at(10, Next::Connect { host: at, life });
        }
    }

    pub(super) fn connect(&mut self, at: usize, life: u32) {
        let now_ms = self.now_ms;
        let jitter = self.random.between(50, 150);
        let host = &mut self.hosts[at];
        if host.life != life || !host.is_up || host.link.is_some() {
            return;
        }
        if !self.coordinator.is_up() || host.parted_until_ms > now_ms {
            host.tries += 1;
            let backoff_ms = (250 << host.tries.min(6)).min(10_000) * jitter / 100;
            return self.at(backoff_ms, Next::Connect { host: at, life });
        }
        self.last_link += 1;
        let link = self.last_link;
        host.tries = 0;
        host.link = Some(link);
        host.welcomed = false;
        host.sent_ms = now_ms;
        host.told_ms = now_ms;
        let mut hello = host.hello.clone();
        hello.holding = host.holding();
        for (info, device) in hello.devices.iter_mut().zip(&host.devices) {
            info.memory_mib = device.memory_mib;
        }
        let event = Box::new(Event::AgentJoined { agent: host.id, hello: Box::new(hello) });
        self.send_to_coordinator(at, Input::Joined { host: at, link, event });
    }

    /// Over its connection, in order; into nothing if it has none.
    fn send_to_coordinator(&mut self, at: usize, input: Input) {
        let latency = self.random.between(LATENCY_MS.0, LATENCY_MS.1);
        let host = &mut self.hosts[at];
        let Some(link) = host.link else { return };
        host.sent_ms = host.sent_ms.max(self.now_ms + latency).max(host.parted_until_ms);
        let at_ms = host.sent_ms;
        self.at_moment(at_ms, Next::Arrive { over: Some((at, link)), input });
    }

    pub(super) fn tell(&mut self, at: usize, event: Event) {
        self.send_to_coordinator(at, Input::Event(Box::new(event)));
    }

    pub(super) fn send_to_host(&mut self, at: usize, link: u64, message: ToHost) {
        let latency = self.random.between(LATENCY_MS.0, LATENCY_MS.1);
        let host = &mut self.hosts[at];
        host.told_ms = host.told_ms.max(self.now_ms + latency).max(host.parted_until_ms);
        let at_ms = host.told_ms;
        self.at_moment(at_ms, Next::Deliver { host: at, link, message });
    }

    pub(super) fn deliver(&mut self, at: usize, message: ToHost) {
        match message {
            ToHost::Welcome { drop } => self.welcomed(at, &drop),
            ToHost::Assign(assignment) => self.assigned(at, *assignment),
            ToHost::Recall(lease) => {
                let attempts = &mut self.hosts[at].attempts;
                if attempts.get(&lease).is_some_and(|one| matches!(one.stage, Stage::Queued)) {
                    attempts.remove(&lease);
                    self.give_back(at, vec![lease]);
                }
            }
            ToHost::Revoke(lease) => self.end(at, lease, Outcome::Canceled),
            ToHost::Settled(lease) => {
                let attempts = &mut self.hosts[at].attempts;
                if attempts.get(&lease).is_some_and(|one| matches!(one.stage, Stage::Ended(_))) {
                    attempts.remove(&lease);
                }
            }
            ToHost::Answer { life, lease, output, answer } => {
                if self.hosts[at].life == life {
                    self.stored(at, lease, &output, &answer);
                }
            }
        }
        self.begin_what_can(at);
    }

    fn welcomed(&mut self, at: usize, drop: &[LeaseId]) {
        let host = &mut self.hosts[at];
        host.welcomed = true;
        for lease in drop {
            host.attempts.remove(lease);
        }
        let agent = host.id;
        let draining = host.draining;
        let mut again = Vec::new();
        let mut uploads = Vec::new();
        for (lease, attempt) in &host.attempts {
            match &attempt.stage {
                Stage::Ended(outcome) => {
                    let (lease, task) = (*lease, attempt.assignment.task);
                    again.push(Event::Ended { agent, lease, task, outcome: outcome.clone() });
                }
                Stage::Storing => {
                    uploads.extend(attempt.storing.iter().map(|output| (*lease, output.clone())));
                }
                _ => {}
            }
        }
        for event in again {
            self.tell(at, event);
        }
        for (lease, output) in uploads {
            self.upload(at, lease, output);
        }
        if draining {
            self.tell(at, Event::AgentDraining { agent });
        }
        self.tell_devices(at);
    }

    pub(super) fn tell_devices(&mut self, at: usize) {
        let host = &self.hosts[at];
        let (agent, devices) = (host.id, host.states());
        self.tell(at, Event::DevicesTold { agent, devices });
        self.begin_what_can(at);
    }

    pub(super) fn give_back(&mut self, at: usize, leases: Vec<LeaseId>) {
        let agent = self.hosts[at].id;
        self.tell(at, Event::Returned { agent, leases });
    }

    /// Gives back what it has not begun.
    pub(super) fn give_back_the_rest(&mut self, at: usize) {
        let attempts = &mut self.hosts[at].attempts;
        let rest: Vec<LeaseId> = (attempts.iter())
            .filter(|(_, attempt)| matches!(attempt.stage, Stage::Queued))
            .map(|(lease, _)| *lease)
            .collect();
        attempts.retain(|lease, _| !rest.contains(lease));
        if !rest.is_empty() {
            self.give_back(at, rest);
        }
    }

    fn assigned(&mut self, at: usize, assignment: Assignment) {
        let host = &mut self.hosts[at];
        let lease = assignment.lease;
        if host.draining {
            return self.give_back(at, vec![lease]);
        }
        let stage = Stage::Queued;
        let attempt = Attempt { assignment, stage, storing: Vec::new(), stored: 0 };
        host.attempts.entry(lease).or_insert(attempt);
    }

    fn begin_what_can(&mut self, at: usize) {
        while let Some(lease) = self.hosts[at].next_to_begin() {
            let (end, takes_ms) = self.fate(at, lease);
            let (now_ms, host) = (self.now_ms, &mut self.hosts[at]);
            let takes_ms = takes_ms * host.slowness_percent / 100;
            if let Some(attempt) = host.attempts.get_mut(&lease) {
                attempt.stage = Stage::Working { end, began_ms: now_ms };
            }
            let life = host.life;
            self.at(takes_ms, Next::WorkOver { host: at, life, lease });
        }
    }

    /// How an attempt that begins now will end, and when.
    fn fate(&mut self, at: usize, lease: LeaseId) -> (End, u64) {
        let bad = !self.calm && self.random.percent(self.plan.bad_attempts_percent);
        let host = &self.hosts[at];
        let assignment = &host.attempts[&lease].assignment;
        let (stall_s, device) = (assignment.stall_s, &host.devices[usize::from(assignment.device)]);
        let peak = |one: &Assignment| {
            let scene = one.work.render().and(self.plan.scene(one.manifest));
            scene.map_or(0, |scene| u64::from(scene.peak_mib))
        };
        let beside: u64 = host.working_on(assignment.device).map(|one| peak(&one.assignment)).sum();
        let had_mib = device.memory_mib.saturating_sub(device.others_mib + beside);
        let typical_ms = match &assignment.work {
            TaskWork::Noop(noop) => u64::from(noop.millis),
            TaskWork::Video(_) => 5_000,
            TaskWork::Session(_) => 45_000,
            TaskWork::Render(render) => {
                let frames: u64 = render.shots.iter().map(|shot| shot.frames.len()).sum();
                let scene = self.plan.scene(assignment.manifest);
                scene.map_or(1_000, |scene| scene.frame_ms * frames)
            }
        };
        let ran_out = peak(assignment) > had_mib;
        let takes_ms = typical_ms * self.random.between(80, 120) / 100;
        if ran_out {
            return (End::OutOfMemory { had_mib: had_mib as u32 }, 3_000);
        }
        if !bad {
            return (End::Done, takes_ms);
        }
        const KINDS: [(FailureKind, &str); 7] = [
            (FailureKind::Scene, "attempt: the scene is at fault"),
            (FailureKind::Host, "attempt: the host is at fault"),
            (FailureKind::Crash, "attempt: Blender crashes"),
            (FailureKind::Stalled, "attempt: the render hangs"),
            (FailureKind::OutOfMemory, "attempt: memory runs out for no reason"),
            (FailureKind::Output, "attempt: the picture is not whole"),
            (FailureKind::Other, "attempt: something else fails"),
        ];
        let (kind, fault) = KINDS[self.random.index(KINDS.len())];
        self.count(fault);
        let end_ms = match kind {
            FailureKind::Stalled => u64::from(stall_s) * 1000,
            _ => takes_ms * self.random.between(0, 100) / 100,
        };
        (End::Fails(kind), end_ms)
    }

    pub(super) fn work_over(&mut self, at: usize, life: u32, lease: LeaseId) {
        let host = &mut self.hosts[at];
        if host.life != life {
            return;
        }
        let Some(attempt) = host.attempts.get_mut(&lease) else { return };
        let Stage::Working { end, began_ms } = attempt.stage else { return };
        let assignment = attempt.assignment.clone();
        self.measure(at, &assignment, end, began_ms);
        match end {
            End::Fails(kind) => {
                let reason = format!("{kind:?} under {lease}");
                self.end(at, lease, Outcome::Failed(Failure::new(kind, reason)));
            }
            End::OutOfMemory { .. } => {
                let failure = Failure::new(FailureKind::OutOfMemory, "memory ran out");
                self.count("attempt: memory really runs out");
                self.end(at, lease, Outcome::Failed(failure));
            }
            End::Done => {
                let outputs = self.outputs_of(&assignment);
                if let Some(attempt) = self.hosts[at].attempts.get_mut(&lease) {
                    attempt.stage = Stage::Storing;
                    attempt.storing.clone_from(&outputs);
                }
                for output in outputs {
                    self.upload(at, lease, output);
                }
                self.complete_if_all_is_stored(at, lease);
            }
        }
        self.begin_what_can(at);
    }

    /// Tells what a frame took; one in ten of such messages is dropped, as they may be.
    fn measure(&mut self, at: usize, assignment: &Assignment, end: End, began_ms: u64) {
        let Some(scene) = assignment.work.render().and(self.plan.scene(assignment.manifest)) else {
            return;
        };
        let peak = Memory { device_mib: scene.peak_mib, ram_mib: scene.ram_mib };
        let (peak, end) = match end {
            End::Done => {
                let frame_ms = (self.now_ms - began_ms) as u32;
                (peak, MeasuredEnd::Rendered { frame_ms, beside: 1 })
            }
            End::OutOfMemory { had_mib } => {
                let reserved = Memory { device_mib: had_mib, ram_mib: scene.ram_mib };
                (Memory::default(), MeasuredEnd::OutOfMemory { reserved })
            }
            End::Fails(_) => return,
        };
        let asked = assignment.work.render().and_then(|render| render.shots.first()?.resolution);
        let pixels = asked.map_or(1 << 20, |size| u64::from(size.width) * u64::from(size.height));
        let (lease, task, device) = (assignment.lease, assignment.task, assignment.device);
        let (kept, load_ms) = (false, Some(500));
        let measurement = Measurement { lease, task, device, kept, pixels, peak, load_ms, end };
        if !self.random.percent(10) {
            let agent = self.hosts[at].id;
            self.tell(at, Event::Measured { agent, measurement });
        }
    }

    /// What an attempt writes: the same names each time, never the same bytes.
    fn outputs_of(&mut self, assignment: &Assignment) -> Vec<Output> {
        let mut names = Vec::new();
        match &assignment.work {
            TaskWork::Noop(_) => {}
            TaskWork::Video(video) => names.push(video.output.to_string()),
            TaskWork::Session(_) => {
                names.extend((0..self.random.below(5)).map(|call| format!("{call}/frame.png")));
            }
            TaskWork::Render(render) => {
                for shot in &render.shots {
                    names.extend(
                        shot.frames
                            .iter()
                            .map(|frame| format!("{}.png", shot.output.expand(frame))),
                    );
                }
            }
        }
        let output = |name: String| {
            let bytes = format!("{name} under {}", assignment.lease);
            let blob = Blob { hash: BlobHash::of(bytes.as_bytes()), len: bytes.len() as u64 };
            Output { name: super::plan::label(&name), role: OutputRole::Frame, frame: 0, blob }
        };
        names.into_iter().map(output).collect()
    }

    /// On a stream of its own, so nothing keeps it in order with anything else.
    fn upload(&mut self, at: usize, lease: LeaseId, output: Output) {
        let host = &self.hosts[at];
        if !host.welcomed {
            return;
        }
        let Some(attempt) = host.attempts.get(&lease) else { return };
        let (agent, task, life, link) = (host.id, attempt.assignment.task, host.life, host.link);
        let request = RequestId(0);
        let event = Event::OutputReceived { request, agent, lease, task, output: output.clone() };
        let ask = Ask::Output { host: at, life, lease, output };
        let parted_ms = host.parted_until_ms.saturating_sub(self.now_ms);
        let delay_ms = self.random.magnitude(2, 2_000) + parted_ms;
        let over = link.map(|link| (at, link));
        if !self.calm && self.random.percent(2) {
            // It is there in whole when its connection dies, and is taken up much later.
            self.count("output: arrives long after");
            let late_ms = self.random.between(20_000, 90_000);
            self.ask(late_ms, Ask::Forgery, event.clone());
        }
        self.at(delay_ms, Next::Arrive { over, input: Input::Ask(ask, Box::new(event)) });
    }

    fn stored(&mut self, at: usize, lease: LeaseId, output: &Output, answer: &Answer) {
        let Some(attempt) = self.hosts[at].attempts.get_mut(&lease) else { return };
        if !matches!(attempt.stage, Stage::Storing) {
            return;
        }
        match answer {
            Answer::Refused(refusal) if refusal.code == RefusalCode::StaleLease => {
                self.end(at, lease, Outcome::Canceled);
            }
            Answer::Refused(refusal) => {
                let failure = Failure::new(FailureKind::Output, refusal.message.clone());
                self.end(at, lease, Outcome::Failed(failure));
            }
            _ => {
                let before = attempt.storing.len();
                attempt.storing.retain(|other| other.name != output.name);
                attempt.stored += (before - attempt.storing.len()) as u32;
                self.complete_if_all_is_stored(at, lease);
            }
        }
    }

    fn complete_if_all_is_stored(&mut self, at: usize, lease: LeaseId) {
        let Some(attempt) = self.hosts[at].attempts.get(&lease) else { return };
        if matches!(attempt.stage, Stage::Storing) && attempt.storing.is_empty() {
            let cost = Completed {
                outputs: attempt.stored,
                total_ms: 2,
                render_ms: 1,
                load_ms: 1,
                peak_mib: 1,
            };
            self.end(at, lease, Outcome::Completed(cost));
        }
    }

    /// Ends an attempt and tells of it until that is settled.
    fn end(&mut self, at: usize, lease: LeaseId, outcome: Outcome) {
        let host = &mut self.hosts[at];
        let agent = host.id;
        let Some(attempt) = host.attempts.get_mut(&lease) else { return };
        if matches!(attempt.stage, Stage::Ended(_)) {
            return;
        }
        attempt.stage = Stage::Ended(outcome.clone());
        let task = attempt.assignment.task;
        self.tell(at, Event::Ended { agent, lease, task, outcome });
        self.begin_what_can(at);
    }
}
