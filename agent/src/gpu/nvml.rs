//! NVIDIA's GPUs, by NVML: the library that comes with the driver, loaded if it is there.
//!
//! A GPU is known by its UUID, which stays when others come, go or fail. One in MIG mode is no
//! device itself, but each of its MIG devices is. The library's session is closed and opened again
//! when no GPU answers any more, which is how a driver that was lost is found again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use grange_protocol::agent::{DeviceInfo, DeviceKind};
use grange_protocol::shot::Label;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, Nvml};

use super::{Env, Found, Probe, Read, Reading, label, variable};
use crate::config::Config;

/// How long to leave a driver alone that does not answer: asking may take it seconds.
const RETRY: Duration = Duration::from_secs(15);
/// Processes may start between counting and listing them, but not for ever.
const LISTINGS: usize = 3;
const MIG_ON: u32 = 1;

pub(super) fn probe(config: &Config) -> Nvidia {
    Nvidia::new(config.nvml.clone(), RETRY)
}

pub(super) struct Nvidia {
    /// `None`: where the loader finds it.
    library: Option<PathBuf>,
    retry: Duration,
    session: Session,
    /// When the session was opened, or was tried to be.
    tried: Instant,
    /// Whether any card could be read the last time.
    answers: bool,
    cards: Vec<Card>,
}

enum Session {
    Open(Box<Nvml>),
    /// It could not be opened, for this reason.
    Closed(String),
}

/// A device that was found.
struct Card {
    uuid: String,
    /// The UUID of the GPU that it is a MIG device of.
    parent: Option<String>,
}

impl Nvidia {
    pub(super) fn new(library: Option<PathBuf>, retry: Duration) -> Self {
        Self {
            library,
            retry,
            session: Session::Closed(String::new()),
            tried: Instant::now(),
            answers: true,
            cards: Vec::new(),
        }
    }

    fn open(&mut self) -> Result<(), NvmlError> {
        // The library counts its users: while the old session lives, a new one is the same.
        self.session = Session::Closed(String::new());
        self.tried = Instant::now();
        match load(self.library.as_deref()) {
            Ok(nvml) => {
                self.session = Session::Open(Box::new(nvml));
                Ok(())
            }
            Err(error) => {
                self.session = Session::Closed(error.to_string());
                Err(error)
            }
        }
    }

    /// Opens the session again if nothing answers; not at every call, because it may take long.
    fn ask_again(&mut self) {
        if !self.answers && self.tried.elapsed() >= self.retry {
            match self.open() {
                Ok(()) => tracing::debug!("the NVIDIA driver can be talked to again"),
                Err(error) => tracing::debug!("the NVIDIA driver is still in trouble: {error}"),
            }
        }
    }

    /// Tells the owner why there are no GPUs, where there might have been some.
    fn explain(&self, error: &NvmlError) {
        match (error, &self.library) {
            (NvmlError::LibloadingError(_), None) => {
                tracing::debug!("no NVIDIA driver here: {error}");
            }
            (_, Some(library)) => {
                tracing::warn!("no NVIDIA GPU is used: {}: {error}", library.display());
            }
            (_, None) => tracing::warn!("no NVIDIA GPU is used: {error}"),
        }
    }
}

impl Probe for Nvidia {
    fn find(&mut self) -> Vec<Found> {
        if let Err(error) = self.open() {
            self.explain(&error);
        }
        let Session::Open(nvml) = &self.session else { return Vec::new() };
        let (cards, found) = all(nvml).into_iter().unzip();
        self.cards = cards;
        found
    }

    fn read(&mut self) -> Vec<Read> {
        if self.cards.is_empty() {
            return Vec::new();
        }
        self.ask_again();
        let reads: Vec<Read> = match &self.session {
            Session::Open(nvml) => self.cards.iter().map(|card| card.read(nvml)).collect(),
            Session::Closed(why) => {
                self.cards.iter().map(|card| Err(unanswered(&card.uuid, why))).collect()
            }
        };
        self.answers = reads.iter().any(Result::is_ok);
        reads
    }

