//! What `grange top` knows of the farm, and what somebody is doing with it. Pure: news and actions in,
//! state and requests out. It knows no terminal, no clock and no connection.

use std::collections::BTreeMap;

use grange_protocol::agent::Stage;
use grange_protocol::client::JobAction;
use grange_protocol::footprint::Decision;
use grange_protocol::shot::Label;
use grange_protocol::view::{
    AgentState, AgentView, DecisionView, FarmView, JobState, JobView, TaskState, TaskView,
    WatchEvent,
};
use grange_protocol::{AgentId, JobId, Millis, Priority};

use super::keys::{Action, Move};

/// Jobs of which it is asked what runs: each costs an answer of up to a thousand tasks.
pub(crate) const ASKED_MAX: usize = 12;
/// How far one press moves a priority, of 0 to 100.
const PRIORITY_STEP: i16 = 5;
const FILTER_MAX: usize = 60;

/// Something that has come to be known.
#[derive(Debug)]
pub(crate) enum News {
    /// A watch begins: the present state comes first, then `CaughtUp`.
    Begins,
    Event(WatchEvent),
    /// The farm cannot be heard any more, since when and why.
    Away(Millis, String),
    Asked(Asked),
    /// What came of an action on a job.
    Acted(JobId, Result<JobView, String>),
}

/// What events of the farm do not tell, and is asked for.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) tasks: Vec<(JobId, Vec<TaskView>)>,
    pub(crate) decisions: Vec<DecisionView>,
}

/// What somebody wants done who has pressed a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Leave,
    Act(JobId, JobAction),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Nothing has been told yet.
    Reading,
    Live,
    Away {
        since: Millis,
        why: String,
    },
}

/// What the keys are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Looking,
    Filtering,
    /// It is asked whether this job is really to be canceled.
    Canceling(JobId),
    Help,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pane {
    Jobs,
    Agents,
}

/// Said below the panes until the next key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Said(String),
    Refused(String),
}

/// What of the model was on the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Lines for jobs, and for agents.
    pub(crate) jobs: usize,
    pub(crate) agents: usize,
    /// The first line of the agents.
    pub(crate) agents_from: usize,
}

/// A task that runs, and whose.
pub(crate) struct Running<'a> {
    pub(crate) job: &'a JobView,
    pub(crate) task: &'a TaskView,
}

pub(crate) struct Model {
    pub(crate) farm: FarmView,
    pub(crate) link: Link,
    pub(crate) mode: Mode,
    pub(crate) pane: Pane,
    pub(crate) filter: String,
    pub(crate) notice: Option<Notice>,
    /// The first line of the agents that is wanted.
    pub(crate) agents_from: usize,
    known: Known,
    /// What a watch has told that is not caught up: until then what was known before is better.
    beginning: Option<Known>,
    /// What was asked, by agent and by its devices.
    tasks: BTreeMap<Label, Vec<(JobId, TaskView)>>,
    decisions: BTreeMap<(Label, u16), Decision>,
    /// The order of jobs on the screen: keys mean what somebody sees.
    rows: Vec<JobId>,
    /// Jobs whose tasks are worth asking for, and how many there are in all.
    asking: (Vec<JobId>, usize),
    selected: Option<JobId>,
    shown: Shown,
    /// The priority that was asked for last, while the farm has not answered all that was asked.
    priority: Option<(JobId, Priority)>,
    unanswered: usize,
}

#[derive(Default)]
struct Known {
    jobs: BTreeMap<JobId, JobView>,
    agents: BTreeMap<AgentId, AgentView>,
}

impl Model {
    pub(crate) fn new(farm: FarmView) -> Self {
        Self {
            farm,
            link: Link::Reading,
            mode: Mode::Looking,
            pane: Pane::Jobs,
            filter: String::new(),
            notice: None,
            agents_from: 0,
            known: Known::default(),
            beginning: None,
            tasks: BTreeMap::new(),
            decisions: BTreeMap::new(),
            rows: Vec::new(),
            asking: (Vec::new(), 0),
            selected: None,
            shown: Shown::default(),
            priority: None,
            unanswered: 0,
        }
    }

