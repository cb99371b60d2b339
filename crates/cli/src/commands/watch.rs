//! Jobs as they happen, and their frames.

use grange_client::{Farm, Folder};
use grange_protocol::JobId;
use grange_protocol::client::{OutputsQuery, WatchRequest};
use grange_protocol::view::{JobState, WatchEvent};
use indicatif::DecimalBytes;

use super::Session;
use crate::args::Fetch;
use crate::display::Display;
use crate::exit::Ending;
use crate::follow::{Follow, save};
use crate::news::News;
use crate::print;

pub(super) async fn watch(session: &Session, job: Option<JobId>) -> anyhow::Result<Ending> {
    let farm = session.farm().await?;
    match job {
        Some(job) => follow(session, farm, job, None).await,
        None => watch_farm(session, &farm).await,
    }
}

/// Follows a job to its end, saving its outputs if there is a folder.
pub(super) async fn follow(
    session: &Session,
    farm: Farm,
    job: JobId,
    folder: Option<Folder>,
) -> anyhow::Result<Ending> {
    let mut display = Display::new(session.json);
    let mut follow = Follow::new(farm, job, folder);
    let ended = follow.until_the_end(&mut display).await;
    display.finish();
    let ended = ended?;
    if !session.json {
        let reason = ended.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
        print::note(&format!("job {job} {} · {}{reason}", ended.state, print::summary(&ended)));
    }
    Ok(if ended.state == JobState::Completed { Ending::Done } else { Ending::NotDone })
}

async fn watch_farm(session: &Session, farm: &Farm) -> anyhow::Result<Ending> {
    let mut watch = farm.watch(WatchRequest::Farm).await?;
    let mut news = News::default();
    while let Some(event) = watch.next().await? {
        match event {
            event if session.json => print::json(&event),
            WatchEvent::Farm(farm) => print::line(&print::farm(&farm)),
            WatchEvent::Job(job) => {
                print::line(&format!(
                    "job {} {} {}: {}",
                    job.id,
                    job.name,
                    job.state,
                    print::summary(&job)
                ));
            }
            WatchEvent::Agent(agent) => news.of(&agent).iter().for_each(|line| print::line(line)),
            _ => {}
        }
    }
    Ok(Ending::Done)
}

pub(super) async fn fetch(session: &Session, args: Fetch) -> anyhow::Result<Ending> {
    let farm = session.farm().await?;
    let job = JobId(args.job);
    let folder = Folder::open(&args.output)?;
    if args.wait {
        return follow(session, farm, job, Some(folder)).await;
    }
    let (mut files, mut bytes, mut after) = (0u64, 0, Some(0));
    while let Some(cursor) = after {
        let page = farm.outputs(OutputsQuery { job, step: None, after: cursor }).await?;
        for row in &page.rows {
            save(&farm, &folder, &row.output).await?;
            let path = folder.path().join(row.output.name.as_str());
            if session.json {
                print::json(&serde_json::json!({ "saved": path }));
            }
            files += 1;
            bytes += row.output.blob.len;
        }
        after = page.next;
    }
    let state = farm.job(job).await?.job.state;
    if !session.json {
        let more =
            if state.is_final() { "" } else { "; the job goes on: fetch again, or with --wait" };
        print::line(&format!(
            "{files} files ({}) in {}{more}",
            DecimalBytes(bytes),
            folder.path().display()
        ));
    }
    Ok(Ending::Done)
}
