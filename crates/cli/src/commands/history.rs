//! What happened lately, and what happens now.

use std::time::Duration;

use grange_client::{ClientError, Farm, MayBeLost};
use grange_protocol::client::{HistoryQuery, WatchRequest};
use grange_protocol::history::{About, HistoryView};
use grange_protocol::limits::PAGE_ROWS_MAX;
use grange_protocol::view::WatchEvent;
use grange_protocol::{AgentId, JobId, Refusal, RefusalCode};

use super::Session;
use super::agents::named;
use crate::args::History;
use crate::exit::Ending;
use crate::print;

pub(super) async fn run(session: &Session, args: History) -> anyhow::Result<Ending> {
    let farm = session.farm().await?;
    let agent = match &args.agent {
        Some(name) => Some(meant(&farm, name).await?),
        None => None,
    };
    let about = match (args.jobs, args.agents, args.farm) {
        (true, ..) => Some(About::Jobs),
        (_, true, _) => Some(About::Agents),
        (.., true) => Some(About::Farm),
        _ => None,
    };
    let wanted = HistoryQuery { about, job: args.job.map(JobId), agent, before: 0, limit: 0 };
    let mut reader = Reader { json: session.json, wanted, latest: 0 };
    if args.follow {
        return reader.follow(farm, args.limit as usize).await;
    }
    if reader.tell(&farm, args.limit as usize).await? == 0 && !session.json {
        print::note("nothing of that has happened lately");
    }
    Ok(Ending::Done)
}

/// By its name, or by the id of one that may be gone.
async fn meant(farm: &Farm, name: &str) -> anyhow::Result<AgentId> {
    match name.parse() {
        Ok(id) => Ok(id),
        Err(_) => named(&farm.agents().await?, name),
    }
}

struct Reader {
    json: bool,
    wanted: HistoryQuery,
    /// Up to this cursor all that is wanted was told.
    latest: u64,
}

impl Reader {
    /// Tells what happened since it told something last, the latest events of it and those in their
    /// order. Returns how many.
    async fn tell(&mut self, farm: &Farm, most: usize) -> Result<usize, ClientError> {
        let mut events: Vec<HistoryView> = Vec::new();
        let mut before = Some(0);
        while let Some(cursor) = before
            && events.len() < most
        {
            let limit = u32::try_from(most - events.len()).unwrap_or(u32::MAX).min(PAGE_ROWS_MAX);
            let page = farm.history(HistoryQuery { before: cursor, limit, ..self.wanted }).await?;
            let is_known = page.rows.iter().any(|event| event.cursor <= self.latest);
            events.extend(page.rows.into_iter().filter(|event| event.cursor > self.latest));
            before = page.next.filter(|_| !is_known);
        }
        events.iter().rev().for_each(|event| self.tell_one(event));
        Ok(events.len())
    }

    fn tell_one(&mut self, event: &HistoryView) {
        self.latest = event.cursor;
        if self.json {
            print::json(event);
        } else {
            print::line(&print::happened(event));
        }
    }

    /// Until somebody ends it. While the farm is away it is called, and what happened meanwhile is told.
    async fn follow(&mut self, mut farm: Farm, first: usize) -> anyhow::Result<Ending> {
        let mut most = first;
        loop {
            match self.listen(&farm, most).await {
                Err(error) if !is_a_while(&error) => return Err(error.into()),
                Ok(()) | Err(_) => farm.find_again(Duration::MAX).await?,
            }
            if self.latest > 0 {
                most = usize::MAX;
            }
        }
    }

    /// Until the farm ends it.
    async fn listen(&mut self, farm: &Farm, most: usize) -> Result<(), ClientError> {
        let mut watch = farm.watch(WatchRequest::Farm).await?;
        // Of all that happens, for that is what is watched.
        let newest = farm.history(HistoryQuery { limit: 1, ..HistoryQuery::default() }).await?;
        let mut heard = newest.rows.first().map_or(0, |event| event.cursor);
        self.tell(farm, most).await?;
        // What is older was told now, or is more than was asked for.
        self.latest = self.latest.max(heard);
        while let Some(event) = watch.next().await? {
            let WatchEvent::Happened(event) = event else { continue };
            // One that lags hears the farm's state anew, and no events of in between.
            let has_missed = event.cursor > heard + 1;
            heard = event.cursor;
            if has_missed {
                self.tell(farm, usize::MAX).await?;
            } else if event.cursor > self.latest && self.wanted.fits(&event) {
                self.tell_one(&event);
            }
        }
        Ok(())
    }
}

/// A farm that stops refuses before it is gone.
fn is_a_while(error: &ClientError) -> bool {
    let is_stopping = |refusal: &Refusal| refusal.code == RefusalCode::NotNow;
    error.is_lost() || matches!(error, ClientError::Refused(refusal) if is_stopping(refusal))
}
