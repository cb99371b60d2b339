//! What an instance can be told, and what it tells.

use std::path::PathBuf;

use grange_protocol::agent::{DeviceKind, Failure, FailureKind};
use grange_protocol::job::{DeviceRequest, Engine, RenderSettings};
use grange_protocol::session::Raised;
use grange_protocol::shot::Shot;
use serde::{Deserialize, Serialize};

use super::exit::Exit;
use super::outputs::RenderedFile;
use crate::truths::Truth;

/// Names a render among those of one instance; whoever orders it chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RenderId(pub u64);

/// Names a call among those of one instance; whoever makes it chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Orders are done one after the other, but `Cancel`, which is done at once.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Answered by `Opened` or `NotOpened`.
    Open(OpenOrder),
    /// Answered by `Rendered`, `Failed` or `Canceled`.
    Render(Box<RenderOrder>),
    /// An operation of a session on the open file. Answered by `Returned` or `Raised`.
    Call(Box<CallOrder>),
    /// Without effect if the render has ended. Answered by the render's own answer, or by
    /// `CannotCancel` where Blender cannot be stopped in mid-frame.
    Cancel(RenderId),
    /// Try an engine with a tiny picture of its own, written to the path. Closes the open file.
    /// Answered by `Probed`, or by the death of the process.
    Probe(Engine, PathBuf),
    /// Answered by `Pong` at once, also while a frame renders.
    Ping,
    /// End after what was ordered before.
    Quit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOrder {
    pub path: PathBuf,
    /// Open a file although libraries that it links are missing. Missing textures and the like
    /// are always only warned of.
    pub allow_missing: bool,
}

/// One frame of one shot.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderOrder {
    pub id: RenderId,
    /// Its frames do not matter here.
    pub shot: Shot,
    pub frame: i32,
    pub settings: RenderSettings,
    /// What this instance was given to render on.
    pub device: DeviceKind,
    /// The GPU's address on the PCI bus, `0000:01:00`, which must be that of the only one that
    /// Blender sees. `None`: any.
    pub device_pci: Option<String>,
    /// Processor threads for this render. `None`: as the process was started.
    pub threads: Option<u16>,
    /// `None`: as the file has it, whatever a session has changed.
    pub session: Option<SessionFrame>,
    /// A directory for this render alone, which the instance may write to. Its files stay there
    /// until the owner removes them.
    pub scratch: PathBuf,
}

/// One operation of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct CallOrder {
    pub id: CallId,
    /// Its name, as the worker knows it.
    pub operation: String,
    /// An object with its arguments by name.
    pub arguments: serde_json::Value,
    /// What this instance was given to render on, as in [`RenderOrder`].
    pub device: DeviceKind,
    pub device_pci: Option<String>,
    /// A directory for this call alone, which the instance may write to. What lies there
    /// afterwards is the call's, under its path there.
    pub scratch: PathBuf,
}

/// What makes a render one of a session's frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFrame {
    /// Stands for the frame in the names of its ground truths: `000012`.
    pub number: String,
}

impl RenderOrder {
    /// A device that was asked for and is not the instance's is a failure, never the CPU.
    pub(crate) fn device_refusal(&self) -> Option<Failure> {
        let asked = self.settings.device;
        (!self.device.serves(asked)).then(|| {
            let has = device_id(self.device);
            Failure::new(
                FailureKind::Host,
                format!("the job asks for {asked:?}, but the instance was given {has}"),
            )
        })
    }

    /// What Cycles computes with: an NVIDIA GPU is there for CUDA and for OptiX.
    pub(crate) fn compute_type(&self) -> &'static str {
        match self.settings.device {
            DeviceRequest::Optix => "OPTIX",
            _ => device_id(self.device),
        }
    }
}

/// A device kind as Cycles spells it.
pub(crate) fn device_id(device: DeviceKind) -> &'static str {
    match device {
        DeviceKind::Cpu => "CPU",
        DeviceKind::Cuda => "CUDA",
        DeviceKind::Hip => "HIP",
        DeviceKind::OneApi => "ONEAPI",
        DeviceKind::Metal => "METAL",
    }
}

/// What happened in an instance, in order. Progress is left out when nobody keeps up with it,
/// other events never are.
#[derive(Clone, Debug, PartialEq)]
pub enum InstanceEvent {
    Opened(Opened),
    /// Nothing is open now, so nothing can be rendered by mistake.
    NotOpened(Failure),
    Progress(RenderProgress),
    Rendered(Rendered),
    Failed {
        id: RenderId,
        failure: Failure,
    },
    Canceled {
        id: RenderId,
    },
    /// What the operation gave, and files that it wrote.
    Returned {
        id: CallId,
        value: serde_json::Value,
        /// Sentences for people.
        warnings: Vec<String>,
        files: Vec<RenderedFile>,
    },
    Raised {
        id: CallId,
        raised: Raised,
    },
    /// Only [`Instance::kill`](super::Instance::kill) stops this render.
    CannotCancel {
        id: RenderId,
    },
    /// The error says why the engine cannot render here.
    Probed {
        engine: Engine,
        error: Option<String>,
    },
    Pong,
    /// Always the last one. Whatever was under way or still to do ended with it.
    Exited(Exit),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    pub seconds: f32,
    /// Sentences for people: missing textures, Python that was not run …
    pub warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RenderProgress {
    pub id: RenderId,
    /// Done share of the frame, 0 to 1. Never falls.
    pub fraction: f32,
    /// Samples done and to do, of the tile and view layer under way; 0 of 0 if the engine does
    /// not say.
    pub sample: u32,
    pub samples: u32,
    /// Memory that Cycles holds on its device, in MiB, if it says.
    pub device_mib: Option<u32>,
}

/// What Cycles computed with, as it finds it out itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceUsed {
    /// As [`CyclesDevice`](super::CyclesDevice) has it.
    pub kind: String,
    pub ids: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    pub id: RenderId,
    /// At least one has the role of a frame. None was decoded yet (see [`verify`](crate::verify)).
    pub files: Vec<RenderedFile>,
    pub seconds: f32,
    /// Of the picture, in pixels; 0 if the worker did not say.
    pub width: u32,
    pub height: u32,
    /// `None` with other engines than Cycles.
    pub device: Option<DeviceUsed>,
    /// The process's largest resident set during this render, in MiB.
    pub peak_mib: u32,
    /// The most that Cycles held on its device, in MiB, if it said so.
    pub device_peak_mib: Option<u32>,
    /// Sentences for people: what was left out or changed.
    pub warnings: Vec<String>,
    /// What a session's frame has besides: an object. Null for others.
    pub data: serde_json::Value,
    /// What is to be made of [`PASSES`](crate::truths::PASSES) in the render's scratch directory.
    pub truths: Vec<Truth>,
}
