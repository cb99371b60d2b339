//! Render hosts, their devices, and what was decided about those.

use std::collections::BTreeSet;
use std::fmt::Write;

use comfy_table::{Cell, Table};
use grange_protocol::agent::DeviceInfo;
use grange_protocol::footprint::DeviceState;
use grange_protocol::shot::Label;
use grange_protocol::view::{AgentView, DecisionView, TaskView};

use super::{UNKNOWN, ago, hide, kind, right, table, wrap};

/// Characters of a name and of a sentence in a line of a table: what lets the tables here be read
/// at 100 columns, also where devices have long names.
const AGENT_CHARS: u16 = 12;
const DEVICE_CHARS: u16 = 24;
const SENTENCE_CHARS: u16 = 46;
const TAGS_CHARS: u16 = 10;
const HOURS_CHARS: u16 = 16;

pub(crate) const NO_AGENTS: &str =
    "no agents yet: `grange token create --role agent` makes a join string for one";

/// The hosts, below them their devices, and below those what is wrong with any.
pub(crate) fn agents(agents: &[AgentView]) -> String {
    if agents.is_empty() {
        return NO_AGENTS.into();
    }
    let mut text = hosts(agents).trim_fmt();
    if agents.iter().any(|agent| !agent.devices.is_empty()) {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n\n{}", devices(agents).trim_fmt());
    }
    let problems = problems(agents);
    if !problems.is_empty() {
        let _ = write!(text, "\n\n{}", problems.join("\n"));
    }
    text
}

/// One host in a line: what people decided of it.
pub(crate) fn agent(agent: &AgentView) -> String {
    let mut line = format!("{}: {}, {} tasks", agent.name, agent.state, agent.tasks);
    if !agent.tags.is_empty() {
        let _ = write!(line, ", tags {}", tags(&agent.tags));
    }
    if let Some(schedule) = &agent.schedule {
        let _ = write!(line, ", takes tasks {schedule}");
    }
    line
}

/// Those of an agent, or those that a job asks for.
pub(crate) fn tags(tags: &BTreeSet<Label>) -> String {
    tags.iter().map(Label::as_str).collect::<Vec<_>>().join(", ")
}

/// The trace, in the order in which it is given. The agents say which of their devices have the
/// same name.
pub(crate) fn decisions(decisions: &[DecisionView], agents: &[AgentView]) -> String {
    if decisions.is_empty() {
        return "nothing was decided yet: agents tell what they decide while they render".into();
    }
    let mut table = table(["WHEN", "AGENT", "DEVICE", "DECISION"]);
    for DecisionView { agent, device, decision } in decisions {
        let known = agents.iter().find(|other| other.name == *agent);
        let name = known.map(|agent| device_name(&agent.devices, decision.device.into()));
        table.add_row(vec![
            Cell::new(ago(decision.at)),
            Cell::new(agent),
            Cell::new(name.unwrap_or_else(|| device.to_string())),
            Cell::new(&decision.text),
        ]);
    }
    wrap(&mut table, 1, AGENT_CHARS);
    wrap(&mut table, 2, DEVICE_CHARS);
    wrap(&mut table, 3, SENTENCE_CHARS);
    table.trim_fmt()
}

/// What a person calls the device: short, and with its number where the host has several alike.
pub(crate) fn device_name(devices: &[DeviceInfo], at: usize) -> String {
    let Some(device) = devices.get(at) else { return format!("device {at}") };
    let name = device.name.as_str();
    let short = name.strip_prefix("NVIDIA ").unwrap_or(name);
    let alike = devices.iter().filter(|other| other.name == device.name).count();
    if alike == 1 { short.into() } else { format!("{short} #{at}") }
}

/// Where a task runs: its agent, and which device where that has several.
pub(super) fn place(task: &TaskView, agents: &[AgentView]) -> String {
    let Some(agent) = &task.agent else { return String::new() };
    let devices = agents.iter().find(|other| other.name == *agent).map(|agent| &agent.devices);
    match (devices, task.device) {
        (Some(devices), Some(at)) if devices.len() > 1 => {
            format!("{agent}, {}", device_name(devices, at.into()))
        }
        _ => agent.to_string(),
    }
}

