//! The processor: its memory is the host's RAM, or what the owner gives the farm of it.
//!
//! Who uses the RAM is not looked at here: the agent knows its own instances.

use grange_protocol::agent::{DeviceInfo, DeviceKind};
use grange_protocol::shot::Label;

use super::{Found, Probe, Read, Reading, label};
use crate::config::Config;
use crate::host::Host;

pub(super) fn probe(config: &Config) -> Cpu {
    Cpu { host: Host::open().ok(), budget_mib: config.memory_mib }
}

pub(super) struct Cpu {
    /// `None` where the host does not say anything of itself.
    host: Option<Host>,
    /// RAM for instances.
    budget_mib: Option<u64>,
}

impl Probe for Cpu {
    fn find(&mut self) -> Vec<Found> {
        let name = self.host.as_ref().map_or("CPU", Host::cpu_name);
        let info = DeviceInfo {
            id: label("cpu"),
            name: label(name),
            kind: DeviceKind::Cpu,
            memory_mib: self.memory().map_or(0, |reading| reading.total_mib),
            slots: 1,
            driver: Label::default(),
        };
        vec![Found { info, pci: None, env: Vec::new(), nodes: Vec::new() }]
    }

    fn read(&mut self) -> Vec<Read> {
        vec![self.memory().ok_or_else(|| "this host does not say how much memory it has".into())]
    }
}

impl Cpu {
    fn memory(&mut self) -> Option<Reading> {
        let (total, available) = self.host.as_mut()?.memory_mib();
        Some(within(self.budget_mib, total, available))
    }
}

/// What a budget leaves of the RAM. What others use is taken from the part beyond the budget first,
/// so that `total_mib - used_mib` is always what instances can still get.
fn within(budget_mib: Option<u64>, ram_mib: u64, available_mib: u64) -> Reading {
    let total_mib = budget_mib.unwrap_or(ram_mib).min(ram_mib);
    let used_mib = total_mib.saturating_sub(available_mib);
    Reading { total_mib, used_mib, ..Reading::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_bounds_what_instances_get_and_others_eat_into_it_last() {
        let within = |budget, ram, available| {
            let reading = within(budget, ram, available);
            (reading.total_mib, reading.used_mib)
        };
        assert_eq!(within(None, 32_000, 30_000), (32_000, 2_000));
        assert_eq!(within(Some(64_000), 32_000, 30_000), (32_000, 2_000));
        assert_eq!(within(Some(8_000), 32_000, 30_000), (8_000, 0));
        assert_eq!(within(Some(8_000), 32_000, 5_000), (8_000, 3_000));
        assert_eq!(within(Some(8_000), 32_000, 0), (8_000, 8_000));
    }
}
