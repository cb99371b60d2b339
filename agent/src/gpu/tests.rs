//! What the probes make of GPUs that come, go and fail. The GPUs are those of `grange-fake-nvml`,
//! of which each test loads a copy with a world of its own.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use grange_fake_nvml::world::Broken;
use grange_fake_nvml::{Gpu, Process, Slice, State, World};
use grange_protocol::agent::DeviceKind;
use tempfile::TempDir;

use super::nvml::Nvidia;
use super::*;
use crate::config::{Config, Settings};

/// A driver of a test's own.
struct Driver {
    dir: TempDir,
    world: World,
    state: State,
}

impl Driver {
    fn of(gpus: Vec<Gpu>) -> Self {
        let dir = TempDir::new().unwrap();
        // Cargo builds it beside the tests. A copy, because the loader takes two links to the same
        // file for one library.
        let tests = std::env::current_exe().unwrap();
        let built = tests.with_file_name("libgrange_fake_nvml.so");
        fs::copy(built, dir.path().join("libnvidia-ml.so.1")).unwrap();
        let state = State { driver: "570.86".into(), error: None, gpus };
        let world = World::at(dir.path());
        world.set_state(&state).unwrap();
        Self { dir, world, state }
    }

    fn library(&self) -> PathBuf {
        self.dir.path().join("libnvidia-ml.so.1")
    }

    /// A probe that asks a silent driver again at each call.
    fn probe(&self) -> Nvidia {
        Nvidia::new(Some(self.library()), Duration::ZERO)
    }

    fn change(&mut self, change: impl FnOnce(&mut State)) {
        change(&mut self.state);
        self.world.set_state(&self.state).unwrap();
    }
}

fn gpu(letter: char, memory_mib: u64) -> Gpu {
    Gpu {
        uuid: format!("GPU-{letter}"),
        name: format!("Fake {letter}"),
        memory_mib,
        ..Gpu::default()
    }
}

fn process(pid: u32, mib: u64) -> Process {
    Process { pid, mib: Some(mib), graphics: false }
}

/// Used memory, or what is wrong.
fn used(reads: Vec<Read>) -> Vec<Result<u64, String>> {
    reads.into_iter().map(|read| read.map(|reading| reading.used_mib)).collect()
}

fn config(file: &str) -> Config {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("agent.toml");
    fs::write(&path, file).unwrap();
    Settings::default().resolve(Some(&path)).unwrap()
}

fn names(pairs: &[(&str, &str)]) -> Env {
    pairs.iter().map(|(name, value)| variable(name, value)).collect()
}

#[test]
fn gpus_are_found_by_uuid_with_their_size_and_place() {
    let mut second = gpu('b', 49_140);
    second.pci = Some("0001:c1:00".into());
    let driver = Driver::of(vec![gpu('a', 8_192), second]);
    let found = driver.probe().find();
    let told: Vec<_> = found
        .iter()
        .map(|found| {
            let info = &found.info;
            (info.id.as_str(), info.name.as_str(), info.memory_mib, info.driver.as_str())
        })
        .collect();
    assert_eq!(told, [("GPU-a", "Fake a", 8_192, "570.86"), ("GPU-b", "Fake b", 49_140, "570.86")]);
    let pci: Vec<_> = found.iter().map(|found| found.pci.as_deref().unwrap()).collect();
    assert_eq!(pci, ["0000:01:00", "0001:c1:00"]);
    assert_eq!(
        found[1].env,
        names(&[("CUDA_VISIBLE_DEVICES", "GPU-b"), ("CUDA_DEVICE_ORDER", "PCI_BUS_ID")])
    );
    assert!(found[1].nodes.contains(&"/dev/nvidia1".into()), "{:?}", found[1].nodes);
    assert!(!found[1].nodes.contains(&"/dev/nvidia0".into()), "{:?}", found[1].nodes);
}

#[test]
fn processes_appear_and_go_with_their_memory() {
    let mut card = gpu('a', 8_192);
    card.reserved_mib = 192;
    card.temperature_c = Some(63);
    card.power_w = Some(215);
    card.utilisation_percent = Some(97);
    let mut driver = Driver::of(vec![card]);
    let mut probe = driver.probe();
    probe.find();
    let idle = Reading {
        total_mib: 8_192,
        used_mib: 192,
        utilisation_percent: Some(97),
        temperature_c: Some(63),
        power_w: Some(215),
        processes: Vec::new(),
    };
    assert_eq!(probe.read(), [Ok(idle.clone())]);

    driver.change(|state| {
        let drawing = Process { graphics: true, ..process(7, 800) };
        let silent = Process { mib: None, ..process(5, 0) };
        // The seventh computes and draws: it has its memory once.
        let computing = Process { mib: None, ..process(7, 0) };
        state.gpus[0].processes = vec![silent, computing, drawing];
    });
    let own = std::process::id();
    driver.world.allocate(own, "GPU-a", 3_000).unwrap();
    let busy = Reading {
        used_mib: 192 + 800 + 3_000,
        processes: {
            let mut processes = vec![(5, None), (7, Some(800)), (own, Some(3_000))];
            processes.sort_unstable();
            processes
        },
        ..idle.clone()
    };
    assert_eq!(probe.read(), [Ok(busy)]);

    driver.change(|state| state.gpus[0].processes.clear());
    driver.world.release(own).unwrap();
    assert_eq!(probe.read(), [Ok(idle)]);
}

