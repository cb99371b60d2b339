//! What a shot was measured to need, and what a device has for it.
//!
//! Agents measure and report ([`Measurement`], [`DeviceState`]); the coordinator remembers and says
//! with each task what to expect of it ([`Expected`]). All sizes are MiB (2^20 bytes).

use serde::{Deserialize, Serialize};

use crate::ids::{LeaseId, TaskRef};
use crate::quantity::Millis;

/// Memory of one instance: on its device, and in its host's RAM. On a CPU device both are the
/// resident set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Memory {
    pub device_mib: u32,
    pub ram_mib: u32,
}

/// What an instance is expected to take for a task, the margin for what was not measured included.
/// `None`: nobody has measured anything like it yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// When nothing is kept between frames.
    pub plain: Option<Memory>,
    /// When Cycles keeps the scene's data between frames.
    pub kept: Option<Memory>,
    /// Of one frame, in milliseconds.
    pub frame_ms: Option<u32>,
    /// From the start of an instance to the open scene, in milliseconds.
    pub load_ms: Option<u32>,
}

/// What one frame took, or an instance that ran out of memory on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    pub lease: LeaseId,
    pub task: TaskRef,
    /// Index into the agent's devices.
    pub device: u16,
    /// Whether Cycles kept the scene's data between frames.
    pub kept: bool,
    /// Width × height of the picture; 0 if nobody knows.
    pub pixels: u64,
    /// The most that the instance took while it rendered.
    pub peak: Memory,
    /// From the start of the instance to the open scene, if this was its first frame.
    pub load_ms: Option<u32>,
    pub end: MeasuredEnd,
}

/// How a measured frame ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MeasuredEnd {
    Rendered {
        /// How long the frame took, in milliseconds.
        frame_ms: u32,
        /// Instances that rendered on the device meanwhile, this one included.
        beside: u16,
    },
    /// It needed more than it got. `reserved` is what it had been given.
    OutOfMemory { reserved: Memory },
}

/// How a device is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DeviceState {
    /// Memory that instances may use together if nobody else uses any.
    pub total_mib: u64,
    /// Used now by everybody, as the driver or the kernel says.
    pub used_mib: u64,
    /// Used now by what the farm did not start.
    pub others_mib: u64,
    /// Set aside for live instances.
    pub reserved_mib: u64,
    /// Live instances.
    pub instances: u16,
    /// Instances that it wants to run at once for now.
    pub slots: u16,
    /// Of its computing units over the last second, 0 to 100, if it says.
    pub utilisation_percent: Option<u8>,
    pub temperature_c: Option<u16>,
    pub power_w: Option<u16>,
    /// Who uses its memory, the largest first; at most [`DEVICE_PROCESSES_MAX`].
    pub processes: Vec<ProcessUse>,
    /// Why nothing renders on it any more, as a sentence, if nothing does.
    pub problem: Option<String>,
}

/// Processes of one device that are told.
pub const DEVICE_PROCESSES_MAX: usize = 32;

/// A process on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ProcessUse {
    pub pid: u32,
    /// `None` where the driver does not say.
    pub mib: Option<u32>,
    /// Whether the farm started it.
    pub ours: bool,
}

/// Something that was decided about a device, and why, as a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Decision {
    /// Index into the agent's devices.
    pub device: u16,
    pub at: Millis,
    pub text: String,
}

impl Memory {
    /// Each part the larger of the two.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            device_mib: self.device_mib.max(other.device_mib),
            ram_mib: self.ram_mib.max(other.ram_mib),
        }
    }

    /// Each part the smaller of the two.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self {
            device_mib: self.device_mib.min(other.device_mib),
            ram_mib: self.ram_mib.min(other.ram_mib),
        }
    }

    /// Each part times `percent` / 100, rounded up.
    #[must_use]
    pub fn percent(self, percent: u32) -> Self {
        let part = |mib: u32| {
            u32::try_from((u64::from(mib) * u64::from(percent)).div_ceil(100)).unwrap_or(u32::MAX)
        };
        Self { device_mib: part(self.device_mib), ram_mib: part(self.ram_mib) }
    }
}
