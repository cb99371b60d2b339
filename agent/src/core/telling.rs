//! What people and the coordinator are told of the devices.

use grange_protocol::agent::{DeviceKind, FromAgent};
use grange_protocol::footprint::{DEVICE_PROCESSES_MAX, Decision, DeviceState, ProcessUse};

use super::{Command, Core};

impl Core {
    pub(super) fn device_states(&self) -> Vec<DeviceState> {
        (0..self.devices.len() as u16).map(|at| self.device_state(at)).collect()
    }

    fn device_state(&self, at: u16) -> DeviceState {
        let device = &self.devices[usize::from(at)];
        let reading = device.reading();
        let reserved = self.instances_on(at).map(|(_, one)| u64::from(one.reserved.device_mib));
        let (instances, reserved_mib) = (self.instances_on(at).count() as u16, reserved.sum());
        let ours = |pid: u32| self.instances.values().any(|instance| instance.pid == Some(pid));
        let mut processes: Vec<ProcessUse> = reading
            .processes
            .iter()
            .map(|(pid, mib)| ProcessUse { pid: *pid, mib: *mib, ours: ours(*pid) })
            .collect();
        if device.kind == DeviceKind::Cpu {
            let of_ours = self.instances_on(at).filter_map(|(_, one)| {
                Some(ProcessUse { pid: one.pid?, mib: Some(one.now.ram_mib), ours: true })
            });
            processes.extend(of_ours);
        }
        processes.sort_by_key(|process| std::cmp::Reverse(process.mib));
        processes.truncate(DEVICE_PROCESSES_MAX);
        DeviceState {
            total_mib: device.total_mib(),
            used_mib: reading.used_mib,
            others_mib: device.others_mib(),
            reserved_mib,
            instances,
            slots: device.count(),
            utilisation_percent: reading.utilisation_percent,
            temperature_c: reading.temperature_c,
            power_w: reading.power_w,
            processes,
            problem: device.problem.clone(),
        }
    }

    pub(super) fn tell_devices(&mut self) {
        let states = self.device_states();
        for (device, state) in self.devices.iter_mut().zip(&states) {
            device.told = state.clone();
        }
        self.tell(FromAgent::Devices(states));
    }

    /// Tells at once what the coordinator places by.
    pub(super) fn tell_devices_if_they_changed(&mut self) {
        let changed = self.devices.iter().any(|device| {
            (device.told.slots, device.told.problem.is_some())
                != (device.count(), device.problem.is_some())
        });
        if changed {
            self.tell_devices();
        }
    }

    pub(super) fn decide(&mut self, device: u16, text: String) {
        let at = self.now;
        self.tell(FromAgent::Decided(Decision { device, at, text: text.clone() }));
        self.command(Command::Note { device, text });
    }
}
