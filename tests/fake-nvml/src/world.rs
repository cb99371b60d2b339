//! The directory that holds the GPUs. All sizes are MiB.
//!
//! Who allocates looks and writes under one lock, so the memory of a GPU is never given twice.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Names the directory to whoever has no other way to find it.
pub const DIR: &str = "FAKE_GPU_DIR";

const STATE: &str = "state.json";
const ALLOC: &str = "alloc";

/// What `state.json` says. Only `gpus` must be there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    #[serde(default = "driver")]
    pub driver: String,
    /// While it is there every call fails, and whoever had the library open must close it and open
    /// it again afterwards.
    #[serde(default)]
    pub error: Option<Broken>,
    pub gpus: Vec<Gpu>,
}

/// What is broken for all GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Broken {
    Driver,
}

/// A GPU. Only `uuid`, `name` and `memory_mib` must be there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// `GPU-…`
    pub uuid: String,
    pub name: String,
    pub memory_mib: u64,
    /// Of its memory, what the driver keeps for itself: neither used nor free.
    #[serde(default)]
    pub reserved_mib: u64,
    /// Domain, bus and device, such as `0000:01:00`; by default the bus is its place in the list,
    /// from 1.
    #[serde(default)]
    pub pci: Option<String>,
    /// By default what the fake Blenders make of it: 100 while one renders, else 0.
    #[serde(default)]
    pub utilisation_percent: Option<u32>,
    /// `None`: it has no such sensor.
    #[serde(default)]
    pub temperature_c: Option<u32>,
    #[serde(default)]
    pub power_w: Option<u32>,
    /// It has fallen off the bus.
    #[serde(default)]
    pub lost: bool,
    /// Other people's.
    #[serde(default)]
    pub processes: Vec<Process>,
    /// There if it is in MIG mode: then it is nothing but its slices.
    #[serde(default)]
    pub mig: Option<Vec<Slice>>,
}

/// A MIG device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// `MIG-…`
    pub uuid: String,
    pub name: String,
    pub memory_mib: u64,
    #[serde(default)]
    pub processes: Vec<Process>,
}

/// Somebody else's process. It counts whether there is one with this number or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    pub pid: u32,
    /// `None`: the driver does not say.
    #[serde(default)]
    pub mib: Option<u64>,
    /// Listed among those that draw rather than among those that compute.
    #[serde(default)]
    pub graphics: bool,
}

/// What a fake Blender holds, in `alloc/PID.json`. It ends with its process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allocation {
    pub pid: u32,
    /// The GPU or the slice.
    pub uuid: String,
    pub mib: u64,
    /// It is in the middle of a frame.
    pub rendering: bool,
}

/// Why there is no memory.
#[derive(Debug)]
pub enum NotAllocated {
    /// So much is free.
    OutOfMemory {
        free_mib: u64,
    },
    /// The GPU is lost, or was never there, or the driver is broken.
    NoDevice,
    World(io::Error),
}

/// A directory with GPUs.
#[derive(Clone, Debug)]
pub struct World {
    dir: PathBuf,
}

