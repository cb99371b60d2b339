//! A connection to a farm, and everything that one can ask of it.

use std::fs::File;
use std::future::Future;
use std::io::Cursor;
use std::path::Path;
use std::time::{Duration, Instant};

use grange_protocol::client::{
    AgentAction, ApiToken, ApiTokenView, HistoryQuery, JobAction, JoinToken, LogsQuery, MemberView,
    OutputsQuery, Page, PageLink, Request, Response, Role, SubmissionKey, WatchRequest,
};
use grange_protocol::file::Blob;
use grange_protocol::history::HistoryView;
use grange_protocol::shot::Label;
use grange_protocol::stream::Open;
use grange_protocol::view::{
    AgentView, DecisionView, FarmView, FootprintView, JobDetail, JobView, LogView, OutputView,
    WatchEvent,
};
use grange_protocol::{AgentId, BlobHash, JobId, Refusal, Submission};
use grange_transport::message::{Receiver, Sender};
use grange_transport::{ConnectError, Connection, Endpoint, Identity, StreamError, exchange};
use tokio::task::spawn_blocking;

/// Before a lost connection is made anew, and between tries.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A farm, as one identity. Clones share one connection.
#[derive(Clone, Debug)]
pub struct Farm {
    endpoint: Endpoint,
    connection: Connection,
}

/// Events of a job or of the whole farm, as they happen.
#[derive(Debug)]
pub struct Watch {
    events: Receiver<Result<WatchEvent, Refusal>>,
    /// Ends the watch on the other side when it is dropped.
    _open: Sender<Open>,
}

impl Farm {
    pub async fn connect(identity: &Identity) -> Result<Self, ClientError> {
        Self::connect_through(Endpoint::new(identity)?).await
    }

    /// The same, through an endpoint of the caller's.
    pub async fn connect_through(endpoint: Endpoint) -> Result<Self, ClientError> {
        let connection = endpoint.connect().await?;
        Ok(Self { endpoint, connection })
    }

    /// Connects anew after the connection was lost.
    pub async fn reconnect(&mut self) -> Result<(), ClientError> {
        self.connection = self.endpoint.connect().await?;
        Ok(())
    }

    /// Does what needs a connection. When that is lost, it is made anew, for which at most `patience`
    /// is waited, and all is done again; `on_lost` hears of it every time.
    pub async fn insist<T, E, Fut>(
        &mut self,
        patience: Duration,
        on_lost: impl Fn(&E),
        attempt: impl Fn(Self) -> Fut,
    ) -> Result<T, E>
    where
        E: MayBeLost + From<ClientError>,
        Fut: Future<Output = Result<T, E>>,
    {
        loop {
            match attempt(self.clone()).await {
                Err(error) if error.is_lost() => on_lost(&error),
                outcome => return outcome,
            }
            self.find_again(patience).await?;
        }
    }

