//! What the core knows of an agent: volatile, told by the agent each time it joins.

use std::collections::BTreeSet;
use std::fmt;

use grange_protocol::agent::{AgentHello, DeviceKind, RuntimeInfo};
use grange_protocol::footprint::Expected;
use grange_protocol::job::{DeviceRequest, Engine, Needs, SceneNeeds, Work};
use grange_protocol::shot::Label;
use grange_protocol::{BlobHash, LeaseId, Millis};

use crate::device::DeviceBook;
use crate::footprint::Estimate;
use crate::standing::Duty;

#[derive(Clone, Debug)]
pub struct Agent {
    pub hello: AgentHello,
    pub connection: Connection,
    /// Whether it gets tasks, if it is online.
    pub duty: Duty,
    pub(crate) tags: BTreeSet<Label>,
    pub(crate) devices: Vec<DeviceBook>,
    /// How its devices are filed among those that take tasks.
    pub(crate) filed: Vec<Filed>,
}

/// A device's places in the core's indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filed {
    pub(crate) kind: DeviceKind,
    /// If it is online: whether it is a CPU beside GPUs, and the memory that it has.
    pub(crate) total: Option<(bool, u64)>,
    /// Its load and what memory is free, if it has a free slot.
    pub(crate) roomy: Option<(usize, u64)>,
    /// Its load, if it takes tasks ahead.
    pub(crate) ahead: Option<usize>,
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

impl Filed {
    pub(crate) fn nowhere(kind: DeviceKind) -> Self {
        Self { kind, total: None, roomy: None, ahead: None, scenes: Vec::new() }
    }
}

impl Agent {
    pub(crate) fn new(hello: AgentHello) -> Self {
        let devices: Vec<DeviceBook> =
            hello.devices.iter().map(|device| DeviceBook::new(device, hello.ahead)).collect();
        let filed = devices.iter().map(|device| Filed::nowhere(device.kind)).collect();
        let (connection, duty) = (Connection::Online, Duty::On);
        Self { hello, connection, duty, tags: BTreeSet::new(), devices, filed }
    }

    pub fn is_online(&self) -> bool {
        self.connection == Connection::Online
    }

    /// It is there, and is given tasks.
    pub fn takes_tasks(&self) -> bool {
        self.is_online() && self.duty == Duty::On
    }

