//! What renders on this host, and how it is doing: found once, read every second.
//!
//! Each kind of device has a [`Probe`] in a file of its own and a line in [`probes`]. A probe says
//! what it finds and how that is doing; what to make of it (reservations, how many instances) is
//! decided elsewhere. Nothing here fails: what cannot be found is left out, and what cannot be read
//! any more says so in a sentence.

mod cpu;
mod fixed;
mod nvml;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use grange_blocking as blocking;
use grange_protocol::agent::DeviceInfo;
use grange_protocol::shot::Label;
use tokio::sync::mpsc;

use crate::config::Config;
use crate::devices;

/// Variables of a process's environment.
pub(crate) type Env = Vec<(OsString, OsString)>;

/// A device, and what an instance needs to render on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) info: DeviceInfo,
    /// Domain, bus and device on the PCI bus as Cycles has them in its device ids: `0000:01:00`.
    pub(crate) pci: Option<String>,
    /// Shows this device to a program, and hides all others.
    pub(crate) env: Env,
    /// Device files, and directories of the host, that a sandbox must show. Some may not be there,
    /// or not yet: drivers make some files when they are first used.
    pub(crate) nodes: Vec<PathBuf>,
}

/// How a device is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Memory that instances may use together if nobody else uses any.
    pub(crate) total_mib: u64,
    /// What is not free of it, the farm's own use included.
    pub(crate) used_mib: u64,
    /// Of its computing units over about the last second, 0 to 100.
    pub(crate) utilisation_percent: Option<u8>,
    pub(crate) temperature_c: Option<u16>,
    pub(crate) power_w: Option<u16>,
    /// Who uses its memory, by process number, and how many MiB if the driver says. Empty where
    /// nobody says who.
    pub(crate) processes: Vec<(u32, Option<u32>)>,
}

/// A reading, or why there is none, as a sentence for people.
pub(crate) type Read = Result<Reading, String>;

/// Finds and reads the devices of one kind.
trait Probe: Send {
    /// Looks what there is; called once. May take seconds.
    fn find(&mut self) -> Vec<Found>;

    /// How each is doing that was found, in the same order. May take long if a driver is in
    /// trouble, and never panics.
    fn read(&mut self) -> Vec<Read>;

    /// What hides all devices of this kind from a program.
    fn hidden(&self) -> Env {
        Vec::new()
    }
}

/// Every kind, in the order in which its devices are listed.
fn probes(config: &Config) -> Vec<Box<dyn Probe>> {
    vec![
        Box::new(nvml::probe(config)),
        Box::new(fixed::probe(config)),
        Box::new(cpu::probe(config)),
    ]
}

/// The devices of this host.
pub(crate) struct Devices {
    sources: Vec<Source>,
    found: Vec<Found>,
}

/// A probe, and which of its devices are listed.
struct Source {
    probe: Box<dyn Probe>,
    listed: Vec<bool>,
}

impl Devices {
    /// Looks for them; blocks for as long as drivers take.
    pub(crate) fn find(config: &Config) -> Self {
        let mut devices = Self { sources: Vec::new(), found: Vec::new() };
        for mut probe in probes(config) {
            let found = probe.find();
            let listed = found.into_iter().map(|found| devices.list(found)).collect();
            devices.sources.push(Source { probe, listed });
        }
        let hidden: Env = devices.sources.iter().flat_map(|source| source.probe.hidden()).collect();
        for found in &mut devices.found {
            found.info.slots = devices::slots(found.info.kind, config.instances);
            // What shows the device comes later, so it counts.
            let env: BTreeMap<_, _> = hidden.iter().cloned().chain(found.env.drain(..)).collect();
            found.env = env.into_iter().collect();
        }
        devices
    }

    pub(crate) fn found(&self) -> &[Found] {
        &self.found
    }

    /// How each is doing, in the order of [`found`](Self::found). Blocks, long if a driver is in
    /// trouble.
    pub(crate) fn read(&mut self) -> Vec<Read> {
        let mut all = Vec::with_capacity(self.found.len());
        for Source { probe, listed } in &mut self.sources {
            let mut readings = probe.read().into_iter();
            for listed in listed {
                let reading = readings.next().unwrap_or_else(|| Err("it says nothing".into()));
                if *listed {
                    all.push(reading);
                }
            }
        }
        all
    }

    /// The first of an id counts: an owner may have written down what is found anyway.
    fn list(&mut self, found: Found) -> bool {
        let id = &found.info.id;
        let new = self.found.iter().all(|other| other.info.id != *id);
        if new {
            self.found.push(found);
        } else {
            tracing::warn!("the device {id} is there already, so the second one is left out");
        }
        new
    }
}

/// Reads the devices now and then after each `every`, on a thread of its own: a driver that
/// hangs holds up nothing else, not even the agent's end. While nobody takes what was read it waits.
/// Ends when the receiver is dropped. Where blocking work is done at once, so is this.
pub(crate) fn watch(mut devices: Devices, every: Duration) -> mpsc::Receiver<Vec<Read>> {
    let (sender, readings) = mpsc::channel(1);
    if blocking::is_at_once() {
        tokio::spawn(async move {
            while sender.send(devices.read()).await.is_ok() {
                tokio::time::sleep(every).await;
            }
        });
        return readings;
    }
    let watching = std::thread::Builder::new().name("devices".into()).spawn(move || {
        while sender.blocking_send(devices.read()).is_ok() {
            std::thread::sleep(every);
        }
    });
    if let Err(error) = watching {
        tracing::warn!("nobody watches the devices: {error}");
    }
    readings
}

/// A driver's word as a name; what no name can be made of is no name.
fn label(text: &str) -> Label {
    text.trim().parse().unwrap_or_default()
}

fn variable(name: &str, value: &str) -> (OsString, OsString) {
    (name.into(), value.into())
}