    pub(crate) fn hear(&mut self, news: News) {
        match news {
            News::Begins | News::Event(WatchEvent::Anew) => self.beginning = Some(Known::default()),
            News::Event(WatchEvent::CaughtUp) => {
                if let Some(known) = self.beginning.take() {
                    self.known = known;
                }
                self.link = Link::Live;
            }
            News::Event(WatchEvent::Farm(farm)) => self.farm = farm,
            News::Event(WatchEvent::Job(job)) => {
                self.latest().jobs.insert(job.id, job);
            }
            News::Event(WatchEvent::Agent(agent)) => {
                self.latest().agents.insert(agent.id, agent);
            }
            News::Event(WatchEvent::JobGone(job)) => {
                self.latest().jobs.remove(&job);
            }
            News::Event(WatchEvent::AgentGone(agent)) => {
                self.latest().agents.remove(&agent);
            }
            News::Event(
                WatchEvent::Task { .. }
                | WatchEvent::States { .. }
                | WatchEvent::Output { .. }
                | WatchEvent::Happened(_),
            ) => {}
            News::Away(since, why) => {
                self.beginning = None;
                // Since it was heard last, however often it was called in vain.
                match &mut self.link {
                    Link::Away { why: before, .. } => *before = why,
                    link => *link = Link::Away { since, why },
                }
            }
            News::Asked(asked) => self.take(asked),
            News::Acted(job, outcome) => self.acted(job, outcome),
        }
    }

    /// Puts the jobs in order, as the next picture shows them. An order of its own rather than one
    /// after each event, because events may be many and pictures are few.
    pub(crate) fn arrange(&mut self) {
        let words: Vec<String> =
            self.filter.to_lowercase().split_whitespace().map(str::to_owned).collect();
        let mut rows: Vec<&JobView> =
            self.known.jobs.values().filter(|job| is_like(job, &words)).collect();
        rows.sort_by_key(|job| place(job));
        self.rows = rows.into_iter().map(|job| job.id).collect();
        if self.selected.is_none_or(|job| !self.rows.contains(&job)) {
            self.selected = self.rows.first().copied();
        }
        let mut running: Vec<&JobView> =
            self.known.jobs.values().filter(|job| job.progress.tasks.running > 0).collect();
        running.sort_by_key(|job| (Some(job.id) != self.selected, place(job)));
        let asking = running.iter().take(ASKED_MAX).map(|job| job.id).collect();
        self.asking = (asking, running.len());
    }

    /// Remembers what was on the screen.
    pub(crate) fn shown(&mut self, shown: Shown) {
        self.shown = shown;
        self.agents_from = shown.agents_from;
    }

    /// Does what a key asks for, as far as it concerns nobody else.
    pub(crate) fn press(&mut self, action: Action) -> Option<Request> {
        self.notice = None;
        match action {
            Action::Leave => return Some(Request::Leave),
            Action::Back => return self.back(),
            Action::Help => self.mode = Mode::Help,
            Action::OtherPane => {
                self.pane = match self.pane {
                    Pane::Jobs => Pane::Agents,
                    Pane::Agents => Pane::Jobs,
                }
            }
            Action::Move(to) => self.go(to),
            Action::Filter => {
                (self.mode, self.pane) = (Mode::Filtering, Pane::Jobs);
            }
            Action::Type(letter) => {
                if self.filter.chars().count() < FILTER_MAX {
                    self.filter.push(letter);
                    // At once, for whoever types on: the next key is for a job that is found.
                    self.arrange();
                }
            }
            Action::Erase => {
                self.filter.pop();
                self.arrange();
            }
            Action::EraseAll => {
                self.filter.clear();
                self.arrange();
            }
            Action::EndFilter => self.mode = Mode::Looking,
            Action::Confirm => {
                if let Mode::Canceling(job) = self.mode {
                    self.mode = Mode::Looking;
                    return self.ask(job, JobAction::Cancel);
                }
            }
            Action::PauseOrResume | Action::Cancel | Action::Retry | Action::Priority(_) => {
                return self.on_selected(action);
            }
        }
        None
    }

    /// Jobs as they are shown.
    pub(crate) fn rows(&self) -> impl ExactSizeIterator<Item = Option<&JobView>> {
        self.rows.iter().map(|job| self.known.jobs.get(job))
    }

