//! Sessions' streams: calls come in, what becomes of them goes out.
//!
//! What is said of a call is kept until the session has moved on, so that nothing is lost when the
//! connection breaks: on the next one it is said again, and the coordinator passes over what it
//! knows. A call that comes again is not done again.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use grange_blender::instance::SessionFrame;
use grange_protocol::limits::{ANSWERS_MAX, CALLS_MAX};
use grange_protocol::session::{
    Call, CallAnswer, CallNumber, FromSession, OpenSession, Raised, ToSession,
};
use grange_protocol::shot::OutputPattern;
use grange_protocol::stream::Open;
use grange_protocol::{FrameSet, LeaseId, Shot};
use grange_transport::message::{Receiver, Sender};
use grange_transport::{Connection, StreamError, exchange};
use serde::Deserialize;
use tokio::sync::{Notify, mpsc, watch};

use crate::core::{Event, Wanted, What};

/// Before a stream is opened again.
const PAUSE: Duration = Duration::from_millis(200);
/// The operation that brings Python along.
const EXTEND: &str = "extend";
/// The operation that is a frame.
const RENDER: &str = "render";

/// All sessions of this agent.
pub(crate) struct Sessions {
    events: mpsc::Sender<Event>,
    connection: watch::Receiver<Option<Connection>>,
    /// Whether people may send Python of their own.
    takes_code: bool,
    live: HashMap<LeaseId, Arc<Desk>>,
}

/// One session: what is to be said, and what was heard.
struct Desk {
    open: OpenSession,
    papers: Mutex<Papers>,
    changed: Notify,
}

#[derive(Default)]
struct Papers {
    /// What was said, of the calls that are open and of the latest that were answered. The first
    /// one's number is `first`.
    said: VecDeque<FromSession>,
    first: usize,
    /// Only the latest counts.
    progress: Option<FromSession>,
    seen: BTreeSet<CallNumber>,
    is_over: bool,
}

impl Sessions {
    pub(crate) fn new(
        events: mpsc::Sender<Event>,
        connection: watch::Receiver<Option<Connection>>,
        takes_code: bool,
    ) -> Self {
        Self { events, connection, takes_code, live: HashMap::new() }
    }

    pub(crate) fn open(&mut self, open: OpenSession) {
        let lease = open.lease;
        let desk = Arc::new(Desk { open, papers: Mutex::default(), changed: Notify::new() });
        let relay = Relay {
            desk: desk.clone(),
            events: self.events.clone(),
            connection: self.connection.clone(),
            takes_code: self.takes_code,
        };
        tokio::spawn(relay.run());
        self.live.insert(lease, desk);
    }

    pub(crate) fn tell(&self, lease: LeaseId, message: FromSession) {
        if let Some(desk) = self.live.get(&lease) {
            desk.say(message);
        }
    }

    /// Ends the stream when everything was said.
    pub(crate) fn close(&mut self, lease: LeaseId) {
        if let Some(desk) = self.live.remove(&lease) {
            desk.papers().is_over = true;
            desk.changed.notify_one();
        }
    }
}

impl Desk {
    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, message: FromSession) {
        self.papers().say(message);
        self.changed.notify_one();
    }
}

impl Papers {
    fn say(&mut self, message: FromSession) {
        match message {
            FromSession::Progress { .. } => self.progress = Some(message),
            FromSession::Answered { .. } => {
                self.said.push_back(message);
                self.forget_what_is_old();
            }
            message => self.said.push_back(message),
        }
    }

    /// The coordinator has no more calls open than it may have, so what is older was heard.
    fn forget_what_is_old(&mut self) {
        let size = |said: &FromSession| match said {
            FromSession::Answered { answer, .. } => Some(answer.size()),
            _ => None,
        };
        loop {
            let (answers, bytes) = self
                .said
                .iter()
                .filter_map(size)
                .fold((0, 0), |(answers, bytes), size| (answers + 1, bytes + size));
            if answers <= 2 * CALLS_MAX && (bytes <= ANSWERS_MAX || answers < 2) {
                return;
            }
            while let Some(said) = self.said.pop_front() {
                self.first += 1;
                if size(&said).is_some() {
                    break;
                }
            }
        }
    }

    /// Whether a call is one that has not come before. Numbers rise, but for calls that are made at
    /// the same time.
    fn is_new(&mut self, number: CallNumber) -> bool {
        let last = self.seen.last().map_or(0, |last| last.0);
        let old = CallNumber(last.saturating_sub(16 * CALLS_MAX as u64));
        self.seen = self.seen.split_off(&old);
        number >= old && self.seen.insert(number)
    }
}

/// Serves one session's stream, and opens it again when it breaks.
struct Relay {
    desk: Arc<Desk>,
    events: mpsc::Sender<Event>,
    connection: watch::Receiver<Option<Connection>>,
    takes_code: bool,
}