#[test]
fn sensors_that_a_gpu_does_not_have_are_left_out() {
    let driver = Driver::of(vec![gpu('a', 100)]);
    let mut probe = driver.probe();
    probe.find();
    let reading = probe.read().remove(0).unwrap();
    assert_eq!((reading.temperature_c, reading.power_w), (None, None));
    assert_eq!(reading.utilisation_percent, Some(0));
}

#[test]
fn mig_devices_stand_for_their_gpu() {
    let slice = |letter: char, memory_mib| Slice {
        uuid: format!("MIG-{letter}"),
        name: format!("Fake MIG {letter}"),
        memory_mib,
        processes: Vec::new(),
    };
    let mut divided = gpu('b', 81_920);
    divided.mig = Some(vec![slice('x', 20_096), slice('y', 9_856)]);
    divided.temperature_c = Some(40);
    divided.power_w = Some(90);
    divided.utilisation_percent = Some(50);
    let mut empty = gpu('c', 81_920);
    empty.mig = Some(Vec::new());
    let mut driver = Driver::of(vec![gpu('a', 8_192), divided, empty]);
    let mut probe = driver.probe();
    let found = probe.find();
    let told: Vec<_> =
        found.iter().map(|found| (found.info.id.as_str(), found.info.memory_mib)).collect();
    assert_eq!(told, [("GPU-a", 8_192), ("MIG-x", 20_096), ("MIG-y", 9_856)]);
    assert_eq!(found[2].pci.as_deref(), Some("0000:02:00"));
    assert_eq!(found[2].env[0], variable("CUDA_VISIBLE_DEVICES", "MIG-y"));
    assert!(found[2].nodes.contains(&"/dev/nvidia1".into()), "{:?}", found[2].nodes);

    driver.change(|state| {
        let slices = state.gpus[1].mig.as_mut().unwrap();
        slices[1].processes.push(process(9, 1_000));
    });
    let reads = probe.read();
    assert_eq!(used(reads.clone()), [Ok(0), Ok(0), Ok(1_000)]);
    let slice = reads[2].clone().unwrap();
    assert_eq!(slice.processes, [(9, Some(1_000))]);
    assert_eq!(
        (slice.utilisation_percent, slice.temperature_c, slice.power_w),
        (Some(50), Some(40), None)
    );

    // Somebody takes the first one away: the other is still itself.
    driver.change(|state| drop(state.gpus[1].mig.as_mut().unwrap().remove(0)));
    let gone = "MIG-x is not there any more".to_owned();
    assert_eq!(used(probe.read()), [Ok(0), Err(gone), Ok(1_000)]);
}

#[test]
fn a_driver_that_fails_in_mid_run_is_used_again_when_it_is_back() {
    let mut driver = Driver::of(vec![gpu('a', 8_192), gpu('b', 8_192)]);
    let mut probe = driver.probe();
    probe.find();
    assert_eq!(used(probe.read()), [Ok(0), Ok(0)]);
    driver.change(|state| state.error = Some(Broken::Driver));
    let why = "because the NVIDIA driver does not answer";
    for _ in 0..3 {
        for (read, uuid) in probe.read().into_iter().zip(["GPU-a", "GPU-b"]) {
            let error = read.unwrap_err();
            assert!(error.starts_with(&format!("{uuid} cannot be read, {why}: ")), "{error}");
        }
    }
    driver.change(|state| state.error = None);
    assert_eq!(used(probe.read()), [Ok(0), Ok(0)]);
    assert_eq!(used(probe.read()), [Ok(0), Ok(0)]);
}

#[test]
fn a_silent_driver_is_not_asked_again_at_each_reading() {
    let mut driver = Driver::of(vec![gpu('a', 8_192)]);
    let mut probe = Nvidia::new(Some(driver.library()), Duration::from_secs(3_600));
    probe.find();
    driver.change(|state| state.error = Some(Broken::Driver));
    assert!(probe.read()[0].is_err());
    // A session that has failed stays so.
    driver.change(|state| state.error = None);
    assert!(probe.read()[0].is_err());
}