    /// Connects anew as soon as the farm is there, for which at most `patience` is waited, with
    /// pauses that grow to five seconds.
    pub async fn find_again(&mut self, patience: Duration) -> Result<(), ClientError> {
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            match self.reconnect().await {
                Err(error) if error.is_lost() && began.elapsed() < patience => {}
                outcome => return outcome,
            }
        }
    }

    /// Says goodbye. Dropped without it, the farm notices a little later.
    pub async fn close(&self) {
        self.endpoint.close().await;
    }

    pub async fn farm(&self) -> Result<FarmView, ClientError> {
        self.call(Request::Farm, |response| match response {
            Response::Farm(view) => Some(view),
            _ => None,
        })
        .await
    }

    pub async fn jobs(&self) -> Result<Vec<JobView>, ClientError> {
        self.call(Request::Jobs, |response| match response {
            Response::Jobs(jobs) => Some(jobs),
            _ => None,
        })
        .await
    }

    pub async fn job(&self, job: JobId) -> Result<JobDetail, ClientError> {
        self.call(Request::Job(job), |response| match response {
            Response::Job(detail) => Some(*detail),
            _ => None,
        })
        .await
    }

    pub async fn act(&self, job: JobId, action: JobAction) -> Result<(), ClientError> {
        self.call(Request::Act { job, action }, |response| {
            matches!(response, Response::Done).then_some(())
        })
        .await
    }

    pub async fn agents(&self) -> Result<Vec<AgentView>, ClientError> {
        self.call(Request::Agents, |response| match response {
            Response::Agents(agents) => Some(agents),
            _ => None,
        })
        .await
    }

    pub async fn act_on_agent(
        &self,
        agent: AgentId,
        action: AgentAction,
    ) -> Result<(), ClientError> {
        self.call(Request::ActOnAgent { agent, action }, |response| {
            matches!(response, Response::Done).then_some(())
        })
        .await
    }

    /// What shots were measured to need.
    pub async fn footprints(&self) -> Result<Vec<FootprintView>, ClientError> {
        self.call(Request::Footprints, |response| match response {
            Response::Footprints(footprints) => Some(footprints),
            _ => None,
        })
        .await
    }

    /// What was decided lately about the devices of agents that are connected, and why; each
    /// agent's in the order in which it was decided.
    pub async fn decisions(&self) -> Result<Vec<DecisionView>, ClientError> {
        self.call(Request::Decisions, |response| match response {
            Response::Decisions(decisions) => Some(decisions),
            _ => None,
        })
        .await
    }

    /// One page of a job's committed outputs.
    pub async fn outputs(&self, query: OutputsQuery) -> Result<Page<OutputView>, ClientError> {
        self.call(Request::Outputs(query), |response| match response {
            Response::Outputs(page) => Some(page),
            _ => None,
        })
        .await
    }

    /// One page of logs, the latest first.
    pub async fn logs(&self, query: LogsQuery) -> Result<Page<LogView>, ClientError> {
        self.call(Request::Logs(query), |response| match response {
            Response::Logs(page) => Some(page),
            _ => None,
        })
        .await
    }

    /// One page of what happened, the latest first.
    pub async fn history(&self, query: HistoryQuery) -> Result<Page<HistoryView>, ClientError> {
        self.call(Request::History(query), |response| match response {
            Response::History(page) => Some(page),
            _ => None,
        })
        .await
    }

    /// A join string for somebody of that role, good for `ttl` and for one use.
    pub async fn create_token(&self, role: Role, ttl: Duration) -> Result<JoinToken, ClientError> {
        let ttl_s = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
        self.call(Request::CreateToken { role, ttl_s }, |response| match response {
            Response::Token(token) => Some(token),
            _ => None,
        })
        .await
    }

    /// A token of the HTTP API for somebody of that role, good for `ttl`. Its connect string is told
    /// now and never again.
    pub async fn create_api_token(
        &self,
        name: Label,
        role: Role,
        ttl: Duration,
    ) -> Result<ApiToken, ClientError> {
        let ttl_s = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
        self.call(Request::CreateApiToken { name, role, ttl_s }, |response| match response {
            Response::ApiToken(token) => Some(token),
            _ => None,
        })
        .await
    }

    /// A link that signs one browser in to the dashboard.
    pub async fn page_link(&self) -> Result<PageLink, ClientError> {
        self.call(Request::PageLink, |response| match response {
            Response::PageLink(link) => Some(link),
            _ => None,
        })
        .await
    }

    /// The tokens of the HTTP API that are good now.
    pub async fn api_tokens(&self) -> Result<Vec<ApiTokenView>, ClientError> {
        self.call(Request::ApiTokens, |response| match response {
            Response::ApiTokens(tokens) => Some(tokens),
            _ => None,
        })
        .await
    }

    pub async fn revoke_api_token(&self, name: Label) -> Result<(), ClientError> {
        self.call(Request::RevokeApiToken(name), |response| {
            matches!(response, Response::Done).then_some(())
        })
        .await
    }

    /// Everybody who has joined, agents too.
    pub async fn members(&self) -> Result<Vec<MemberView>, ClientError> {
        self.call(Request::Members, |response| match response {
            Response::Members(members) => Some(members),
            _ => None,
        })
        .await
    }

    /// Whoever it is, is unknown from now on.
    pub async fn remove_member(&self, member: AgentId) -> Result<(), ClientError> {
        self.call(Request::RemoveMember(member), |response| {
            matches!(response, Response::Done).then_some(())
        })
        .await
    }

    /// Those of the files that the farm lacks.
    pub async fn missing(&self, files: Vec<BlobHash>) -> Result<Vec<BlobHash>, ClientError> {
        self.call(Request::MissingBlobs(files), |response| match response {
            Response::MissingBlobs(missing) => Some(missing),
            _ => None,
        })
        .await
    }

    /// Submits a job whose files the farm has.
    pub async fn submit(&self, submission: Submission) -> Result<JobId, ClientError> {
        self.submit_once(submission, new_key()?).await
    }

    /// The same, for those who may have to say it again: under one key it is one job.
    pub async fn submit_once(
        &self,
        submission: Submission,
        key: SubmissionKey,
    ) -> Result<JobId, ClientError> {
        let submission = Box::new(submission);
        self.call(Request::Submit { submission, key }, |response| match response {
            Response::Submitted(job) => Some(job),
            _ => None,
        })
        .await
    }

    /// Sends a file. One that was sent halfway before goes on there.
    pub async fn put_file(&self, path: &Path, blob: Blob) -> Result<(), ClientError> {
        let owned = path.to_owned();
        let source =
            spawn_blocking(move || File::open(owned)).await.map_err(std::io::Error::other)?;
        let source = source.map_err(|error| ClientError::File(path.into(), error))?;
        Ok(exchange::put_blob(&self.connection, blob, source).await?)
    }

    /// Sends a small file that is in memory.
    pub async fn put_bytes(&self, blob: Blob, bytes: Vec<u8>) -> Result<(), ClientError> {
        Ok(exchange::put_blob(&self.connection, blob, Cursor::new(bytes)).await?)
    }

    /// Events from now on, after the present state.
    pub async fn watch(&self, request: WatchRequest) -> Result<Watch, ClientError> {
        let (open, events) = exchange::listen(&self.connection, &Open::Watch(request)).await?;
        Ok(Watch { events, _open: open })
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    async fn call<T>(
        &self,
        request: Request,
        expected: impl FnOnce(Response) -> Option<T>,
    ) -> Result<T, ClientError> {
        match exchange::call(&self.connection, request).await? {
            Response::Refused(refusal) => Err(ClientError::Refused(refusal)),
            response => expected(response).ok_or(ClientError::Unexpected),
        }
    }
}

