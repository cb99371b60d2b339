//! The pane of agents: each host, below it its devices, and below each what renders there.

use grange_protocol::Millis;
use grange_protocol::agent::{DeviceInfo, Stage};
use grange_protocol::footprint::DeviceState;
use grange_protocol::view::{AgentState, AgentView};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::look::Look;
use super::text::{fit, left, right, width};
use super::{bars, title};
use crate::print;
use crate::top::model::{Link, Model, Pane, Running};

/// The pane's name.
pub(super) const HEAD_LINES: u16 = 1;

const DEVICE_INDENT: &str = "  ";
const MORE_INDENT: &str = "    ";
/// Columns of a device's name and of its bar: at least, well, and at most.
const DEVICE_NAME: [usize; 3] = [12, 18, 30];
const MEMORY_BAR: [usize; 3] = [8, 16, 32];
/// Of a task: its job's name and its own, at most, and its bar.
const JOB_NAME_MAX: usize = 24;
const TASK_LABEL_MAX: usize = 20;
const TASK_BAR: usize = 10;
/// Below so many columns a task has no bar.
const TASK_BAR_ROOM: usize = 60;

/// The agents in their order.
pub(super) struct Agents<'a> {
    model: &'a Model,
    all: Vec<Host<'a>>,
}

struct Host<'a> {
    agent: &'a AgentView,
    /// What each of its devices works on.
    running: Vec<Vec<Running<'a>>>,
    /// How many it takes.
    lines: usize,
}

impl<'a> Agents<'a> {
    pub(super) fn of(model: &'a Model) -> Self {
        let host = |agent: &'a AgentView| {
            let running = model.running_on(agent);
            let devices = running.iter().enumerate().map(|(at, tasks)| {
                1 + usize::from(why(model, agent, at).is_some()) + task_lines(tasks)
            });
            let lines = 1 + devices.sum::<usize>();
            Host { agent, running, lines }
        };
        Self { model, all: model.agents().into_iter().map(host).collect() }
    }

    pub(super) fn lines_count(&self) -> usize {
        self.all.iter().map(|host| host.lines).sum::<usize>().max(1)
    }

    /// Draws what there is room for, from the line on that is wanted; tells how many lines that are
    /// and where they begin.
    pub(super) fn draw(
        &self,
        frame: &mut Frame<'_>,
        look: Look,
        now: Millis,
        area: Rect,
    ) -> (usize, usize) {
        let room = usize::from(area.height.saturating_sub(HEAD_LINES));
        let count = self.lines_count();
        let from = self.model.agents_from.min(count.saturating_sub(room));
        let mut name = String::from("Agents");
        let (asked, running) = self.model.worth_asking();
        if asked.len() < running {
            name += &format!(" · tasks of {} of the {running} jobs that run", asked.len());
        }
        if count > room && room > 0 {
            name += &format!(" · lines {}–{} of {count}", from + 1, (from + room).min(count));
        }
        let here = self.model.pane == Pane::Agents;
        let head = title(&name, here, look, area.width);
        let lines = self.lines(look, now, area.width.into(), from, room);
        for (line, area) in std::iter::once(head).chain(lines).zip(area.rows()) {
            frame.render_widget(line, area);
        }
        (room, from)
    }

    /// So many lines from one on. Only agents that are to be seen are put into words: there may be
    /// hundreds.
    fn lines(
        &self,
        look: Look,
        now: Millis,
        room: usize,
        from: usize,
        count: usize,
    ) -> Vec<Line<'static>> {
        if self.all.is_empty() {
            let reading = self.model.link == Link::Reading;
            let none = if reading { "reading the farm …" } else { print::NO_AGENTS };
            return vec![Line::styled(fit(none, room), look.soft())];
        }
        let (mut before, mut skipped, mut seen) = (0, 0, Vec::new());
        for host in &self.all {
            if before + host.lines <= from {
                skipped += host.lines;
            } else if before < from + count {
                seen.push(host);
            }
            before += host.lines;
        }
        let agents: Vec<&AgentView> = seen.iter().map(|host| host.agent).collect();
        let columns = DeviceColumns::of(&agents, room);
        let mut lines = Vec::new();
        for Host { agent, running, .. } in seen {
            lines.push(host(agent, look, now, room));
            let task_columns = TaskColumns::of(running, room);
            for (at, (device, tasks)) in agent.devices.iter().zip(running).enumerate() {
                let name = print::device_name(&agent.devices, at);
                lines.push(columns.line(&name, device, agent.device_states.get(at), look));
                if let Some((text, is_bad)) = why(self.model, agent, at) {
                    let style = if is_bad { look.bad() } else { look.soft() };
                    let text = fit(text, room.saturating_sub(MORE_INDENT.len()));
                    lines.push(Line::styled(format!("{MORE_INDENT}{text}"), style));
                }
                lines.extend(task_columns.lines(tasks, look, room));
            }
        }
        lines.into_iter().skip(from - skipped).take(count).collect()
    }
}