    pub(crate) fn selected(&self) -> Option<&JobView> {
        self.known.jobs.get(&self.selected?)
    }

    /// The selected job's place among the rows.
    pub(crate) fn selected_row(&self) -> Option<usize> {
        self.rows.iter().position(|job| Some(*job) == self.selected)
    }

    pub(crate) fn job(&self, job: JobId) -> Option<&JobView> {
        self.known.jobs.get(&job)
    }

    pub(crate) fn jobs_count(&self) -> usize {
        self.known.jobs.len()
    }

    /// Agents as they are shown: those that render first.
    pub(crate) fn agents(&self) -> Vec<&AgentView> {
        let mut agents: Vec<&AgentView> = self.known.agents.values().collect();
        agents.sort_by_key(|agent| (closeness(agent.state), agent.name.as_str()));
        agents
    }

    /// What each device of an agent works on: what renders first, what waits for an instance last.
    pub(crate) fn running_on(&self, agent: &AgentView) -> Vec<Vec<Running<'_>>> {
        let mut devices: Vec<Vec<Running<'_>>> = agent.devices.iter().map(|_| Vec::new()).collect();
        for (job, task) in self.tasks.get(&agent.name).into_iter().flatten() {
            // What was asked may be older than what was told.
            let job = self.known.jobs.get(job).filter(|job| job.progress.tasks.running > 0);
            let device = task.device.and_then(|at| devices.get_mut(usize::from(at)));
            if let (Some(job), Some(device)) = (job, device) {
                device.push(Running { job, task });
            }
        }
        for running in &mut devices {
            running.sort_by_key(|Running { job, task }| {
                (nearness(task.progress.map(|at| at.stage)), job.id, task.step, task.task)
            });
        }
        devices
    }

    /// The latest decision about a device.
    pub(crate) fn decision(&self, agent: &AgentView, device: usize) -> Option<&Decision> {
        let device = u16::try_from(device).ok()?;
        self.decisions.get(&(agent.name.clone(), device))
    }

    /// Jobs whose tasks are worth asking for, those that matter most first, and how many jobs have
    /// some.
    pub(crate) fn worth_asking(&self) -> (&[JobId], usize) {
        (&self.asking.0, self.asking.1)
    }

    fn take(&mut self, asked: Asked) {
        self.tasks.clear();
        for (job, tasks) in asked.tasks {
            for task in tasks.into_iter().filter(|task| task.state == TaskState::Running) {
                if let Some(agent) = task.agent.clone() {
                    self.tasks.entry(agent).or_default().push((job, task));
                }
            }
        }
        // Each agent's are told in the order in which they were made.
        self.decisions = asked
            .decisions
            .into_iter()
            .map(|one| ((one.agent, one.decision.device), one.decision))
            .collect();
    }

    fn latest(&mut self) -> &mut Known {
        self.beginning.as_mut().unwrap_or(&mut self.known)
    }

    fn acted(&mut self, job: JobId, outcome: Result<JobView, String>) {
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.unanswered == 0 {
            self.priority = None;
        }
        self.notice = Some(match outcome {
            Ok(view) => {
                let said = crate::print::acted(&view);
                self.latest().jobs.insert(job, view);
                Notice::Said(said)
            }
            Err(why) => Notice::Refused(format!("job {job}: {why}")),
        });
    }

    fn back(&mut self) -> Option<Request> {
        match self.mode {
            Mode::Looking if self.filter.is_empty() => return Some(Request::Leave),
            Mode::Looking | Mode::Filtering => self.filter.clear(),
            Mode::Canceling(job) => {
                self.notice = Some(Notice::Said(format!("job {job} goes on")));
            }
            Mode::Help => {}
        }
        self.mode = Mode::Looking;
        None
    }

    fn go(&mut self, to: Move) {
        match self.pane {
            Pane::Jobs => {
                let Some(last) = self.rows.len().checked_sub(1) else { return };
                let at = self.selected_row().unwrap_or(0);
                self.selected = Some(self.rows[moved(at, to, self.shown.jobs).min(last)]);
            }
            // How far it can go is known when it is drawn.
            Pane::Agents => {
                self.agents_from = moved(self.agents_from, to, self.shown.agents);
            }
        }
    }

    fn on_selected(&mut self, action: Action) -> Option<Request> {
        let Some(job) = self.selected() else {
            self.notice = Some(Notice::Refused("there is no job to do that with".into()));
            return None;
        };
        let id = job.id;
        let ended = job.state.is_final();
        let wanted = match action {
            Action::PauseOrResume if ended => Err("to pause"),
            Action::Cancel if ended => Err("to cancel"),
            Action::PauseOrResume if job.state == JobState::Paused => Ok(JobAction::Resume),
            Action::PauseOrResume => Ok(JobAction::Pause),
            Action::Retry => Ok(JobAction::Retry),
            Action::Priority(steps) => {
                let asked = self.priority.filter(|(of, _)| *of == id);
                let now = asked.map_or(job.priority, |(_, priority)| priority);
                let priority = stepped(now, steps);
                Ok(JobAction::SetPriority(priority))
            }
            _ => {
                self.mode = Mode::Canceling(id);
                return None;
            }
        };
        match wanted {
            Ok(action) => self.ask(id, action),
            Err(what) => {
                let why = format!("job {id} is {}: there is nothing {what}", job.state);
                self.notice = Some(Notice::Refused(why));
                None
            }
        }
    }

    fn ask(&mut self, job: JobId, action: JobAction) -> Option<Request> {
        if self.link != Link::Live {
            let why = "the farm is not connected: try again when it is";
            self.notice = Some(Notice::Refused(why.into()));
            return None;
        }
        if let JobAction::SetPriority(priority) = action {
            self.priority = Some((job, priority));
        }
        self.unanswered += 1;
        Some(Request::Act(job, action))
    }
}

