//! The connection to the farm: what happens there becomes news, and what is asked for is done there,
//! one after the other. When the farm is away it is called until it is back.

use std::time::Duration;

use grange_client::{ClientError, Farm, MayBeLost};
use grange_protocol::JobId;
use grange_protocol::client::{JobAction, WatchRequest};
use grange_protocol::view::JobView;
use grange_transport::StreamError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::model::{Asked, News};
use crate::print;

/// Between two questions about what runs and what was decided; so many times what an answer took, so
/// that a busy farm is asked less.
const ASK_EVERY: Duration = Duration::from_secs(1);
const ASK_SHARE: u32 = 10;

type Tell = mpsc::Sender<News>;

/// Ends with the value.
pub(super) struct Link {
    tasks: JoinSet<anyhow::Result<()>>,
    wanted: mpsc::UnboundedSender<(JobId, JobAction)>,
    of_interest: watch::Sender<Vec<JobId>>,
}

impl Link {
    pub(super) fn open(farm: Farm, tell: Tell) -> Self {
        let (present, connected) = watch::channel(farm.clone());
        // Filled by a person's fingers, so there is no need to bound it.
        let (wanted, wants) = mpsc::unbounded_channel();
        let (of_interest, interest) = watch::channel(Vec::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(farm, present, tell.clone()));
        tasks.spawn(act(connected.clone(), wants, tell.clone()));
        tasks.spawn(ask(connected, interest, tell));
        Self { tasks, wanted, of_interest }
    }

    /// Has a job acted on, after all that was wanted before.
    pub(super) fn act(&self, job: JobId, action: JobAction) {
        // Nobody listens only if a task has ended, which `ended` tells.
        let _ = self.wanted.send((job, action));
    }

    /// Says what runs of which jobs is to be asked.
    pub(super) fn ask_for(&self, jobs: &[JobId]) {
        self.of_interest.send_if_modified(|before| {
            let changed = before != jobs;
            jobs.clone_into(before);
            changed
        });
    }

    /// Waits until it cannot go on: the farm does not know us any more, or something has panicked.
    pub(super) async fn ended(&mut self) -> anyhow::Result<()> {
        match self.tasks.join_next().await {
            Some(ended) => ended?,
            None => std::future::pending().await,
        }
    }
}

/// Tells what happens, over one connection after the other.
async fn follow(mut farm: Farm, present: watch::Sender<Farm>, tell: Tell) -> anyhow::Result<()> {
    loop {
        let Err(error) = listen(&farm, &tell).await else { return Ok(()) };
        // A farm that stops refuses first.
        if !error.is_lost() && !matches!(error, ClientError::Refused(_)) {
            return Err(error.into());
        }
        if tell.send(News::Away(print::now(), error.to_string())).await.is_err() {
            return Ok(());
        }
        farm.find_again(Duration::MAX).await?;
        present.send_replace(farm.clone());
    }
}

/// Until the farm cannot be heard any more; well only if nobody wants to know.
async fn listen(farm: &Farm, tell: &Tell) -> Result<(), ClientError> {
    let mut watch = farm.watch(WatchRequest::Farm).await?;
    let mut news = News::Begins;
    while tell.send(news).await.is_ok() {
        let event = watch.next().await?;
        news = News::Event(event.ok_or(ClientError::Stream(StreamError::Truncated))?);
    }
    Ok(())
}

async fn act(
    connected: watch::Receiver<Farm>,
    mut wants: mpsc::UnboundedReceiver<(JobId, JobAction)>,
    tell: Tell,
) -> anyhow::Result<()> {
    while let Some((job, action)) = wants.recv().await {
        let farm = connected.borrow().clone();
        let outcome = act_once(&farm, job, action).await.map_err(|error| error.to_string());
        if tell.send(News::Acted(job, outcome)).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn act_once(farm: &Farm, job: JobId, action: JobAction) -> Result<JobView, ClientError> {
    farm.act(job, action).await?;
    Ok(farm.job(job).await?.job)
}

async fn ask(
    connected: watch::Receiver<Farm>,
    mut interest: watch::Receiver<Vec<JobId>>,
    tell: Tell,
) -> anyhow::Result<()> {
    loop {
        let (farm, jobs) = (connected.borrow().clone(), interest.borrow_and_update().clone());
        let began = Instant::now();
        // What it cannot be asked the watch says by itself.
        if let Ok(asked) = ask_once(&farm, &jobs).await
            && tell.send(News::Asked(asked)).await.is_err()
        {
            return Ok(());
        }
        let pause = ASK_EVERY.max(began.elapsed() * ASK_SHARE);
        tokio::time::sleep(pause).await;
    }
}

async fn ask_once(farm: &Farm, jobs: &[JobId]) -> Result<Asked, ClientError> {
    let mut asked = Asked { decisions: farm.decisions().await?, tasks: Vec::new() };
    for job in jobs {
        match farm.job(*job).await {
            Ok(detail) => asked.tasks.push((*job, detail.tasks)),
            // One that was collected meanwhile.
            Err(ClientError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(asked)
}
