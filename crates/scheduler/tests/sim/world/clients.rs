//! People and programs: they submit, change their minds, ask twice, and never hear an answer when
//! the coordinator dies.

use std::collections::BTreeSet;

use grange_protocol::client::{AgentAction, JobAction, Role};
use grange_protocol::{AgentId, JobId, JobSpec, Millis, RefusalCode};
use grange_scheduler::{Answer, Event, Once, Phase, RequestId, TokenHash};
use uuid::Uuid;

use super::faults::SUBMITTER;
use super::plan::label;
use super::{Ask, Next, World};

/// A client that hears nothing tries again after so long.
const TRY_AGAIN_MS: u64 = 5_000;
/// Jobs that are open at once, for an agent each. A farm that has more gets no new ones for a while.
const OPEN_JOBS: usize = 6;

#[derive(Default)]
pub(super) struct Clients {
    submissions: Vec<Submission>,
    tokens: u64,
    /// Actions that nobody has answered, while all is calm.
    acting: u64,
}

struct Submission {
    spec: JobSpec,
    once: Once,
    is_answered: bool,
}

impl Clients {
    pub(super) fn are_answered(&self) -> bool {
        self.acting == 0 && self.submissions.iter().all(|one| one.is_answered)
    }

    pub(super) fn acted(&mut self) {
        self.acting = self.acting.saturating_sub(1);
    }
}

impl World {
    pub(super) fn deed(&mut self) {
        if self.calm {
            return;
        }
        let pause_ms = self.plan.deed_every_ms;
        let pause_ms = self.random.between(pause_ms / 4, pause_ms * 2);
        self.at(pause_ms, Next::Deed);
        match self.random.below(100) {
            0..50 => self.submit_something(),
            50..80 => self.act_on_something(),
            80..86 => self.ask_twice(),
            86..90 => self.join_somebody(),
            90..94 => self.act_on_some_host(),
            94..96 => self.look_at_the_clock(),
            _ => self.make_and_revoke_tokens(),
        }
    }

    fn submit_something(&mut self) {
        let jobs = &self.coordinator.durable().jobs;
        let open = jobs.values().filter(|job| job.phase == Phase::Open).count();
        if open > OPEN_JOBS + self.hosts.len() {
            return;
        }
        let spec = self.plan.job(&mut self.random);
        if self.random.percent(20) {
            return self.send_submission(Ask::Anonymous, spec, None);
        }
        let once = Once { key: self.random.hash(), body: self.random.hash() };
        let submission = Submission { spec, once, is_answered: false };
        self.clients.submissions.push(submission);
        self.submit_again(self.clients.submissions.len() - 1);
    }

    fn send_submission(&mut self, ask: Ask, spec: JobSpec, once: Option<Once>) {
        // Whatever a client wants, it wants it the same way each time.
        let queue_anyway = matches!(ask, Ask::Submission(_)) || self.random.percent(50);
        let event = Event::Submit {
            request: RequestId(0),
            submitter: label("ada"),
            spec: Box::new(spec),
            queue_anyway,
            tags: BTreeSet::new(),
            once,
        };
        self.ask(20, ask, event);
    }

    pub(super) fn submit_again(&mut self, at: usize) {
        let Some(submission) = self.clients.submissions.get(at) else { return };
        let (spec, once) = (submission.spec.clone(), submission.once);
        self.send_submission(Ask::Submission(at), spec, Some(once));
    }

    pub(super) fn submission_answered(&mut self, at: usize, answer: &Answer) {
        if let Answer::Refused(refusal) = answer
            && refusal.code == RefusalCode::KeyReused
        {
            return;
        }
        if let Some(submission) = self.clients.submissions.get_mut(at) {
            submission.is_answered = true;
        }
    }

    /// The coordinator died with the question. Whoever must know asks again.
    pub(super) fn unanswered(&mut self, ask: &Ask) {
        match ask {
            Ask::Submission(at) => {
                self.count("client: hears nothing and submits again");
                self.at(TRY_AGAIN_MS, Next::ClientTriesAgain { submission: *at });
            }
            Ask::Act { job, action } if self.calm => {
                let (job, action) = (*job, *action);
                self.clients.acted();
                self.act(job, action);
            }
            Ask::ActOnHost { agent, action } if self.calm => {
                let (agent, action) = (*agent, action.clone());
                self.clients.acted();
                self.act_on_host(agent, action);
            }
            _ => {}
        }
    }

    fn act(&mut self, job: JobId, action: JobAction) {
        self.clients.acting += u64::from(self.calm);
        let event = Event::Act { request: RequestId(0), job, action };
        self.ask(20, Ask::Act { job, action }, event);
    }

    fn act_on_something(&mut self) {
        let jobs = self.coordinator.durable().jobs.len() as u64;
        // The latest ones, and sometimes one that does not exist.
        let job = JobId((jobs + 2).saturating_sub(self.random.below(10)) as u32);
        let action = match self.random.below(10) {
            0 => JobAction::Cancel,
            1..3 => JobAction::Pause,
            3..5 => JobAction::Resume,
            5..8 => JobAction::Retry,
            _ => JobAction::SetPriority(label(&self.random.below(101).to_string())),
        };
        self.act(job, action);
    }

    fn act_on_host(&mut self, agent: AgentId, action: AgentAction) {
        self.clients.acting += u64::from(self.calm);
        let event = Event::ActOnAgent { request: RequestId(0), agent, action: action.clone() };
        self.ask(20, Ask::ActOnHost { agent, action }, event);
    }