impl World {
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.into() }
    }

    /// The one that the environment names, if it does.
    pub fn of_environment() -> Option<Self> {
        std::env::var_os(DIR).filter(|dir| !dir.is_empty()).map(|dir| Self { dir: dir.into() })
    }

    /// Whether there is a state in the directory.
    pub fn exists(&self) -> bool {
        self.dir.join(STATE).is_file()
    }

    pub fn state(&self) -> io::Result<State> {
        Ok(serde_json::from_slice(&fs::read(self.dir.join(STATE))?)?)
    }

    /// Replaces the state at once: nobody reads half of it.
    pub fn set_state(&self, state: &State) -> io::Result<()> {
        replace(&self.dir.join(STATE), &serde_json::to_vec_pretty(state)?)
    }

    /// What living processes hold.
    pub fn allocations(&self) -> Vec<Allocation> {
        let entries = fs::read_dir(self.dir.join(ALLOC)).into_iter().flatten().flatten();
        let mut allocations: Vec<Allocation> = entries
            .map(|entry| entry.path())
            // The others are about to become one of these.
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok())
            .filter(|allocation: &Allocation| is_alive(allocation.pid))
            .collect();
        allocations.sort_by_key(|allocation| allocation.pid);
        allocations
    }

    /// Gives `pid` so much of a GPU's memory instead of what it had, if it fits beside what others
    /// hold.
    pub fn allocate(&self, pid: u32, uuid: &str, mib: u64) -> Result<(), NotAllocated> {
        let _lock = self.lock().map_err(NotAllocated::World)?;
        let state = self.state().map_err(NotAllocated::World)?;
        let device = state.device(uuid).filter(|device| !device.lost && state.error.is_none());
        let device = device.ok_or(NotAllocated::NoDevice)?;
        let mut allocations = self.allocations();
        let rendering = allocations.iter().any(|own| own.pid == pid && own.rendering);
        allocations.retain(|other| other.pid != pid);
        let free_mib = device.memory_mib.saturating_sub(device.taken_mib(&allocations));
        if mib > free_mib {
            return Err(NotAllocated::OutOfMemory { free_mib });
        }
        let own = Allocation { pid, uuid: uuid.into(), mib, rendering };
        self.write(&own).map_err(NotAllocated::World)
    }

    /// Says whether `pid`, which has allocated, is in the middle of a frame.
    pub fn set_rendering(&self, pid: u32, rendering: bool) -> io::Result<()> {
        let _lock = self.lock()?;
        match self.allocations().into_iter().find(|own| own.pid == pid) {
            Some(own) => self.write(&Allocation { rendering, ..own }),
            None => Ok(()),
        }
    }

    /// Processes that are in the middle of a frame on this GPU.
    pub fn rendering(&self, uuid: &str) -> usize {
        let on = |allocation: &&Allocation| allocation.rendering && allocation.uuid == uuid;
        self.allocations().iter().filter(on).count()
    }

    pub fn release(&self, pid: u32) -> io::Result<()> {
        let _lock = self.lock()?;
        fs::remove_file(self.file(pid))
    }

    /// Held until it is dropped.
    fn lock(&self) -> io::Result<File> {
        let file =
            File::options().create(true).truncate(false).write(true).open(self.dir.join("lock"))?;
        file.lock()?;
        Ok(file)
    }

    fn write(&self, allocation: &Allocation) -> io::Result<()> {
        fs::create_dir_all(self.dir.join(ALLOC))?;
        replace(&self.file(allocation.pid), &serde_json::to_vec(allocation)?)
    }

    fn file(&self, pid: u32) -> PathBuf {
        self.dir.join(ALLOC).join(format!("{pid}.json"))
    }
}

/// A GPU or a slice of one, as NVML would speak of it.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    pub uuid: &'a str,
    pub name: &'a str,
    pub memory_mib: u64,
    pub reserved_mib: u64,
    pub processes: &'a [Process],
    pub lost: bool,
    /// Place in the list, from 0; of the whole GPU also for a slice.
    pub gpu: usize,
}

impl State {
    /// Whole GPUs.
    pub fn gpu(&self, at: usize) -> Option<Device<'_>> {
        let gpu = self.gpus.get(at)?;
        Some(Device {
            uuid: &gpu.uuid,
            name: &gpu.name,
            memory_mib: gpu.memory_mib,
            reserved_mib: gpu.reserved_mib,
            processes: &gpu.processes,
            lost: gpu.lost,
            gpu: at,
        })
    }

    /// Slice `at` of a GPU.
    pub fn slice(&self, gpu: usize, at: usize) -> Option<Device<'_>> {
        let parent = self.gpus.get(gpu)?;
        let slice = parent.mig.as_ref()?.get(at)?;
        Some(Device {
            uuid: &slice.uuid,
            name: &slice.name,
            memory_mib: slice.memory_mib,
            reserved_mib: 0,
            processes: &slice.processes,
            lost: parent.lost,
            gpu,
        })
    }

    /// Whatever has this UUID.
    pub fn device(&self, uuid: &str) -> Option<Device<'_>> {
        let all = (0..self.gpus.len()).flat_map(|gpu| {
            let slices = self.gpus[gpu].mig.as_ref().map_or(0, Vec::len);
            self.gpu(gpu).into_iter().chain((0..slices).filter_map(move |at| self.slice(gpu, at)))
        });
        all.into_iter().find(|device| device.uuid == uuid)
    }

    /// Domain, bus and device of a GPU.
    pub fn pci(&self, gpu: usize) -> (u32, u32, u32) {
        let written = self.gpus.get(gpu).and_then(|gpu| parse_pci(gpu.pci.as_deref()?));
        written.unwrap_or((0, u32::try_from(gpu + 1).unwrap_or(0), 0))
    }

    /// The same as Cycles writes it.
    pub fn pci_text(&self, gpu: usize) -> String {
        let (domain, bus, device) = self.pci(gpu);
        format!("{domain:04x}:{bus:02x}:{device:02x}")
    }
}

