//! What people decide of agents: who gets no tasks, or only some, or is no member any more.

use std::collections::BTreeSet;

use grange_protocol::client::{AgentAction, Role};
use grange_protocol::shot::Label;
use grange_protocol::{AgentId, JobId, Refusal, RefusalCode, Schedule};
use serde::{Deserialize, Serialize};

use crate::agent::{Agent, Connection, Lack};
use crate::command::{Answer, Command};
use crate::core::Core;
use crate::event::RequestId;
use crate::fact::Fact;
use crate::token::Identity;

/// Tags that an agent may have, or a job ask for.
const TAGS_MAX: usize = 32;

/// What was decided of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// It gets no tasks until it is resumed.
    pub is_drained: bool,
    pub tags: BTreeSet<Label>,
    /// When it takes tasks; `None`: always.
    pub schedule: Option<Schedule>,
    /// It is no member any more. What it did keeps its name.
    pub is_removed: bool,
}

/// Whether an agent that is there gets tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Duty {
    #[default]
    On,
    /// Somebody drained it.
    Drained,
    /// Its schedule says no.
    Asleep,
}

impl Standing {
    pub(crate) fn removed() -> Self {
        Self { is_removed: true, ..Self::default() }
    }
}

impl Core {
    /// What was decided of an agent.
    pub fn standing(&self, agent: AgentId) -> Standing {
        self.state.standings.get(&agent).cloned().unwrap_or_default()
    }

    /// Whether somebody with that role is a member now.
    pub fn is_member(&self, id: AgentId, role: Role) -> bool {
        !self.is_removed(id)
            && self.state.identities.get(&id).is_some_and(|identity| identity.role == role)
    }

    /// Everybody who is a member now.
    pub fn members(&self) -> impl Iterator<Item = (AgentId, &Identity)> {
        let identities = self.state.identities.iter().map(|(id, identity)| (*id, identity));
        identities.filter(|(id, _)| !self.is_removed(*id))
    }

    /// Whether somebody who has joined is no member any more.
    pub(crate) fn is_removed(&self, id: AgentId) -> bool {
        self.state.standings.get(&id).is_some_and(|standing| standing.is_removed)
    }

    /// Agents that have a schedule, for those who look at the clock.
    pub fn schedules(&self) -> impl Iterator<Item = (AgentId, &Schedule)> {
        self.state.standings.iter().filter_map(|(id, standing)| {
            let schedule = standing.schedule.as_ref()?;
            Some((*id, schedule))
        })
    }

    /// Agents that get no tasks at this time of the week, as it was told last.
    pub fn asleep(&self) -> &BTreeSet<AgentId> {
        &self.asleep
    }

    pub(crate) fn act_on_agent(&mut self, request: RequestId, id: AgentId, action: AgentAction) {
        let answer = match self.try_act_on_agent(id, action) {
            Ok(()) => Answer::Done,
            Err(refusal) => Answer::Refused(refusal),
        };
        self.answer(request, answer);
    }

    pub(crate) fn remove_member(&mut self, request: RequestId, id: AgentId) {
        let answer = match self.try_remove_member(id) {
            Ok(()) => Answer::Done,
            Err(refusal) => Answer::Refused(refusal),
        };
        self.answer(request, answer);
    }

    fn try_remove_member(&mut self, id: AgentId) -> Result<(), Refusal> {
        let Some((_, member)) = self.members().find(|(known, _)| *known == id) else {
            let message =
                format!("there is no member {id}: `grange member list` lists those of this farm");
            return Err(Refusal::new(RefusalCode::NotFound, message));
        };
        let is_admin = |(_, member): &(AgentId, &Identity)| member.role == Role::Admin;
        if member.role == Role::Admin && self.members().filter(is_admin).count() == 1 {
            let message = format!(
                "{} is the only admin of this farm: let another one join before, with `grange token \
                 create --role admin`",
                member.name
            );
            return Err(Refusal::new(RefusalCode::Invalid, message));
        }
        self.record(Fact::AgentRemoved(id));
        self.dismiss(id);
        Ok(())
    }