/// Whether all words are of the job. `#12` is job 12 and no other.
fn is_like(job: &JobView, words: &[String]) -> bool {
    if words.is_empty() {
        return true;
    }
    let kept = if job.kept { "kept" } else { "" };
    let tags = crate::print::tags(&job.tags);
    let JobView { id, name, submitter, kind, state, .. } = job;
    let text = format!("{id} {name} {submitter} {kind} {state} {kept} {tags}");
    let (text, number) = (text.to_lowercase(), format!("#{}", job.id));
    words.iter().all(|word| *word == number || text.contains(word))
}

/// Jobs that render, then those that could, then those that have ended, the latest first.
fn place(job: &JobView) -> (u8, std::cmp::Reverse<u64>, JobId) {
    let urgency = std::cmp::Reverse(job.priority.get().into());
    match job.state {
        JobState::Active => (0, urgency, job.id),
        JobState::Queued => (1, urgency, job.id),
        JobState::Paused => (2, urgency, job.id),
        JobState::Completed | JobState::Canceled | JobState::Failed => {
            let ended_at = job.ended_at.unwrap_or(job.submitted_at);
            (3, std::cmp::Reverse(ended_at.0), job.id)
        }
    }
}

fn closeness(state: AgentState) -> u8 {
    match state {
        AgentState::Online => 0,
        AgentState::Draining => 1,
        AgentState::Asleep => 2,
        AgentState::Offline => 3,
    }
}

fn nearness(stage: Option<Stage>) -> u8 {
    match stage {
        Some(Stage::Rendering | Stage::Serving) => 0,
        Some(Stage::Uploading) => 1,
        Some(Stage::Loading) => 2,
        Some(Stage::Fetching) => 3,
        Some(Stage::Queued) => 4,
        None => 5,
    }
}

fn moved(at: usize, to: Move, page: usize) -> usize {
    match to {
        Move::Up => at.saturating_sub(1),
        Move::Down => at.saturating_add(1),
        Move::PageUp => at.saturating_sub(page.max(1)),
        Move::PageDown => at.saturating_add(page.max(1)),
        Move::First => 0,
        Move::Last => usize::MAX,
    }
}

fn stepped(priority: Priority, steps: i8) -> Priority {
    let wanted = i16::from(priority.get()) + i16::from(steps) * PRIORITY_STEP;
    let value = u8::try_from(wanted.clamp(0, Priority::MAX.into())).unwrap_or(Priority::MAX);
    Priority::new(value).unwrap_or(priority)
}

#[cfg(test)]
mod tests;