impl Relay {
    async fn run(mut self) {
        loop {
            let connection = match self.connection.wait_for(Option::is_some).await {
                Ok(connection) => connection.clone(),
                Err(_) => return,
            };
            let Some(connection) = connection else { continue };
            match self.talk(&connection).await {
                Ok(()) => return,
                Err(error) => tracing::debug!("a session's stream broke: {error}"),
            }
            if self.desk.papers().is_over || self.events.is_closed() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Ends well when the session is over and everything was said.
    async fn talk(&self, connection: &Connection) -> Result<(), StreamError> {
        let open = Open::Session(self.desk.open.clone());
        let (sender, mut receiver) = exchange::listen::<ToSession>(connection, &open).await?;
        let mut sender: Sender<FromSession> = sender.retype();
        let mut next = 0;
        loop {
            let is_over = self.say_what_is_new(&mut sender, &mut next).await?;
            if is_over {
                let _ = sender.finish().stopped().await;
                return Ok(());
            }
            tokio::select! {
                () = self.desk.changed.notified() => {}
                message = receiver.expect() => self.hear(message?, &mut receiver).await?,
            }
        }
    }

    /// Whether that was all.
    async fn say_what_is_new(
        &self,
        sender: &mut Sender<FromSession>,
        next: &mut usize,
    ) -> Result<bool, StreamError> {
        loop {
            let message = {
                let mut papers = self.desk.papers();
                *next = (*next).max(papers.first);
                let at = *next - papers.first;
                match papers.said.get(at).cloned() {
                    Some(message) => {
                        *next += 1;
                        Some(message)
                    }
                    None => papers.progress.take(),
                }
            };
            match message {
                Some(message) => sender.feed(&message).await?,
                None => break,
            }
        }
        sender.flush().await?;
        let papers = self.desk.papers();
        Ok(papers.is_over && *next >= papers.first + papers.said.len())
    }

    async fn hear(
        &self,
        message: ToSession,
        receiver: &mut Receiver<ToSession>,
    ) -> Result<(), StreamError> {
        let mut next = Some(message);
        while let Some(message) = next {
            let lease = self.desk.open.lease;
            match message {
                ToSession::Close => drop(self.events.send(Event::SessionClosed(lease)).await),
                ToSession::Call(call) => {
                    let number = call.number;
                    if self.desk.papers().is_new(number) {
                        match wanted(call, self.takes_code) {
                            Ok(wanted) => {
                                let _ = self.events.send(Event::Called { lease, wanted }).await;
                            }
                            Err(raised) => self.desk.say(FromSession::Answered {
                                call: number,
                                answer: CallAnswer::Raised(raised),
                            }),
                        }
                    }
                }
            }
            next = receiver.take()?;
        }
        Ok(())
    }
}

/// What a frame's call says of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrameArguments {
    frame: i32,
    /// Of the picture, without extension.
    name: String,
    /// Stands for the frame in the names of its ground truths.
    number: String,
}

fn wanted(call: Call, takes_code: bool) -> Result<Wanted, Raised> {
    let Call { number, operation, arguments } = call;
    if operation == EXTEND && !takes_code {
        return Err(Raised::new(
            "PermissionError",
            "this host takes no Python from sessions: its agent runs without a sandbox, or its \
             setting `extensions` says never",
        ));
    }
    let bad = |error: serde_json::Error| Raised::new("TypeError", error.to_string());
    let what = if operation == RENDER {
        frame(number, serde_json::from_slice(&arguments).map_err(bad)?)?
    } else {
        What::Operation {
            name: operation,
            arguments: serde_json::from_slice(&arguments).map_err(bad)?,
        }
    };
    Ok(Wanted { number, what })
}

/// Every call's files have names of their own: a session renders the same frame as often as its
/// owner likes, and what is committed is never replaced.
fn frame(number: CallNumber, arguments: FrameArguments) -> Result<What, Raised> {
    let FrameArguments { frame, name, number: stands_for } = arguments;
    let bad = |why: String| Raised::new("ValueError", why);
    let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if stands_for.is_empty() || stands_for.len() > 32 || !is_plain(&stands_for) {
        return Err(bad(format!(
            "`{stands_for}` cannot stand for a frame: use letters and digits"
        )));
    }
    let output: OutputPattern =
        format!("{}/{name}", number.0).parse().map_err(|error| bad(format!("{error}")))?;
    if output.is_numbered() {
        return Err(bad(format!("a frame's name has no `#`, but `{name}` has")));
    }
    let extras = number.0.to_string().parse().map_err(|error| bad(format!("{error}")))?;
    let shot = Shot {
        name: Default::default(),
        scene: None,
        view_layer: None,
        camera: None,
        frames: FrameSet::single(frame),
        resolution: None,
        samples: None,
        output,
        extras: Some(extras),
    };
    let session = SessionFrame { number: stands_for };
    Ok(What::Frame { frame, shot: Box::new(shot), session })
}
