//! Following a job to its end, saving its outputs on the way.

use std::time::Duration;

use grange_client::{ClientError, Farm, Folder, MayBeLost};
use grange_protocol::client::WatchRequest;
use grange_protocol::file::Output;
use grange_protocol::view::{JobView, OutputView, WatchEvent};
use grange_protocol::{JobId, OutputName};
use tokio::task::JoinSet;

use crate::display::Display;

/// Outputs that are saved at once.
const SAVES: usize = 4;
/// A coordinator that is away is waited for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// A cursor that no output reaches.
const NO_OUTPUTS: u64 = u64::MAX >> 1;

pub(crate) struct Follow {
    farm: Farm,
    job: JobId,
    folder: Option<Folder>,
    /// The latest output that is saved, or on its way.
    cursor: u64,
    waiting: std::collections::VecDeque<Output>,
    saving: JoinSet<anyhow::Result<OutputName>>,
}

impl Follow {
    /// Follows a job; with a folder, every output of it is saved there.
    pub(crate) fn new(farm: Farm, job: JobId, folder: Option<Folder>) -> Self {
        Self {
            farm,
            job,
            folder,
            cursor: 0,
            waiting: std::collections::VecDeque::new(),
            saving: JoinSet::new(),
        }
    }

    /// Returns when the job has ended and everything is saved. Connections that are lost are made
    /// anew.
    pub(crate) async fn until_the_end(&mut self, display: &mut Display) -> anyhow::Result<JobView> {
        loop {
            match self.watch(display).await {
                Ok(job) => {
                    self.save_the_rest(display).await?;
                    return Ok(job);
                }
                Err(error) if is_lost(&error) => {
                    display.say(&format!("{error}; connecting again"));
                    self.farm.find_again(PATIENCE).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn watch(&mut self, display: &mut Display) -> anyhow::Result<JobView> {
        let wanted = self.folder.is_some() || display.wants_outputs();
        let outputs_after = if wanted { self.cursor } else { NO_OUTPUTS };
        let request = WatchRequest::Job { job: self.job, outputs_after };
        let mut watch = self.farm.watch(request).await?;
        loop {
            tokio::select! {
                event = watch.next() => {
                    let Some(event) = event? else {
                        anyhow::bail!(ClientError::Stream(grange_transport::StreamError::Truncated));
                    };
                    display.event(&event);
                    match event {
                        WatchEvent::Output { output, .. } => self.take(output),
                        WatchEvent::Job(job) if job.state.is_final() => return Ok(job),
                        _ => {}
                    }
                }
                Some(saved) = self.saving.join_next() => self.saved(saved?, display)?,
            }
            self.save_more();
        }
    }

    fn take(&mut self, output: OutputView) {
        self.cursor = output.cursor;
        if self.folder.is_some() {
            self.waiting.push_back(output.output);
        }
    }

    fn save_more(&mut self) {
        let Some(folder) = &self.folder else { return };
        while self.saving.len() < SAVES
            && let Some(output) = self.waiting.pop_front()
        {
            let (farm, folder) = (self.farm.clone(), folder.clone());
            self.saving.spawn(async move {
                save(&farm, &folder, &output).await?;
                Ok(output.name)
            });
        }
    }

    fn saved(
        &self,
        saved: anyhow::Result<OutputName>,
        display: &mut Display,
    ) -> anyhow::Result<()> {
        if let Some(folder) = &self.folder {
            display.saved(&folder.path().join(saved?.as_str()));
        }
        Ok(())
    }

    /// The job's end is told after its last output is committed, but perhaps before it was told.
    async fn save_the_rest(&mut self, display: &mut Display) -> anyhow::Result<()> {
        if self.folder.is_some() {
            let mut after = Some(self.cursor);
            while let Some(cursor) = after {
                let query = grange_protocol::client::OutputsQuery {
                    job: self.job,
                    step: None,
                    after: cursor,
                };
                let page = self.farm.outputs(query).await?;
                for output in page.rows {
                    self.take(output);
                }
                after = page.next;
            }
        }
        self.save_more();
        while let Some(saved) = self.saving.join_next().await {
            self.saved(saved?, display)?;
            self.save_more();
        }
        Ok(())
    }
}

/// Saves an output; a connection that is lost meanwhile is made anew.
pub(crate) async fn save(farm: &Farm, folder: &Folder, output: &Output) -> anyhow::Result<()> {
    let attempt = |farm: Farm| async move { folder.save(&farm, output).await };
    farm.clone().insist(PATIENCE, |_| {}, attempt).await?;
    Ok(())
}

fn is_lost(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ClientError>().is_some_and(ClientError::is_lost)
}