    fn hidden(&self) -> Env {
        vec![variable("CUDA_VISIBLE_DEVICES", "")]
    }
}

/// What shows one GPU or MIG device to CUDA programs. They count it as their first and only one.
pub(super) fn env(uuid: &str) -> Env {
    vec![variable("CUDA_VISIBLE_DEVICES", uuid), variable("CUDA_DEVICE_ORDER", "PCI_BUS_ID")]
}

/// What a CUDA program opens: the driver's own files, and that of the GPU with this minor number;
/// of all GPUs if nobody knows it.
pub(super) fn nodes(minor: Option<u32>) -> Vec<PathBuf> {
    const DRIVER: [&str; 6] = [
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia-uvm-tools",
        "/dev/nvidia-modeset",
        "/dev/nvidia-caps",
        "/sys",
    ];
    let mut nodes: Vec<PathBuf> = DRIVER.iter().map(PathBuf::from).collect();
    match minor {
        Some(minor) => nodes.push(format!("/dev/nvidia{minor}").into()),
        None => nodes.extend(every_gpu_node()),
    }
    nodes
}

fn every_gpu_node() -> impl Iterator<Item = PathBuf> {
    let is_gpu = |entry: &fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.strip_prefix("nvidia").is_some_and(|number| number.parse::<u32>().is_ok())
    };
    fs::read_dir("/dev").into_iter().flatten().flatten().filter(is_gpu).map(|entry| entry.path())
}

fn load(library: Option<&Path>) -> Result<Nvml, NvmlError> {
    match library {
        Some(path) => Nvml::builder().lib_path(path.as_os_str()).init(),
        None => Nvml::init(),
    }
}

/// Every GPU that answers, or its MIG devices.
fn all(nvml: &Nvml) -> Vec<(Card, Found)> {
    let driver = nvml.sys_driver_version().map(|version| label(&version)).unwrap_or_default();
    let count = nvml.device_count().unwrap_or_else(|error| {
        tracing::warn!("no NVIDIA GPU is used: {error}");
        0
    });
    let mut all = Vec::new();
    for index in 0..count {
        match nvml.device_by_index(index).and_then(|gpu| devices_of(&gpu, &driver)) {
            Ok(devices) => all.extend(devices),
            Err(error) => tracing::warn!("the NVIDIA GPU {index} is left out: {error}"),
        }
    }
    all
}

/// The GPU itself, or its MIG devices if it is divided.
fn devices_of(gpu: &Device<'_>, driver: &Label) -> Result<Vec<(Card, Found)>, NvmlError> {
    let whole = Card { uuid: gpu.uuid()?, parent: None };
    // Most GPUs know of no such mode.
    if !gpu.mig_mode().is_ok_and(|mode| mode.current == MIG_ON) {
        let found = found(&whole, gpu, gpu, driver)?;
        return Ok(vec![(whole, found)]);
    }
    let slices = slices(gpu)?.into_iter().map(|slice| {
        let card = Card { uuid: slice.uuid()?, parent: Some(whole.uuid.clone()) };
        let found = found(&card, &slice, gpu, driver)?;
        Ok((card, found))
    });
    slices.collect()
}

/// MIG devices have numbers with gaps.
fn slices<'a>(gpu: &Device<'a>) -> Result<Vec<Device<'a>>, NvmlError> {
    Ok((0..gpu.mig_device_count()?).filter_map(|at| gpu.mig_device_by_index(at).ok()).collect())
}

fn found(
    card: &Card,
    device: &Device<'_>,
    gpu: &Device<'_>,
    driver: &Label,
) -> Result<Found, NvmlError> {
    let name = device.name().or_else(|_| gpu.name())?;
    let pci = gpu.pci_info().ok();
    let info = DeviceInfo {
        id: label(&card.uuid),
        name: label(&name),
        kind: DeviceKind::Cuda,
        memory_mib: device.memory_info()?.total >> 20,
        slots: 1,
        driver: driver.clone(),
    };
    Ok(Found {
        info,
        pci: pci.map(|pci| format!("{:04x}:{:02x}:{:02x}", pci.domain, pci.bus, pci.device)),
        env: env(&card.uuid),
        nodes: nodes(gpu.minor_number().ok()),
    })
}

