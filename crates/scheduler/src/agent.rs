//! What the core knows of an agent: volatile, told by the agent each time it joins.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use grange_protocol::agent::{AgentHello, RuntimeInfo};
use grange_protocol::job::{DeviceRequest, Engine, Needs, SceneNeeds, Work};
use grange_protocol::{BlobHash, LeaseId, Millis};

#[derive(Clone, Debug)]
pub struct Agent {
    pub hello: AgentHello,
    pub connection: Connection,
    pub(crate) devices: Vec<DeviceBook>,
    /// How it is filed among the agents that take tasks.
    pub(crate) filed: Filed,
}

/// An agent's places in the core's indices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filed {
    /// Its load, if it has room for a task.
    pub(crate) load: Option<usize>,
    /// Scenes that an idle instance of it has open.
    pub(crate) scenes: Vec<BlobHash>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    Online,
    /// Online, and wants no more tasks.
    Draining,
    /// Its leases are kept until then.
    Lost {
        expires_at: Millis,
    },
    /// It holds nothing.
    Offline,
}

/// What a device holds, running or ahead, and which scenes are warm on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeviceBook {
    pub(crate) slots: usize,
    /// Tasks that it takes: slots and those ahead.
    pub(crate) room: usize,
    /// In the order of assignment: the first `slots` run, the rest wait.
    pub(crate) held: Vec<LeaseId>,
    /// By manifest.
    pub(crate) scenes: BTreeMap<BlobHash, WarmScene>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct WarmScene {
    /// Leases that use it.
    pub(crate) held: u32,
    /// Instances that have it open: as many as ever used it at once.
    pub(crate) instances: u32,
    /// Since when the device works on it without a break.
    pub(crate) since: Millis,
}

impl Agent {
    pub(crate) fn new(hello: AgentHello) -> Self {
        let ahead = usize::from(hello.ahead);
        let devices = hello
            .devices
            .iter()
            .map(|device| DeviceBook {
                slots: device.slots.into(),
                room: usize::from(device.slots) * (1 + ahead),
                ..DeviceBook::default()
            })
            .collect();
        Self { hello, connection: Connection::Online, devices, filed: Filed::default() }
    }

    pub fn is_online(&self) -> bool {
        self.connection == Connection::Online
    }

    /// Leases that it holds, of whatever state.
    pub fn held(&self) -> impl Iterator<Item = LeaseId> + '_ {
        self.devices.iter().flat_map(|device| device.held.iter().copied())
    }

    /// How it should be filed now.
    pub(crate) fn filing(&self) -> Filed {
        let roomy = || self.devices.iter().filter(|device| self.is_online() && device.has_room());
        let warm = |device: &DeviceBook| {
            let idle = device.scenes.iter().filter(|(_, warm)| warm.held < warm.instances);
            idle.map(|(scene, _)| *scene).collect::<Vec<_>>()
        };
        let scenes = roomy().filter(|device| device.has_idle_slot()).flat_map(warm);
        Filed { load: roomy().map(DeviceBook::load).min(), scenes: scenes.collect() }
    }

    /// Whether it could ever do this work.
    pub fn fits(&self, work: &Work) -> bool {
        self.has_what_it_needs(&work.needs())
            && self.hello.devices.iter().any(|device| device.kind.serves(device_request(work)))
    }

    fn has_what_it_needs(&self, needs: &Needs<'_>) -> bool {
        match needs {
            Needs::Blender(needs) => self.hello.runtimes.iter().any(|runtime| {
                runtime.version.can_open(needs.saved_by)
                    && needs.engines.is_subset(&runtime.engines)
                    && (runtime.denoiser || !needs.denoiser)
            }),
            Needs::Ffmpeg => self.hello.ffmpeg,
            Needs::Nothing => true,
        }
    }

    /// The device that takes a task of this work now, the least loaded first.
    pub(crate) fn device_for(&self, work: &Work) -> Option<usize> {
        let request = device_request(work);
        (0..self.devices.len())
            .filter(|at| self.hello.devices[*at].kind.serves(request))
            .filter(|at| self.devices[*at].has_room())
            .min_by_key(|at| self.devices[*at].load())
    }
}

impl DeviceBook {
    pub(crate) fn has_room(&self) -> bool {
        self.held.len() < self.room
    }

    pub(crate) fn has_idle_slot(&self) -> bool {
        self.held.len() < self.slots
    }

    /// Thousandths of the slots that are in use; above 1000 if tasks wait.
    pub(crate) fn load(&self) -> usize {
        self.held.len() * 1000 / self.slots.max(1)
    }