/// What is wrong with a device, else why it runs as many instances as it does; and whether it is
/// wrong.
fn why<'a>(model: &'a Model, agent: &'a AgentView, device: usize) -> Option<(&'a str, bool)> {
    let state = agent.device_states.get(device);
    let problem = state.and_then(|state| state.problem.as_deref()).map(|text| (text, true));
    problem.or_else(|| Some((model.decision(agent, device)?.text.as_str(), false)))
}

fn host(agent: &AgentView, look: Look, now: Millis, room: usize) -> Line<'static> {
    let name = fit(agent.name.as_str(), 24);
    let state = agent.state.to_string();
    let mut parts = Vec::new();
    if agent.state == AgentState::Offline {
        parts.push(format!("last seen {}", print::ago_at(agent.last_seen, now)));
    } else {
        let load = &agent.load;
        parts.push(format!("{} {}", agent.tasks, if agent.tasks == 1 { "task" } else { "tasks" }));
        if load.memory_total_mib > 0 {
            let (free, total) = (load.memory_available_mib, load.memory_total_mib);
            parts.push(format!("CPU {:.0} % of {} cores", load.cpu_percent, load.cores));
            parts.push(format!("{}/{} GiB RAM free", print::gib(free), print::gib(total)));
        }
        let blenders: Vec<&str> =
            agent.runtimes.iter().map(|runtime| runtime.full_version.as_str()).collect();
        let blenders = if blenders.is_empty() { "none".into() } else { blenders.join(", ") };
        parts.push(format!("Blender {blenders}"));
    }
    let left = room.saturating_sub(width(&name) + width(&state) + 4);
    Line::from(vec![
        Span::styled(name, look.strong()),
        Span::raw("  "),
        Span::styled(state, look.agent(agent.state)),
        Span::styled(format!("  {}", fit(&parts.join(" · "), left)), look.soft()),
    ])
}

/// What all devices have room for, so that their figures stand below each other.
struct DeviceColumns {
    name: usize,
    bar: usize,
    /// Of each figure, 0 for one that is left out.
    figures: [usize; FIGURES],
}

const FIGURES: usize = 5;

impl DeviceColumns {
    fn of(agents: &[&AgentView], room: usize) -> Self {
        let mut longest = 0;
        let mut wanted = [0; FIGURES];
        for agent in agents {
            for (at, device) in agent.devices.iter().enumerate() {
                longest = longest.max(width(&print::device_name(&agent.devices, at)));
                let told = figures(device, agent.device_states.get(at));
                for (wanted, text) in wanted.iter_mut().zip(&told) {
                    *wanted = (*wanted).max(width(text));
                }
            }
        }
        let mut name = DEVICE_NAME[0].min(longest);
        let mut left = room.saturating_sub(DEVICE_INDENT.len() + name + 1);
        // A bar says more than figures, but the first of them.
        let bar_least = MEMORY_BAR[0] + 1;
        let mut figures = [0; FIGURES];
        let mut bar = 0;
        for (at, (figure, wanted)) in figures.iter_mut().zip(wanted).enumerate() {
            if wanted > 0 && wanted < left {
                *figure = wanted;
                left -= wanted + 1;
            }
            if at == 0 && left >= bar_least {
                bar = MEMORY_BAR[0];
                left -= bar_least;
            }
        }
        for (of_name, of_bar) in DEVICE_NAME.into_iter().zip(MEMORY_BAR) {
            let more = of_name.min(longest).saturating_sub(name).min(left);
            (name, left) = (name + more, left - more);
            if bar > 0 {
                let more = of_bar.saturating_sub(bar).min(left);
                (bar, left) = (bar + more, left - more);
            }
        }
        Self { name, bar, figures }
    }