    fn try_act_on_agent(&mut self, id: AgentId, action: AgentAction) -> Result<(), Refusal> {
        if !self.is_member(id, Role::Agent) {
            let message =
                format!("there is no agent {id}: `grange agents` lists the agents of this farm");
            return Err(Refusal::new(RefusalCode::NotFound, message));
        }
        let before = self.standing(id);
        match action {
            AgentAction::Drain if !before.is_drained => {
                self.record(Fact::AgentDrained { agent: id, drained: true });
            }
            AgentAction::Resume if before.is_drained => {
                self.record(Fact::AgentDrained { agent: id, drained: false });
            }
            AgentAction::Drain | AgentAction::Resume => {}
            AgentAction::Remove => {
                return self.try_remove_member(id);
            }
            AgentAction::Tag(tags) => {
                check_tags(&tags)?;
                if tags != before.tags {
                    self.record(Fact::AgentTagged { agent: id, tags });
                }
            }
            AgentAction::Schedule(schedule) => {
                if schedule != before.schedule {
                    self.record(Fact::AgentScheduled { agent: id, schedule });
                }
            }
        }
        self.take_standing(id);
        self.open_jobs_changed();
        Ok(())
    }

    /// The clock has been looked at: these agents shall get no tasks now.
    pub(crate) fn put_to_sleep(&mut self, asleep: BTreeSet<AgentId>) {
        let changed: Vec<AgentId> = self.asleep.symmetric_difference(&asleep).copied().collect();
        self.asleep = asleep;
        for agent in &changed {
            self.take_standing(*agent);
        }
        if !changed.is_empty() {
            self.open_jobs_changed();
        }
    }

    /// Brings what the core knows of an agent in line with what was decided of it.
    pub(crate) fn take_standing(&mut self, id: AgentId) {
        let standing = self.standing(id);
        let asleep = self.asleep.contains(&id) && standing.schedule.is_some();
        let Some(agent) = self.agents.get_mut(&id) else { return };
        agent.duty = match (standing.is_drained, asleep) {
            (true, _) => Duty::Drained,
            (false, true) => Duty::Asleep,
            (false, false) => Duty::On,
        };
        agent.tags = standing.tags;
        if agent.duty != Duty::On {
            let held: Vec<_> = agent.held().collect();
            for lease in held {
                self.recall(lease);
            }
        }
        self.file(id);
        self.agent_changed(id);
    }

    /// Why they wait may be another reason now.
    fn open_jobs_changed(&mut self) {
        let open: Vec<JobId> = self.live.keys().copied().collect();
        for job in open {
            self.job_changed(job);
        }
    }

    /// Forgets an agent: what it holds goes to others.
    fn dismiss(&mut self, id: AgentId) {
        let Some(agent) = self.agents.get(&id) else { return };
        if let Connection::Lost { expires_at } = agent.connection {
            self.expiries.remove(&(expires_at, id));
        }
        let held: Vec<_> = agent.held().collect();
        for lease in held {
            self.release(lease);
        }
        if let Some(agent) = self.agents.remove(&id) {
            self.unfile(id, &agent.filed);
        }
        self.command(Command::Dismiss { agent: id });
        self.agent_changed(id);
    }

    /// Whether an agent has what people asked for with the job.
    pub(crate) fn has_tags(&self, agent: &Agent, job: JobId) -> bool {
        self.state.tags.get(&job).is_none_or(|tags| tags.is_subset(&agent.tags))
    }
}

pub(crate) fn check_tags(tags: &BTreeSet<Label>) -> Result<(), Refusal> {
    let problem = if tags.len() > TAGS_MAX {
        format!("{} tags are more than {TAGS_MAX}", tags.len())
    } else if tags.iter().any(|tag| tag.as_str().trim().is_empty()) {
        "a tag has at least one letter".to_owned()
    } else {
        return Ok(());
    };
    Err(Refusal::new(RefusalCode::Invalid, problem))
}

/// Why a job waits that asks for tags which nobody has.
pub(crate) fn lacks_tags(tags: &BTreeSet<Label>) -> String {
    let all = if tags.len() == 1 { "the tag" } else { "all of the tags" };
    let tags = listed(tags, ", ");
    format!("no agent that is online has {all} {tags}: `grange agent tag` gives an agent tags")
}

/// What the agents lack that have the tags.
pub(crate) fn lack_of_tagged(tags: &BTreeSet<Label>, lack: &Lack) -> String {
    let word = match tags.len() {
        0 => return lack.to_string(),
        1 => "tag",
        _ => "tags",
    };
    format!("{lack}; only agents with the {word} {} count", listed(tags, " and "))
}

fn listed(tags: &BTreeSet<Label>, between: &str) -> String {
    tags.iter().map(Label::as_str).collect::<Vec<_>>().join(between)
}