    /// Leases that wait behind those that run.
    pub(crate) fn waiting(&self) -> &[LeaseId] {
        self.held.get(self.slots..).unwrap_or(&[])
    }

    pub(crate) fn hold(&mut self, lease: LeaseId, scene: Option<BlobHash>, now: Millis) {
        self.held.push(lease);
        if let Some(scene) = scene {
            let new = WarmScene { held: 0, instances: 0, since: now };
            let warm = self.scenes.entry(scene).or_insert(new);
            warm.held += 1;
            warm.instances = warm.instances.max(warm.held.min(self.slots as u32));
        }
    }

    pub(crate) fn release(&mut self, lease: LeaseId, scene: Option<BlobHash>) {
        self.held.retain(|held| *held != lease);
        if let Some(warm) = scene.and_then(|scene| self.scenes.get_mut(&scene)) {
            warm.held = warm.held.saturating_sub(1);
        }
    }

    /// Forgets scenes that nobody uses until there is a slot for another.
    pub(crate) fn make_way(&mut self, keep: BlobHash) {
        while self.scenes.len() >= self.slots.max(1) && !self.scenes.contains_key(&keep) {
            let oldest = self
                .scenes
                .iter()
                .min_by_key(|(_, warm)| (warm.held, warm.since))
                .map(|(scene, _)| *scene);
            match oldest {
                Some(scene) => self.scenes.remove(&scene),
                None => break,
            };
        }
    }
}

fn device_request(work: &Work) -> DeviceRequest {
    match work {
        Work::Render(render) => render.settings.device,
        Work::Video(_) | Work::Noop(_) => DeviceRequest::Any,
    }
}

/// What the farm lacks for some work.
pub(crate) struct Lack {
    fact: String,
    /// What its people can do about it.
    advice: String,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.fact, self.advice)
    }
}

impl Lack {
    fn new(fact: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { fact: fact.into(), advice: advice.into() }
    }

    /// Judged from what the agents have that are online, of which none fits.
    pub(crate) fn of<'a>(work: &Work, agents: impl Iterator<Item = &'a Agent>) -> Self {
        match work.needs() {
            Needs::Ffmpeg => {
                Self::new("no agent that is online has ffmpeg", "install it on a host")
            }
            Needs::Nothing => Self::new(
                "no agent that is online has a device for it",
                "start an agent on a host that has one",
            ),
            Needs::Blender(needs) => {
                Self::of_runtimes(needs, agents.flat_map(|agent| &agent.hello.runtimes))
            }
        }
    }

    fn of_runtimes<'a>(
        needs: &SceneNeeds,
        runtimes: impl Iterator<Item = &'a RuntimeInfo>,
    ) -> Self {
        let runtimes: Vec<&RuntimeInfo> = runtimes.collect();
        let Some(newest) = runtimes.iter().map(|runtime| runtime.version).max() else {
            return Self::new("no agent that is online has a Blender", "install one on a host");
        };
        let saved_by = needs.saved_by;
        let able: Vec<&RuntimeInfo> =
            runtimes.into_iter().filter(|runtime| runtime.version.can_open(saved_by)).collect();
        if able.is_empty() {
            return Self::new(
                format!(
                    "the file was saved by Blender {saved_by}, and the newest Blender on the \
                     agents that are online is {newest}"
                ),
                format!("install Blender {saved_by} on a host"),
            );
        }
        let has = |engine: &Engine| able.iter().any(|runtime| runtime.engines.contains(engine));
        let engines: Vec<String> =
            needs.engines.iter().filter(|engine| !has(engine)).map(ToString::to_string).collect();
        if !engines.is_empty() {
            return Self::new(
                format!("no agent that is online can render with {}", engines.join(" and ")),
                "start an agent on a host that can, or choose another engine",
            );
        }
        if needs.denoiser && !able.iter().any(|runtime| runtime.denoiser) {
            let versions: BTreeSet<&str> =
                able.iter().map(|runtime| runtime.full_version.as_str()).collect();
            let versions: Vec<&str> = versions.into_iter().collect();
            return Self::new(
                format!(
                    "the scene is denoised, and Blender {} on the agents that are online was \
                     built without the denoiser",
                    versions.join(" and ")
                ),
                "use a Blender from blender.org there, or pass --allow-no-denoiser",
            );
        }
        Self::new(
            "no agent that is online has a Blender, its engine and a device for it together",
            "start an agent on a host that has",
        )
    }
}
