//! Ends sessions that nobody holds, and says why others wait.

use std::sync::Arc;
use std::time::Duration;

use grange_protocol::view::JobState;
use grange_protocol::{JobId, StepIndex, TaskIndex};

use super::papers::Phase;
use super::{BROKEN_FOR, LOST_AFTER, REMEMBERED_FOR, Session, Sessions, Terms};
use crate::farm::{Farm, FarmHandle};

/// How often it looks, while there are sessions.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) async fn keep(sessions: Arc<Sessions>, farm: FarmHandle) {
    // Those of before a restart.
    let open = farm.look(|farm| {
        let jobs = farm.core.state().jobs.keys();
        let open = jobs.filter(|job| farm.core.job_state(**job).is_some_and(|s| !s.is_final()));
        open.filter_map(|job| Terms::of(farm, *job)).collect::<Vec<_>>()
    });
    for terms in open.await.unwrap_or_default() {
        sessions.adopt(terms);
    }
    loop {
        if sessions.live().is_empty() {
            sessions.woken.notified().await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        if look(&sessions, &farm).await.is_err() {
            return;
        }
    }
}

async fn look(sessions: &Sessions, farm: &FarmHandle) -> Result<(), crate::farm::Stopped> {
    let all = sessions.all();
    let unserved: Vec<JobId> =
        all.iter().filter(|session| is_unserved(session)).map(|one| one.terms.job).collect();
    let states = if unserved.is_empty() {
        Vec::new()
    } else {
        farm.look(move |farm| unserved.into_iter().map(|job| (job, state(farm, job))).collect())
            .await?
    };
    for (job, state) in states {
        if let Some(session) = sessions.get(job) {
            match state {
                State::Open(detail) => session.wait_for(detail),
                State::Over(reason) => drop(session.change(|papers| papers.end(&reason))),
            }
        }
    }
    for session in all {
        if let Some(reason) = session.why_over() {
            session.close(farm, &reason).await;
        }
    }
    sessions.live().retain(|_, session| !session.is_long_over());
    Ok(())
}

/// What its job says.
enum State {
    Open(String),
    Over(String),
}

fn is_unserved(session: &Session) -> bool {
    matches!(session.papers().phase, Phase::Waiting { .. } | Phase::Broken { .. })
}

fn state(farm: &Farm, job: JobId) -> State {
    let Some(view) = farm.job_view(job) else { return State::Over("its job is gone".into()) };
    if !view.state.is_final() {
        let detail = view.reason.unwrap_or_else(|| "it waits for a free instance".into());
        return State::Open(detail);
    }
    let failure = farm
        .task_page(job, (StepIndex(0), TaskIndex(0)), 1)
        .and_then(|tasks| tasks.first()?.failures.last().map(|failure| failure.reason.clone()));
    State::Over(match (view.state, failure) {
        (JobState::Failed, Some(failure)) => failure,
        (JobState::Completed, _) => "the session was closed".into(),
        (_, _) => view.reason.unwrap_or_else(|| "the session was canceled".into()),
    })
}

impl Session {
    fn wait_for(&self, reason: String) {
        let is_news = match &self.papers().phase {
            Phase::Waiting { detail } => *detail != reason,
            _ => false,
        };
        if is_news {
            self.change(|papers| papers.phase = Phase::Waiting { detail: reason });
        }
    }

    /// Why it ends now, if it does.
    fn why_over(&self) -> Option<String> {
        let papers = self.papers();
        match &papers.phase {
            Phase::Ended { .. } => return None,
            Phase::Broken { since } if since.elapsed() >= BROKEN_FOR => {
                return Some("its agent was lost, and the instance with it".into());
            }
            _ => {}
        }
        if papers.listeners == 0 && papers.heard_at.elapsed() >= LOST_AFTER {
            let seconds = LOST_AFTER.as_secs();
            return Some(format!("its client was not heard of for {seconds} seconds"));
        }
        let idle = self.terms.idle;
        let is_idle = papers.open_calls() == 0 && papers.called_at.elapsed() >= idle;
        is_idle.then(|| format!("nothing was asked of it for {} seconds", idle.as_secs()))
    }

    fn is_long_over(&self) -> bool {
        matches!(self.papers().phase, Phase::Ended { at, .. } if at.elapsed() >= REMEMBERED_FOR)
    }
}