#[test]
fn a_gpu_that_falls_off_the_bus_takes_no_other_with_it() {
    let mut driver = Driver::of(vec![gpu('a', 8_192), gpu('b', 8_192)]);
    let mut probe = driver.probe();
    probe.find();
    driver.change(|state| {
        state.gpus[0].lost = true;
        state.gpus[1].processes.push(process(3, 70));
    });
    let lost = "GPU-a has fallen off the bus: this host must be restarted".to_owned();
    for _ in 0..3 {
        assert_eq!(used(probe.read()), [Err(lost.clone()), Ok(70)]);
    }
    // An agent that starts now has the other one.
    let found = driver.probe().find();
    assert_eq!(found.iter().map(|found| found.info.id.as_str()).collect::<Vec<_>>(), ["GPU-b"]);
}

#[test]
fn without_a_library_or_a_driver_there_are_no_gpus() {
    let mut probe = Nvidia::new(Some("/nowhere/libnvidia-ml.so.1".into()), Duration::ZERO);
    assert_eq!((probe.find(), probe.read()), (vec![], vec![]));

    let mut driver = Driver::of(vec![gpu('a', 8_192)]);
    driver.change(|state| state.error = Some(Broken::Driver));
    let mut probe = driver.probe();
    assert_eq!((probe.find(), probe.read()), (vec![], vec![]));
}

#[test]
fn the_cpu_comes_after_the_gpus_and_each_sees_itself_alone() {
    let driver = Driver::of(vec![gpu('a', 8_192)]);
    let library = driver.library();
    let mut devices = Devices::find(&config(&format!(
        "nvml = '{}'\nmemory_gib = 0.25\ninstances = 2\n\
         [[device]]\nkind = 'hip'\nid = '1'\nname = 'Radeon'\nmemory_mib = 16000\n\
         [[device]]\nkind = 'cuda'\nid = 'GPU-a'\nname = 'once more'\nmemory_mib = 1\n\
         [[device]]\nkind = 'oneapi'\nid = '0'\nname = 'Arc'\nmemory_mib = 12000\n",
        library.display()
    )));
    let told: Vec<_> = devices
        .found()
        .iter()
        .map(|found| (found.info.id.as_str(), found.info.memory_mib, found.info.slots))
        .collect();
    assert_eq!(
        told,
        [("GPU-a", 8_192, 2), ("hip-1", 16_000, 2), ("oneapi-0", 12_000, 2), ("cpu", 256, 2)]
    );
    let env = |cuda: &[(&str, &str)], hip, oneapi| {
        let others = [("HIP_VISIBLE_DEVICES", hip), ("ONEAPI_DEVICE_SELECTOR", oneapi)];
        names(&[cuda, &others].concat())
    };
    let (no_cuda, no_hip, no_oneapi) = ([("CUDA_VISIBLE_DEVICES", "")], "-1", "*:cpu");
    let cuda = [("CUDA_DEVICE_ORDER", "PCI_BUS_ID"), ("CUDA_VISIBLE_DEVICES", "GPU-a")];
    let envs: Vec<_> = devices.found().iter().map(|found| found.env.clone()).collect();
    assert_eq!(
        envs,
        [
            env(&cuda, no_hip, no_oneapi),
            env(&no_cuda, "1", no_oneapi),
            env(&no_cuda, no_hip, "level_zero:0"),
            env(&no_cuda, no_hip, no_oneapi),
        ]
    );
    assert_eq!(devices.found()[1].nodes, ["/dev/kfd", "/dev/dri", "/sys"].map(PathBuf::from));
    assert_eq!(devices.found()[3].nodes, [] as [PathBuf; 0]);

    let totals: Vec<_> = devices.read().into_iter().map(|read| read.unwrap().total_mib).collect();
    assert_eq!(totals, [8_192, 16_000, 12_000, 256]);
}

#[test]
fn a_host_without_gpus_has_its_cpu() {
    let devices = Devices::find(&config("nvml = '/nowhere'\n"));
    let cpu = &devices.found()[0].info;
    assert_eq!((devices.found().len(), cpu.kind), (1, DeviceKind::Cpu));
    assert!(cpu.memory_mib > 100 && cpu.slots >= 1);
}

#[tokio::test]
async fn devices_are_watched_until_nobody_looks() {
    let mut driver = Driver::of(vec![gpu('a', 8_192)]);
    let devices = Devices::find(&config(&format!("nvml = '{}'\n", driver.library().display())));
    let mut readings = watch(devices, Duration::from_millis(5));
    assert_eq!(readings.recv().await.unwrap()[0].as_ref().unwrap().used_mib, 0);
    driver.change(|state| state.gpus[0].processes.push(process(3, 70)));
    let seen =
        async { while readings.recv().await.unwrap()[0].as_ref().unwrap().used_mib != 70 {} };
    tokio::time::timeout(Duration::from_secs(10), seen).await.expect("it is read again");
}