fn hosts(agents: &[AgentView]) -> Table {
    let mut table =
        table(["AGENT", "STATE", "TASKS", "CPU", "RAM FREE", "BLENDER", "TAGS", "HOURS"]);
    for agent in agents {
        let blenders: Vec<&str> =
            agent.runtimes.iter().map(|runtime| runtime.full_version.as_str()).collect();
        let load = &agent.load;
        let heard = load.memory_total_mib > 0;
        let known = |text: String| right(if heard { text } else { UNKNOWN.into() });
        table.add_row(vec![
            Cell::new(&agent.name),
            Cell::new(agent.state),
            right(agent.tasks),
            known(format!("{:.0} %", load.cpu_percent)),
            known(format!("{}/{} GiB", gib(load.memory_available_mib), gib(load.memory_total_mib))),
            Cell::new(if blenders.is_empty() { "none".into() } else { blenders.join(", ") }),
            Cell::new(tags(&agent.tags)),
            Cell::new(agent.schedule.as_ref().map(ToString::to_string).unwrap_or_default()),
        ]);
    }
    wrap(&mut table, 6, TAGS_CHARS);
    wrap(&mut table, 7, HOURS_CHARS);
    if agents.iter().all(|agent| agent.tags.is_empty()) {
        hide(&mut table, 6);
    }
    if agents.iter().all(|agent| agent.schedule.is_none()) {
        hide(&mut table, 7);
    }
    table
}

fn problems(agents: &[AgentView]) -> Vec<String> {
    let of_agent = |agent: &AgentView| {
        let states = agent.device_states.iter().enumerate();
        let sentence = |(at, state): (usize, &DeviceState)| {
            let device = device_name(&agent.devices, at);
            state.problem.as_ref().map(|problem| format!("{}, {device}: {problem}", agent.name))
        };
        states.filter_map(sentence).collect::<Vec<_>>()
    };
    agents.iter().flat_map(of_agent).collect()
}

fn devices(agents: &[AgentView]) -> Table {
    let mut table = table([
        "AGENT",
        "DEVICE",
        "KIND",
        "INSTANCES",
        "RESERVED",
        "OTHERS",
        "TOTAL",
        "LOAD",
        "°C",
        "W",
    ]);
    for agent in agents {
        for (at, device) in agent.devices.iter().enumerate() {
            let mut row = vec![
                Cell::new(&agent.name),
                Cell::new(device_name(&agent.devices, at)),
                Cell::new(kind(device.kind)),
            ];
            row.extend(figures(device, agent.device_states.get(at)).map(right));
            table.add_row(row);
        }
    }
    wrap(&mut table, 0, AGENT_CHARS);
    wrap(&mut table, 1, DEVICE_CHARS);
    table
}

/// Instances, memory (set aside, of others, in all), load, temperature and power.
fn figures(device: &DeviceInfo, state: Option<&DeviceState>) -> [String; 7] {
    fn or_unknown(text: Option<String>) -> String {
        text.unwrap_or_else(|| UNKNOWN.into())
    }
    let total_mib = state.map_or(device.memory_mib, |state| state.total_mib);
    [
        or_unknown(state.map(|state| format!("{}/{}", state.instances, state.slots))),
        or_unknown(state.map(|state| gib(state.reserved_mib))),
        or_unknown(state.map(|state| gib(state.others_mib))),
        format!("{} GiB", gib(total_mib)),
        or_unknown(state.and_then(|state| Some(format!("{} %", state.utilisation_percent?)))),
        or_unknown(state.and_then(|state| Some(state.temperature_c?.to_string()))),
        or_unknown(state.and_then(|state| Some(state.power_w?.to_string()))),
    ]
}