    fn act_on_some_host(&mut self) {
        let at = self.random.index(self.hosts.len());
        let agent = self.hosts[at].id;
        let action = match self.random.below(10) {
            0..4 => AgentAction::Drain,
            4..8 => AgentAction::Resume,
            8 => AgentAction::Schedule(None),
            _ => AgentAction::Schedule(Some(label("mon-fri 19:00-07:00"))),
        };
        self.count("client: drains a host, resumes it, changes its hours");
        self.act_on_host(agent, action);
    }

    /// Some hosts are to sleep now, if they have hours.
    fn look_at_the_clock(&mut self) {
        self.count("clock: hosts fall asleep and wake up");
        let some = self.random.below(5);
        let asleep = self.hosts.iter().map(|host| host.id);
        let asleep = asleep.filter(|id| id.0.as_u128() as u64 % 5 < some).collect();
        self.ask(20, Ask::Anonymous, Event::Asleep { request: RequestId(0), agents: asleep });
    }

    /// Hosts are members; what their people decide of them outlives everybody.
    pub(super) fn enrol_hosts(&mut self) {
        for at in 0..self.hosts.len() {
            let token = self.new_token();
            let (request, role, expires_at) = (RequestId(0), Role::Agent, Millis(u64::MAX));
            let event = Event::CreateToken { request, token, role, expires_at };
            self.ask(500, Ask::CreateToken, event);
            let identity = self.hosts[at].id;
            let event = Event::Enrol { request, token, identity, name: label("host") };
            self.ask(1_500, Ask::Enrol(token, identity), event);
        }
    }

    /// The same submission again, or another one under the same key.
    fn ask_twice(&mut self) {
        let submissions = self.clients.submissions.len();
        if submissions == 0 {
            return;
        }
        let at = self.random.index(submissions);
        if self.random.percent(50) {
            self.count("client: submits again what was answered");
            return self.submit_again(at);
        }
        self.count("client: another submission under a used key");
        let once = Once { body: self.random.hash(), ..self.clients.submissions[at].once };
        if !self.clients.submissions[at].is_answered {
            return;
        }
        let spec = self.plan.job(&mut self.random);
        self.send_submission(Ask::Anonymous, spec, Some(once));
    }

    /// A token is made and used, sometimes twice.
    fn join_somebody(&mut self) {
        let token = self.new_token();
        let expires_at = self.token_end();
        let role = Role::Agent;
        let event = Event::CreateToken { request: RequestId(0), token, role, expires_at };
        self.ask(20, Ask::CreateToken, event);
        let times = self.random.between(1, 2);
        for again in 0..times {
            // Nobody whose host is part of the farm: whether that is enrolled changes nothing.
            let identity =
                AgentId(Uuid::from_u128(SUBMITTER + 1 + u128::from(self.clients.tokens)));
            let event =
                Event::Enrol { request: RequestId(0), token, identity, name: label("newcomer") };
            let delay_ms = 1_000 + again * self.random.magnitude(1, 20_000);
            self.ask(delay_ms, Ask::Enrol(token, identity), event);
        }
    }

    fn make_and_revoke_tokens(&mut self) {
        let name: grange_protocol::shot::Label = label(&format!("token{}", self.random.below(5)));
        if self.random.percent(40) {
            let event = Event::RevokeApiToken { request: RequestId(0), name: name.clone() };
            return self.ask(20, Ask::RevokeApiToken(name), event);
        }
        let (token, role, expires_at) = (self.new_token(), Role::Submitter, self.token_end());
        let ask = Ask::CreateApiToken(token, name.clone());
        let event = Event::CreateApiToken { request: RequestId(0), token, name, role, expires_at };
        self.ask(20, ask, event);
    }

    fn new_token(&mut self) -> TokenHash {
        self.clients.tokens += 1;
        TokenHash::of(&u128::from(self.clients.tokens).to_le_bytes())
    }

    /// Some are short-lived.
    fn token_end(&mut self) -> Millis {
        let life_ms = self.random.magnitude(1_000, 100_000_000);
        self.coordinator.durable().at + life_ms
    }

    /// The submitter that tries to commit outputs.
    pub(super) fn enrol_the_submitter(&mut self) {
        let token = self.new_token();
        let (request, role) = (RequestId(0), Role::Submitter);
        let expires_at = Millis(u64::MAX);
        let event = Event::CreateToken { request, token, role, expires_at };
        self.ask(1_000, Ask::CreateToken, event);
        let identity = AgentId(Uuid::from_u128(SUBMITTER));
        let event = Event::Enrol { request, token, identity, name: label("ada") };
        self.ask(2_000, Ask::Enrol(token, identity), event);
    }

    /// Half of the paused jobs go on; the others stay as they are.
    pub(super) fn finish_what_clients_began(&mut self) {
        let jobs = &self.coordinator.durable().jobs;
        let paused: Vec<JobId> = (jobs.iter())
            .filter(|(id, job)| job.phase == Phase::Paused && id.0 % 2 == 0)
            .map(|(id, _)| *id)
            .collect();
        for job in paused {
            self.act(job, JobAction::Resume);
        }
        let nobody = Event::Asleep { request: RequestId(0), agents: BTreeSet::new() };
        self.ask(20, Ask::Anonymous, nobody);
        let agents: Vec<AgentId> = self.hosts.iter().map(|host| host.id).collect();
        for agent in agents {
            self.act_on_host(agent, AgentAction::Resume);
        }
    }
}