    fn line(
        &self,
        name: &str,
        device: &DeviceInfo,
        state: Option<&DeviceState>,
        look: Look,
    ) -> Line<'static> {
        let mut spans = vec![
            Span::raw(DEVICE_INDENT),
            Span::styled(left(name, self.name), look.plain()),
            Span::raw(" "),
        ];
        if self.bar > 0 {
            match state {
                Some(state) => spans.extend(bars::memory(state, self.bar, look)),
                None => spans.push(Span::raw(" ".repeat(self.bar))),
            }
        }
        for (text, room) in figures(device, state).iter().zip(self.figures) {
            if room > 0 {
                spans.push(Span::styled(format!(" {}", right(text, room)), look.plain()));
            }
        }
        Line::from(spans)
    }
}

/// Instances, memory in use of all, load, temperature and power; empty where nobody knows.
fn figures(device: &DeviceInfo, state: Option<&DeviceState>) -> [String; FIGURES] {
    let Some(state) = state else {
        let memory = format!("{} GiB", print::gib(device.memory_mib));
        return [print::UNKNOWN.into(), memory, String::new(), String::new(), String::new()];
    };
    let or_nothing = |text: Option<String>| text.unwrap_or_default();
    let word = if state.slots == 1 { "instance" } else { "instances" };
    [
        format!("{}/{} {word}", state.instances, state.slots),
        format!("{}/{} GiB", print::gib(state.used_mib), print::gib(state.total_mib)),
        or_nothing(state.utilisation_percent.map(|percent| format!("{percent} %"))),
        or_nothing(state.temperature_c.map(|degrees| format!("{degrees} °C"))),
        or_nothing(state.power_w.map(|watts| format!("{watts} W"))),
    ]
}

/// What all tasks of a host have room for.
struct TaskColumns {
    job: usize,
    label: usize,
}

impl TaskColumns {
    fn of(running: &[Vec<Running<'_>>], room: usize) -> Self {
        let begun = || running.iter().flatten().filter(|one| !waits(one));
        let jobs = begun().map(|one| width(one.job.name.as_str()));
        let labels = begun().map(|one| width(&one.task.label));
        Self {
            job: jobs.max().unwrap_or(0).min(JOB_NAME_MAX.min(room / 4)),
            label: labels.max().unwrap_or(0).min(TASK_LABEL_MAX.min(room / 4)),
        }
    }

    /// Those that an instance works on, a line each; those that wait for one are only counted.
    fn lines(&self, tasks: &[Running<'_>], look: Look, room: usize) -> Vec<Line<'static>> {
        let begun = tasks.iter().filter(|one| !waits(one));
        let mut lines: Vec<Line<'static>> = begun.map(|one| self.line(one, look, room)).collect();
        let waiting = tasks.len() - lines.len();
        if waiting > 0 {
            let word = if waiting == 1 { "task waits" } else { "tasks wait" };
            let text = format!("{waiting} {word} for an instance");
            let text = fit(&text, room.saturating_sub(MORE_INDENT.len()));
            lines.push(Line::styled(format!("{MORE_INDENT}{text}"), look.soft()));
        }
        lines
    }

    fn line(&self, one: &Running<'_>, look: Look, room: usize) -> Line<'static> {
        let Running { job, task } = one;
        let (name, label) = (left(job.name.as_str(), self.job), left(&task.label, self.label));
        let mut spans = vec![Span::styled(format!("{MORE_INDENT}{name} {label} "), look.plain())];
        if let Some(progress) = task.progress.as_ref().filter(|_| room >= TASK_BAR_ROOM) {
            spans.extend(bars::progress(progress.fraction, TASK_BAR, look.busy(), look));
            spans.push(Span::raw(" "));
        }
        let taken: usize = spans.iter().map(Span::width).sum();
        let activity = fit(&print::activity(task), room.saturating_sub(taken));
        spans.push(Span::styled(activity, look.soft()));
        Line::from(spans)
    }
}

fn task_lines(tasks: &[Running<'_>]) -> usize {
    let begun = tasks.iter().filter(|one| !waits(one)).count();
    begun + usize::from(begun < tasks.len())
}

/// Whether no instance works on it yet.
fn waits(one: &Running<'_>) -> bool {
    one.task.progress.is_none_or(|progress| progress.stage == Stage::Queued)
}