pub(crate) fn gib(mib: u64) -> String {
    format!("{:.1}", mib as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    use grange_protocol::agent::{DeviceKind, HostLoad, RuntimeInfo};
    use grange_protocol::footprint::Decision;
    use grange_protocol::view::{AgentState, TaskState};
    use grange_protocol::{AgentId, BlenderVersion, Millis, StepIndex, TaskIndex};

    fn device(name: &str, kind: DeviceKind, memory_mib: u64) -> DeviceInfo {
        DeviceInfo {
            id: name.parse().unwrap(),
            name: name.parse().unwrap(),
            kind,
            memory_mib,
            slots: 1,
            driver: "550.54".parse().unwrap(),
        }
    }

    fn agent(name: &str, devices: Vec<DeviceInfo>, device_states: Vec<DeviceState>) -> AgentView {
        let runtime = |version, full: &str| RuntimeInfo {
            version,
            full_version: full.into(),
            path: "/opt/blender".into(),
            engines: Default::default(),
            denoiser: true,
        };
        AgentView {
            id: AgentId::default(),
            name: name.parse().unwrap(),
            state: AgentState::Online,
            software: "0.1.0".into(),
            runtimes: vec![
                runtime(BlenderVersion::new(4, 5), "4.5.15 LTS"),
                runtime(BlenderVersion::new(5, 0), "5.0.1"),
            ],
            devices,
            ffmpeg: true,
            load: HostLoad {
                cores: 64,
                cpu_percent: 41.7,
                memory_total_mib: 257_000,
                memory_available_mib: 198_321,
                instances: 4,
            },
            tasks: 7,
            last_seen: Millis(0),
            device_states,
            tags: Default::default(),
            schedule: None,
        }
    }

    /// A host with long names and a device in trouble, one that has not told yet, one that is off.
    fn farm() -> Vec<AgentView> {
        let workstation = "NVIDIA RTX PRO 6000 Blackwell Workstation Edition";
        let mut first = agent(
            "render-01",
            vec![
                device(workstation, DeviceKind::Cuda, 97_887),
                device(workstation, DeviceKind::Cuda, 97_887),
                device("AMD EPYC 9354 32-Core Processor", DeviceKind::Cpu, 257_000),
            ],
            vec![
                DeviceState {
                    total_mib: 97_887,
                    used_mib: 60_113,
                    others_mib: 1_433,
                    reserved_mib: 61_440,
                    instances: 3,
                    slots: 3,
                    utilisation_percent: Some(98),
                    temperature_c: Some(71),
                    power_w: Some(583),
                    ..DeviceState::default()
                },
                DeviceState {
                    total_mib: 97_887,
                    slots: 1,
                    problem: Some("it has fallen off the bus: this host must be restarted".into()),
                    ..DeviceState::default()
                },
                DeviceState {
                    total_mib: 257_000,
                    used_mib: 58_679,
                    others_mib: 31_900,
                    reserved_mib: 9_216,
                    instances: 1,
                    slots: 2,
                    utilisation_percent: Some(4),
                    ..DeviceState::default()
                },
            ],
        );
        first.tasks = 12;
        let mig = device("NVIDIA H100 80GB HBM3 MIG 1g.10gb", DeviceKind::Cuda, 9_728);
        let second = agent("attic", vec![mig], Vec::new());
        let cpu = device("Intel Core i5-8250U", DeviceKind::Cpu, 7_800);
        let mut off = agent("laptop.studio", vec![cpu], Vec::new());
        (off.state, off.tasks, off.load) = (AgentState::Offline, 0, HostLoad::default());
        off.runtimes.clear();
        off.tags = ["big", "night"].map(|tag| tag.parse().unwrap()).into();
        off.schedule = Some("mon-fri 19:00-07:00, sat-sun".parse().unwrap());
        vec![first, second, off]
    }

    #[test]
    fn a_task_is_on_a_device_where_its_agent_has_several() {
        let on = |agent: &str, device| {
            let task = TaskView {
                step: StepIndex(0),
                task: TaskIndex(0),
                label: "frame 1".into(),
                state: TaskState::Running,
                agent: agent.parse().ok(),
                device: Some(device),
                progress: None,
                failures: Vec::new(),
            };
            place(&task, &farm())
        };
        assert_eq!(on("render-01", 1), "render-01, RTX PRO 6000 Blackwell Workstation Edition #1");
        assert_eq!(on("render-01", 2), "render-01, AMD EPYC 9354 32-Core Processor");
        assert_eq!(on("attic", 0), "attic");
        assert_eq!(on("gone", 0), "gone");
    }

    fn is_narrow(text: &str) -> bool {
        let tables = text.lines().filter(|line| !line.contains("fallen off the bus"));
        tables.clone().count() > 0 && tables.into_iter().all(|line| line.chars().count() <= 100)
    }

    #[test]
    fn hosts_and_their_devices_read_well() {
        let text = agents(&farm());
        assert!(is_narrow(&text), "{text}");
        insta::assert_snapshot!(text);
        insta::assert_snapshot!(agents(&[]), @"no agents yet: `grange token create --role agent` makes a join string for one");
    }

    #[test]
    fn what_was_decided_reads_well() {
        let before = |seconds: u64| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            Millis((now - Duration::from_secs(seconds)).as_millis() as u64)
        };
        let decision = |agent: &str, device: u16, seconds, text: &str| DecisionView {
            agent: agent.parse().unwrap(),
            device: "what the coordinator calls it".parse().unwrap(),
            decision: Decision { device, at: before(seconds), text: text.into() },
        };
        let told = [
            decision("render-01", 0, 200, "1 instance: 22.3 frames/min, 2: 41.0 (+84 %): trying 3"),
            decision("attic", 0, 100, "there is memory for 1 instance instead of 2"),
            decision(
                "render-01",
                0,
                90,
                "1 instance: 22.3 frames/min, 2: 41.0 (+84 %), 3: 41.2 (+0 %): staying with 2",
            ),
            decision("gone", 3, 90_000, "2 instances ran out of memory"),
        ];
        let text = decisions(&told, &farm());
        assert!(is_narrow(&text), "{text}");
        insta::assert_snapshot!(text);
        insta::assert_snapshot!(decisions(&[], &farm()), @"nothing was decided yet: agents tell what they decide while they render");
    }
}
