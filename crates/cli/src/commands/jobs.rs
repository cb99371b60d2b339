//! Looking at jobs, and acting on them.

use grange_protocol::client::{JobAction, LogsQuery};
use grange_protocol::{JobId, StepIndex, TaskIndex};

use super::Session;
use crate::args::Logs;
use crate::exit::Ending;
use crate::print;

pub(super) async fn list(session: &Session) -> anyhow::Result<Ending> {
    let farm = session.farm().await?;
    let jobs = farm.jobs().await?;
    if session.json {
        print::json(&jobs);
    } else {
        print::jobs(&jobs);
        print::storage(&farm.farm().await?);
    }
    Ok(Ending::Done)
}

pub(super) async fn show(session: &Session, job: JobId) -> anyhow::Result<Ending> {
    let farm = session.farm().await?;
    let detail = farm.job(job).await?;
    if session.json {
        print::json(&detail);
    } else {
        print::job(&detail, &farm.agents().await?);
    }
    Ok(Ending::Done)
}

/// Acts on every job, also if one of them refuses.
pub(super) async fn act(
    session: &Session,
    jobs: &[u32],
    action: JobAction,
) -> anyhow::Result<Ending> {
    let farm = session.farm().await?;
    let mut ending = Ending::Done;
    for job in jobs.iter().copied().map(JobId) {
        match farm.act(job, action).await {
            // There is nothing left to show.
            Ok(()) if action == JobAction::Delete && session.json => {
                print::json(&serde_json::json!({ "job": job, "deleted": true }));
            }
            Ok(()) if action == JobAction::Delete => print::line(&format!("job {job}: deleted")),
            Ok(()) => {
                let job = farm.job(job).await?.job;
                if session.json {
                    print::json(&job);
                } else {
                    print::line(&print::acted(&job));
                }
            }
            Err(error) if jobs.len() > 1 => {
                print::note(&format!("job {job}: {error}"));
                ending = Ending::NotDone;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ending)
}

pub(super) async fn logs(session: &Session, args: Logs) -> anyhow::Result<Ending> {
    let farm = session.farm().await?;
    let mut query = LogsQuery {
        job: JobId(args.job),
        task: args.task.map(|(step, task)| (StepIndex(step), TaskIndex(task))),
        failed_only: args.failed,
        before: 0,
    };
    let mut logs = Vec::new();
    loop {
        let page = farm.logs(query).await?;
        logs.extend(page.rows);
        match page.next {
            Some(before) => query.before = before,
            None => break,
        }
    }
    // Asked for from the latest on; read from the earliest on.
    logs.reverse();
    if logs.is_empty() && !session.json {
        print::note("nothing was printed yet: logs arrive when an attempt ends");
    }
    for log in &logs {
        if session.json {
            print::json(log);
        } else {
            print::log(log);
        }
    }
    Ok(Ending::Done)
}
