//! GPUs that do not exist, in a directory of their own: for an agent's probe and its fake Blenders.

use std::fs;
use std::path::{Path, PathBuf};

use grange_fake_nvml::{Gpu, Process, State, World};
use tempfile::TempDir;

pub(crate) struct FakeGpus {
    dir: TempDir,
    state: State,
}

impl FakeGpus {
    /// GPUs of these sizes in MiB: `GPU-0`, `GPU-1` and so on.
    pub(crate) fn of_sizes(sizes_mib: &[u64]) -> Self {
        let gpu = |(at, memory_mib): (usize, &u64)| Gpu {
            uuid: format!("GPU-{at}"),
            name: format!("Fake {at}"),
            memory_mib: *memory_mib,
            ..Gpu::default()
        };
        Self::of(sizes_mib.iter().enumerate().map(gpu).collect())
    }

    pub(crate) fn of(gpus: Vec<Gpu>) -> Self {
        let state = State { driver: "570.86".into(), error: None, gpus };
        let gpus = Self { dir: TempDir::new().unwrap(), state };
        // A copy beside the state: so the library knows which GPUs it has.
        fs::copy(built_library(), gpus.library()).unwrap();
        gpus.world().set_state(&gpus.state).unwrap();
        gpus
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The stand-in for NVIDIA's management library that tells of these GPUs.
    pub(crate) fn library(&self) -> PathBuf {
        self.dir().join("libnvidia-ml.so.1")
    }

    pub(crate) fn world(&self) -> World {
        World::at(self.dir())
    }

    /// Changes them under the eyes of whoever uses them.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut State)) {
        change(&mut self.state);
        self.world().set_state(&self.state).unwrap();
    }

    /// Somebody else's process takes so much of a GPU.
    pub(crate) fn foreign_process(&mut self, gpu: usize, pid: u32, mib: u64) {
        let process = Process { pid, mib: Some(mib), graphics: false };
        self.change(|state| state.gpus[gpu].processes.push(process));
    }

    /// Somebody else's process ends.
    pub(crate) fn end_foreign_process(&mut self, pid: u32) {
        self.change(|state| {
            for gpu in &mut state.gpus {
                gpu.processes.retain(|process| process.pid != pid);
            }
        });
    }

    /// MiB that living fake Blenders hold of a GPU, one after the other.
    pub(crate) fn allocated_mib(&self, uuid: &str) -> Vec<u64> {
        let allocations = self.world().allocations().into_iter();
        allocations.filter(|own| own.uuid == uuid).map(|own| own.mib).collect()
    }
}

/// As cargo leaves it beside the tests, because they depend on it.
fn built_library() -> PathBuf {
    let tests = std::env::current_exe().expect("a test has a path");
    tests.with_file_name("libgrange_fake_nvml.so")
}