    /// It is there, and may be about to stop.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.connection, Connection::Online | Connection::Draining)
    }

    /// Leases that it holds, of whatever state.
    pub fn held(&self) -> impl Iterator<Item = LeaseId> + '_ {
        self.devices.iter().flat_map(|device| device.held.iter().map(|held| held.lease))
    }

    /// How its devices should be filed now.
    pub(crate) fn filing(&self) -> Vec<Filed> {
        self.devices.iter().map(|device| self.filing_of(device)).collect()
    }

    fn filing_of(&self, device: &DeviceBook) -> Filed {
        if !self.is_online() || device.is_lost {
            return Filed::nowhere(device.kind);
        }
        let running = device.running();
        let takes = self.takes_tasks();
        let is_roomy = takes && device.has_free_slot(running);
        let idle = device.scenes.iter().filter(|(_, warm)| warm.held < warm.instances);
        let scenes = if is_roomy { idle.map(|(scene, _)| *scene).collect() } else { Vec::new() };
        Filed {
            kind: device.kind,
            total: Some((device.kind == DeviceKind::Cpu && self.has_gpu(), device.total_mib)),
            roomy: is_roomy.then(|| (device.load(), running.free_mib)),
            ahead: (takes && device.has_room_ahead(running)).then(|| device.load()),
            scenes,
        }
    }

    fn has_gpu(&self) -> bool {
        self.devices.iter().any(|device| device.kind != DeviceKind::Cpu)
    }

    /// Whether it could ever do this work.
    pub fn fits(&self, work: &Work) -> bool {
        self.has_what_it_needs(&work.needs())
            && (0..self.devices.len()).any(|at| self.suits(at, work))
    }

    pub(crate) fn has_what_it_needs(&self, needs: &Needs<'_>) -> bool {
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

    /// Whether a device is one for this work. Where there is a GPU, the CPU renders only what asks
    /// for it; what does not render leaves the GPUs alone where there is a CPU.
    pub(crate) fn suits(&self, device: usize, work: &Work) -> bool {
        let Some(kind) = self.devices.get(device).map(|device| device.kind) else { return false };
        let is_cpu = kind == DeviceKind::Cpu;
        match work.render() {
            Some(render) => {
                let request = render.settings.device;
                let spared = is_cpu && request == DeviceRequest::Any && self.has_gpu();
                kind.serves(request) && !spared
            }
            None => is_cpu || self.devices.iter().all(|device| device.kind != DeviceKind::Cpu),
        }
    }

    /// RAM that is free for instances of GPUs; the CPU is the device whose memory it is.
    pub(crate) fn free_ram_mib(&self) -> u64 {
        let cpu = self.devices.iter().find(|device| device.kind == DeviceKind::Cpu);
        let Some(cpu) = cpu.filter(|cpu| cpu.total_mib > 0) else { return u64::MAX };
        let taken: u64 = self.devices.iter().map(|device| device.running().ram_mib).sum();
        cpu.total_mib.saturating_sub(cpu.others_mib).saturating_sub(taken)
    }

    /// The host's RAM, where it is known.
    pub(crate) fn ram_mib(&self) -> Option<u64> {
        let cpu = self.devices.iter().find(|device| device.kind == DeviceKind::Cpu);
        cpu.map(|cpu| cpu.total_mib).filter(|mib| *mib > 0)
    }

    /// What to expect here: margins on RAM may be as large as the host has RAM, or nearly all of it,
    /// because the system takes some. What is sure stays.
    pub(crate) fn within_ram(&self, device: usize, estimate: &Estimate) -> Estimate {
        let mut estimate = *estimate;
        let is_gpu = self.devices.get(device).is_some_and(|book| book.kind != DeviceKind::Cpu);
        if let Some(ram_mib) = self.ram_mib().filter(|_| is_gpu) {
            let nearly_all = u32::try_from(ram_mib - ram_mib / 8).unwrap_or(u32::MAX);
            let most_mib = nearly_all.max(estimate.surely.ram_mib);
            let Expected { plain, kept, .. } = &mut estimate.expected;
            for memory in [plain, kept].into_iter().flatten() {
                memory.ram_mib = memory.ram_mib.min(most_mib);
            }
        }
        estimate
    }

    /// Whether its RAM is enough for an instance on the device, if nothing else uses any.
    pub(crate) fn has_ram_for(&self, device: usize, estimate: &Estimate) -> bool {
        let is_cpu = self.devices.get(device).is_some_and(|book| book.kind == DeviceKind::Cpu);
        let needs_mib = u64::from(estimate.surely.ram_mib);
        is_cpu || self.ram_mib().is_none_or(|ram_mib| needs_mib <= ram_mib)
    }

    /// Whether a task would have an instance on the device at once.
    pub(crate) fn runs_now(&self, device: usize, estimate: &Estimate) -> bool {
        let Some(book) = self.devices.get(device) else { return false };
        let running = book.running();
        let need = book.offers(estimate, running);
        let ram_mib = need.map_or(0, |need| u64::from(need.ram_mib));
        let has_ram =
            book.kind == DeviceKind::Cpu || ram_mib == 0 || ram_mib <= self.free_ram_mib();
        book.has_free_slot(running) && book.fits(need, running) && has_ram
    }
}

/// What a person asked for; `None` if anything will do.
fn name_of(request: DeviceRequest) -> Option<&'static str> {
    Some(match request {
        DeviceRequest::Any => return None,
        DeviceRequest::Cpu => "a CPU to render on",
        DeviceRequest::Cuda => "a CUDA device",
        DeviceRequest::Optix => "an OptiX device",
        DeviceRequest::Hip => "a HIP device",
        DeviceRequest::OneApi => "a oneAPI device",
        DeviceRequest::Metal => "a Metal device",
    })
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
        let agents: Vec<&Agent> = agents.collect();
        if let Some(render) = work.render()
            && let Some(device) = name_of(render.settings.device)
            && !(agents.iter().flat_map(|agent| &agent.devices))
                .any(|book| book.kind.serves(render.settings.device))
        {
            return Self::new(
                format!("no agent that is online has {device}"),
                "start an agent on a host that has one, or ask for another device",
            );
        }
        match work.needs() {
            Needs::Ffmpeg => {
                Self::new("no agent that is online has ffmpeg", "install it on a host")
            }
            Needs::Nothing => Self::new(
                "no agent that is online has a device for it",
                "start an agent on a host that has one",
            ),
            Needs::Blender(needs) => {
                Self::of_runtimes(needs, agents.iter().flat_map(|agent| &agent.hello.runtimes))
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