impl Card {
    fn read(&self, nvml: &Nvml) -> Read {
        self.try_read(nvml).map_err(|error| self.trouble(&error))
    }

    fn try_read(&self, nvml: &Nvml) -> Result<Reading, NvmlError> {
        let Some(parent) = &self.parent else {
            let gpu = nvml.device_by_uuid(self.uuid.as_str())?;
            return reading(&gpu, &gpu);
        };
        let gpu = nvml.device_by_uuid(parent.as_str())?;
        let own = |slice: &Device<'_>| slice.uuid().is_ok_and(|uuid| uuid == self.uuid);
        let slice = slices(&gpu)?.into_iter().find(own).ok_or(NvmlError::NotFound)?;
        reading(&slice, &gpu)
    }

    fn trouble(&self, error: &NvmlError) -> String {
        let uuid = &self.uuid;
        match error {
            NvmlError::GpuLost => {
                format!("{uuid} has fallen off the bus: this host must be restarted")
            }
            NvmlError::ResetRequired => format!("{uuid} must be reset before it can be used again"),
            NvmlError::NotFound | NvmlError::InvalidArg => format!("{uuid} is not there any more"),
            error => unanswered(uuid, &error.to_string()),
        }
    }
}

fn unanswered(uuid: &str, why: &str) -> String {
    format!("{uuid} cannot be read, because the NVIDIA driver does not answer: {why}")
}

/// What a device says, and its GPU where a MIG device says nothing.
fn reading(device: &Device<'_>, gpu: &Device<'_>) -> Result<Reading, NvmlError> {
    let memory = device.memory_info()?;
    let utilisation = device.utilization_rates().or_else(|_| gpu.utilization_rates());
    let celsius = |device: &Device<'_>| device.temperature(TemperatureSensor::Gpu);
    let temperature = celsius(device).or_else(|_| celsius(gpu));
    Ok(Reading {
        total_mib: memory.total >> 20,
        // More than `memory.used`, which leaves out what the driver keeps for itself.
        used_mib: memory.total.saturating_sub(memory.free) >> 20,
        utilisation_percent: utilisation.ok().and_then(|rates| u8::try_from(rates.gpu).ok()),
        temperature_c: temperature.ok().and_then(|celsius| u16::try_from(celsius).ok()),
        // Not the GPU's: the watts of all its MIG devices together would be too many.
        power_w: device.power_usage().ok().and_then(|milli| u16::try_from(milli / 1000).ok()),
        processes: merged([
            listed(|| device.running_compute_processes())?,
            listed(|| device.running_graphics_processes())?,
        ]),
    })
}

/// A process that computes and draws is in both lists, each time with all of its memory.
fn merged(lists: [Vec<ProcessInfo>; 2]) -> Vec<(u32, Option<u32>)> {
    let mut by_pid: BTreeMap<u32, Option<u32>> = BTreeMap::new();
    for process in lists.into_iter().flatten() {
        let mib = match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => u32::try_from(bytes >> 20).ok(),
            UsedGpuMemory::Unavailable => None,
        };
        let known = by_pid.entry(process.pid).or_default();
        *known = (*known).max(mib);
    }
    by_pid.into_iter().collect()
}

/// The processes, none where the driver does not tell them. A device in trouble is an error.
fn listed(
    list: impl Fn() -> Result<Vec<ProcessInfo>, NvmlError>,
) -> Result<Vec<ProcessInfo>, NvmlError> {
    for _ in 0..LISTINGS {
        match list() {
            Err(NvmlError::InsufficientSize(_)) => {}
            Err(
                error @ (NvmlError::GpuLost
                | NvmlError::ResetRequired
                | NvmlError::DriverNotLoaded
                | NvmlError::Uninitialized
                | NvmlError::Unknown),
            ) => return Err(error),
            Err(_) => break,
            Ok(processes) => return Ok(processes),
        }
    }
    Ok(Vec::new())
}