impl Watch {
    /// The next event; `None` if the farm ended the watch.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, ClientError> {
        match self.events.recv().await? {
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(refusal)) => Err(ClientError::Refused(refusal)),
            None => Ok(None),
        }
    }
}

/// A key that no other submission has.
pub fn new_key() -> Result<SubmissionKey, ClientError> {
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(std::io::Error::other)?;
    Ok(SubmissionKey(key))
}

/// Errors that may mean no more than that the connection was lost.
pub trait MayBeLost {
    /// Whether the same may well work over another connection.
    fn is_lost(&self) -> bool;
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Refused(Refusal),
    #[error("{0}")]
    Stream(StreamError),
    #[error("the coordinator's answer makes no sense: one of the two programs needs an update")]
    Unexpected,
    #[error("{0} cannot be read: {1}")]
    File(std::path::PathBuf, std::io::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl MayBeLost for ClientError {
    fn is_lost(&self) -> bool {
        match self {
            Self::Stream(error) => matches!(
                error,
                StreamError::Lost(_) | StreamError::Silent(_) | StreamError::Truncated
            ),
            Self::Connect(error) => {
                matches!(error, ConnectError::Unreachable(..) | ConnectError::Name(..))
            }
            _ => false,
        }
    }
}

impl From<StreamError> for ClientError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Refused(refusal) => Self::Refused(refusal),
            other => Self::Stream(other),
        }
    }
}
