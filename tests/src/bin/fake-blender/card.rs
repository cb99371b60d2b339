//! The GPU of a fake Blender, if it was given one: it is in the world that `FAKE_GPU_DIR` names (see
//! `grange-fake-nvml`), and `CUDA_VISIBLE_DEVICES` has its UUID. Without these there is none.
//!
//! # How instances share a GPU
//!
//! A frame that is alone takes `frame_ms`. Of that, `gpu_share` (0 to 1) needs the GPU for itself and
//! the rest needs nothing that others want. While n instances are in the middle of a frame on the
//! same GPU, each gets an n-th of it, and each further one costs all of them `switch_cost` of what
//! the GPU does. So a frame takes
//!
//! ```text
//! frame_ms × (1 − gpu_share + gpu_share × n × (1 + switch_cost × (n − 1)))
//! ```
//!
//! and n frames come out in that time. With a share of 1 a second instance only costs, with 0 it
//! doubles what comes out; with 0.5 and the usual cost two bring 1.32 times as much as one, four
//! 1.53 times, seven 1.58 times, and an eighth nothing more.

use std::time::{Duration, Instant};

use grange_fake_nvml::{NotAllocated, World};
use serde_json::{Value, json};

/// How long a slice of a frame is at most, in seconds: others may come and go between two.
const SLICE_S: f64 = 0.05;

pub(crate) struct Card {
    world: World,
    uuid: String,
    /// As Cycles tells of it.
    told: Value,
}

/// How a scene uses a GPU.
#[derive(Clone, Copy)]
pub(crate) struct Sharing {
    pub(crate) gpu_share: f64,
    pub(crate) switch_cost: f64,
}

/// Why not, in Blender's words.
pub(crate) struct Refusal {
    pub(crate) fault: &'static str,
    pub(crate) reason: String,
}

impl Card {
    pub(crate) fn of_environment() -> Option<Self> {
        let world = World::of_environment()?;
        let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok()?;
        let state = world.state().ok()?;
        let device = state.device(visible.split(',').next()?)?;
        let id = format!("CUDA_{}_{}", device.name, state.pci_text(device.gpu));
        let told = json!({"kind": "CUDA", "name": device.name, "id": id});
        let uuid = device.uuid.into();
        Some(Self { world, uuid, told })
    }

    pub(crate) fn told(&self) -> &Value {
        &self.told
    }

    /// Takes so much of its memory instead of what this process had.
    pub(crate) fn allocate(&self, mib: u64) -> Result<(), Refusal> {
        self.world.allocate(std::process::id(), &self.uuid, mib).map_err(|why| match why {
            NotAllocated::OutOfMemory { .. } => {
                Refusal { fault: "out_of_memory", reason: "System is out of GPU memory".into() }
            }
            NotAllocated::NoDevice => Refusal {
                fault: "host",
                reason: "Failed to create CUDA context (Unknown error)".into(),
            },
            NotAllocated::World(error) => Refusal { fault: "other", reason: error.to_string() },
        })
    }

    /// Says whether a frame is under way.
    pub(crate) fn set_rendering(&self, rendering: bool) {
        self.world.set_rendering(std::process::id(), rendering).expect("the world can be changed");
    }

    /// Takes as long as something takes that would take so many milliseconds alone.
    pub(crate) fn work(&self, alone_ms: u64, sharing: Sharing) {
        let mut left_s = alone_ms as f64 / 1000.0;
        while left_s > 0.0 {
            let slowness = sharing.slowness(self.world.rendering(&self.uuid));
            let began = Instant::now();
            std::thread::sleep(Duration::from_secs_f64((left_s * slowness).min(SLICE_S)));
            left_s -= began.elapsed().as_secs_f64() / slowness;
        }
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        // One that allocated nothing has nothing to release.
        let _ = self.world.release(std::process::id());
    }
}

impl Sharing {
    /// How many times as long it takes when so many render.
    fn slowness(self, rendering: usize) -> f64 {
        let n = rendering.max(1) as f64;
        1.0 - self.gpu_share + self.gpu_share * n * (1.0 + self.switch_cost * (n - 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_out_is_as_documented() {
        let frames = |gpu_share, rendering: usize| {
            let sharing = Sharing { gpu_share, switch_cost: 0.02 };
            (100.0 * rendering as f64 / sharing.slowness(rendering)).round()
        };
        assert_eq!([1, 2, 4, 7].map(|n| frames(0.5, n)), [100.0, 132.0, 153.0, 158.0]);
        assert!(frames(0.5, 8) <= frames(0.5, 7));
        assert_eq!((frames(1.0, 2), frames(0.0, 2)), (98.0, 200.0));
    }
}
