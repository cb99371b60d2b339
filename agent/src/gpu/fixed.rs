//! Devices that the host's owner has written down, for what nothing here can find or read.
//!
//! Their memory is what the owner says, and all of it is free: what the farm itself has reserved is
//! counted elsewhere.

use std::path::PathBuf;

use grange_protocol::agent::{DeviceInfo, DeviceKind};
use grange_protocol::shot::Label;

use super::{Env, Found, Probe, Read, Reading, label, nvml, variable};
use crate::config::{Config, DeclaredDevice};

pub(super) fn probe(config: &Config) -> Fixed {
    Fixed { devices: config.devices.clone() }
}

pub(super) struct Fixed {
    devices: Vec<DeclaredDevice>,
}

impl Probe for Fixed {
    fn find(&mut self) -> Vec<Found> {
        self.devices.iter().map(found).collect()
    }

    fn read(&mut self) -> Vec<Read> {
        let reading = |device: &DeclaredDevice| {
            Ok(Reading { total_mib: device.memory_mib, ..Reading::default() })
        };
        self.devices.iter().map(reading).collect()
    }

    fn hidden(&self) -> Env {
        vec![
            variable("HIP_VISIBLE_DEVICES", "-1"),
            // Processors alone.
            variable("ONEAPI_DEVICE_SELECTOR", "*:cpu"),
        ]
    }
}

fn found(device: &DeclaredDevice) -> Found {
    let info = DeviceInfo {
        id: id(device),
        name: device.name.clone(),
        kind: device.kind,
        memory_mib: device.memory_mib,
        slots: 1,
        driver: Label::default(),
    };
    Found { info, pci: None, env: env(device), nodes: nodes(device.kind) }
}

/// An NVIDIA GPU is known by its UUID, so that it is not listed twice if it can be found after all;
/// the numbers of others are theirs alone only within their kind.
fn id(device: &DeclaredDevice) -> Label {
    match device.kind {
        DeviceKind::Cpu | DeviceKind::Cuda => device.id.clone(),
        DeviceKind::Hip => label(&format!("hip-{}", device.id)),
        DeviceKind::OneApi => label(&format!("oneapi-{}", device.id)),
        DeviceKind::Metal => label(&format!("metal-{}", device.id)),
    }
}

fn env(device: &DeclaredDevice) -> Env {
    let id = device.id.as_str();
    match device.kind {
        DeviceKind::Cpu | DeviceKind::Metal => Vec::new(),
        DeviceKind::Cuda => nvml::env(id),
        DeviceKind::Hip => vec![variable("HIP_VISIBLE_DEVICES", id)],
        DeviceKind::OneApi => {
            vec![variable("ONEAPI_DEVICE_SELECTOR", &format!("level_zero:{id}"))]
        }
    }
}

fn nodes(kind: DeviceKind) -> Vec<PathBuf> {
    let nodes: &[&str] = match kind {
        DeviceKind::Cpu | DeviceKind::Metal => &[],
        DeviceKind::Cuda => return nvml::nodes(None),
        DeviceKind::Hip => &["/dev/kfd", "/dev/dri", "/sys"],
        DeviceKind::OneApi => &["/dev/dri", "/sys"],
    };
    nodes.iter().map(PathBuf::from).collect()
}