impl Device<'_> {
    /// All that is not free, when these are the allocations of the world.
    pub fn taken_mib(&self, allocations: &[Allocation]) -> u64 {
        self.reserved_mib + self.used_mib(allocations)
    }

    /// What processes hold.
    pub fn used_mib(&self, allocations: &[Allocation]) -> u64 {
        let others: u64 = self.processes.iter().filter_map(|process| process.mib).sum();
        let ours = allocations.iter().filter(|own| own.uuid == self.uuid);
        others + ours.map(|own| own.mib).sum::<u64>()
    }
}

fn driver() -> String {
    "570.00".into()
}

fn parse_pci(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.split(':').map(|part| u32::from_str_radix(part, 16).ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

/// Whether the process has not ended. One that nobody has waited for yet has: its memory is free.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before the state may have anything in it.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension(format!("{}.part", std::process::id()));
    fs::write(&partial, bytes)?;
    fs::rename(partial, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> (tempfile::TempDir, World) {
        let dir = tempfile::tempdir().unwrap();
        let world = World::at(dir.path());
        let state = r#"{"gpus": [
            {"uuid": "GPU-a", "name": "A", "memory_mib": 1000, "reserved_mib": 100,
             "processes": [{"pid": 1, "mib": 200}]}
        ]}"#;
        fs::write(dir.path().join(STATE), state).unwrap();
        (dir, world)
    }

    #[test]
    fn memory_is_given_once_and_comes_back_with_the_end_of_a_process() {
        let (_dir, world) = world();
        let own = std::process::id();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        world.allocate(own, "GPU-a", 400).unwrap();
        let free = |result| match result {
            Err(NotAllocated::OutOfMemory { free_mib }) => Some(free_mib),
            _ => None,
        };
        assert_eq!(free(world.allocate(child.id(), "GPU-a", 301)), Some(300));
        world.allocate(child.id(), "GPU-a", 300).unwrap();
        // What it had counts no more when it asks for something else.
        assert_eq!(free(world.allocate(own, "GPU-a", 401)), Some(400));
        world.set_rendering(child.id(), true).unwrap();
        assert_eq!(world.rendering("GPU-a"), 1);
        child.kill().unwrap();
        // It is not waited for yet.
        while is_alive(child.id()) {
            std::thread::yield_now();
        }
        assert_eq!(world.rendering("GPU-a"), 0);
        world.allocate(own, "GPU-a", 700).unwrap();
        child.wait().unwrap();
        world.release(own).unwrap();
        assert_eq!(world.allocations(), []);
    }

    #[test]
    fn a_lost_gpu_and_a_broken_driver_give_nothing() {
        let (_dir, world) = world();
        let mut state = world.state().unwrap();
        state.gpus[0].lost = true;
        world.set_state(&state).unwrap();
        let given = world.allocate(1, "GPU-a", 1);
        assert!(matches!(given, Err(NotAllocated::NoDevice)), "{given:?}");
        state.gpus[0].lost = false;
        state.error = Some(Broken::Driver);
        world.set_state(&state).unwrap();
        let given = world.allocate(1, "GPU-a", 1);
        assert!(matches!(given, Err(NotAllocated::NoDevice)), "{given:?}");
    }
}
