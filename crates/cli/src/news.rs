//! What of the agents' news somebody who watches the farm wants to hear. Agents tell of their
//! devices every other second; a line comes of it only when something has changed that matters.

use std::collections::BTreeMap;

use grange_protocol::AgentId;
use grange_protocol::footprint::DeviceState;
use grange_protocol::view::{AgentState, AgentView};

use crate::print::device_name;

/// Remembers what was told of each agent.
#[derive(Default)]
pub(crate) struct News {
    agents: BTreeMap<AgentId, Known>,
}

struct Known {
    state: AgentState,
    /// As they were when the agent last said anything of them.
    devices: Vec<DeviceState>,
}

impl News {
    /// What is new, a line each. Of an agent that is heard of for the first time only what is wrong
    /// with its devices.
    pub(crate) fn of(&mut self, agent: &AgentView) -> Vec<String> {
        let known = self
            .agents
            .entry(agent.id)
            .or_insert_with(|| Known { state: agent.state, devices: Vec::new() });
        let mut lines = Vec::new();
        if known.state != agent.state {
            known.state = agent.state;
            lines.push(format!("agent {} is {}", agent.name, agent.state));
        }
        for (at, state) in agent.device_states.iter().enumerate() {
            if let Some(change) = change(known.devices.get(at), state) {
                let device = device_name(&agent.devices, at);
                lines.push(format!("agent {}, {device}: {change}", agent.name));
            }
        }
        // An agent that was away has said nothing yet; that is no change.
        if !agent.device_states.is_empty() {
            known.devices.clone_from(&agent.device_states);
        }
        lines
    }
}

fn change(before: Option<&DeviceState>, now: &DeviceState) -> Option<String> {
    let problem_before = before.and_then(|before| before.problem.as_ref());
    match (problem_before, &now.problem) {
        (before, Some(problem)) if before != Some(problem) => return Some(problem.clone()),
        (Some(_), None) => return Some("it renders again".into()),
        _ => {}
    }
    let slots_before = before?.slots;
    (slots_before != now.slots)
        .then(|| format!("{} instead of {slots_before}", instances(now.slots)))
}

fn instances(count: u16) -> String {
    if count == 1 { "1 instance".into() } else { format!("{count} instances") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grange_protocol::Millis;
    use grange_protocol::agent::{DeviceInfo, DeviceKind, HostLoad};

    fn agent(state: AgentState, device: Option<DeviceState>) -> AgentView {
        let gpu = DeviceInfo {
            id: "GPU-1".parse().unwrap(),
            name: "NVIDIA GeForce RTX 4090".parse().unwrap(),
            kind: DeviceKind::Cuda,
            memory_mib: 24_564,
            slots: 1,
            driver: "550.54".parse().unwrap(),
        };
        AgentView {
            id: AgentId::default(),
            name: "meadow".parse().unwrap(),
            state,
            software: "0.1.0".into(),
            runtimes: Vec::new(),
            devices: vec![gpu],
            ffmpeg: false,
            load: HostLoad::default(),
            tasks: 0,
            last_seen: Millis(0),
            device_states: device.into_iter().collect(),
            tags: Default::default(),
            schedule: None,
        }
    }

    fn wants(slots: u16, used_mib: u64) -> DeviceState {
        DeviceState { slots, used_mib, ..DeviceState::default() }
    }

    #[test]
    fn only_what_matters_is_told_and_once() {
        use AgentState::{Offline, Online};
        let lost =
            || DeviceState { problem: Some("it is not there any more".into()), ..wants(2, 0) };
        let of_gpu = |change: &str| Some(format!("agent meadow, GeForce RTX 4090: {change}"));
        let story = [
            (Online, None, None),
            (Online, Some(wants(1, 0)), None),
            (Online, Some(wants(1, 900)), None),
            (Online, Some(wants(2, 950)), of_gpu("2 instances instead of 1")),
            (Online, Some(wants(2, 1800)), None),
            (Offline, None, Some("agent meadow is offline".into())),
            (Online, None, Some("agent meadow is online".into())),
            (Online, Some(wants(1, 0)), of_gpu("1 instance instead of 2")),
            (Online, Some(lost()), of_gpu("it is not there any more")),
            (Online, Some(lost()), None),
            (Online, Some(wants(2, 0)), of_gpu("it renders again")),
        ];
        let mut news = News::default();
        for (at, (state, device, line)) in story.into_iter().enumerate() {
            assert_eq!(news.of(&agent(state, device)), Vec::from_iter(line), "at {at}");
        }
        let first = News::default().of(&agent(Online, Some(lost())));
        assert_eq!(first, ["agent meadow, GeForce RTX 4090: it is not there any more"]);
    }
}
