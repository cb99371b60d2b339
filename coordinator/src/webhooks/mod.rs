//! Webhooks: whoever is configured hears of jobs and agents by signed POSTs.
//!
//! The farm's loop says what has happened ([`hearing`]), as its [history](crate::history) has it; it
//! waits for no disk and no network. Each receiver has a queue of its own ([`queue`]) and a task that
//! works it off ([`delivery`]). What waits is kept in a file ([`kept`]), which follows a moment later:
//! what a coordinator that is killed had not kept yet, the next one finds in the journal. So events come
//! at least once.
//!
//! Bodies, ids and signatures are as the Standard Webhooks specification has them ([`event`],
//! [`signing`]).

mod delivery;
mod event;
mod hearing;
mod kept;
mod queue;
mod settings;
mod signing;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use grange_daemon::clock::Clock;
use grange_protocol::history::{HistoryKind, HistoryView};
use grange_protocol::shot::Label;
use grange_protocol::{BlobHash, Millis};
use tokio::sync::Notify;
use tokio::task::{JoinSet, spawn_blocking};

use crate::farm::FarmHandle;
use crate::journal::Journal;
use delivery::{Client, Outcome};
use event::{Event, TEST, Teller};
use kept::{Kept, Place};
use queue::{Next, Queue, Then};
use settings::Webhook;

pub use settings::{Hidden, WebhookSettings};

/// Between two times that what waits is written down.
const KEEP_EVERY: Duration = Duration::from_millis(500);
/// After a failure of that: a disk that is full is so for longer.
const KEEP_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// By how much pauses are stretched at most, so that receivers are not all asked at the same time.
const STRETCH_MAX: f64 = 0.2;

/// All receivers, and what they are still to be told.
pub(crate) struct Webhooks {
    teller: Teller,
    place: Place,
    client: Client,
    clock: Clock,
    book: Mutex<Book>,
    /// Of each receiver: something has come for it.
    wakes: Vec<Notify>,
    /// Something is to be written down.
    changed: Notify,
    /// What was not noted before the coordinator ended, taken once.
    missed: Mutex<Vec<HistoryView>>,
}

struct Book {
    receivers: Vec<Receiver>,
    /// That any receiver wants to hear of.
    wanted: BTreeSet<HistoryKind>,
    /// The cursor of the latest event that is durable and noted.
    heard: u64,
}

struct Receiver {
    webhook: Webhook,
    queue: Queue,
    counts: Counts,
    /// Dropped since the receiver last took something.
    dropped_now: u64,
    /// It is told in the history that it takes nothing.
    has_given_up: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    pub(crate) given_up: u64,
    pub(crate) dropped: u64,
}

/// One receiver in numbers, since the start.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) name: String,
    pub(crate) waiting: usize,
    pub(crate) counts: Counts,
}

/// The tasks that deliver, ended with this value.
pub(crate) struct Delivering {
    webhooks: Arc<Webhooks>,
    tasks: JoinSet<()>,
}

impl Webhooks {
    /// Checks what is configured, and reads what the coordinator before was still to tell. `None` if
    /// nobody wants to hear anything. `last` is the latest cursor of the history.
    pub(crate) async fn open(
        settings: &[WebhookSettings],
        state_dir: &Path,
        farm: Label,
        authority: BlobHash,
        journal: &mut dyn Journal,
        last: u64,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        let webhooks = settings::checked(settings)?;
        let place = Place::in_dir(state_dir);
        if webhooks.is_empty() {
            place.forget()?;
            return Ok(None);
        }
        let client = Client::new(webhooks.iter().map(|webhook| &webhook.uri))?;
        let kept = place.read()?;
        // Where nobody has listened before, nobody was promised anything.
        let heard = kept.as_ref().and_then(|kept| kept.heard).map_or(last, |heard| heard.min(last));
        let missed = journal.history_after(heard).await?;
        let book = Book::new(webhooks, kept.unwrap_or_default(), heard);
        Ok(Some(Arc::new(Self {
            teller: Teller { farm, authority },
            place,
            client,
            clock: Clock::start(),
            wakes: book.receivers.iter().map(|_| Notify::new()).collect(),
            book: Mutex::new(book),
            changed: Notify::new(),
            missed: Mutex::new(missed),
        })))
    }

    /// Begins to deliver. The farm is told of receivers that take nothing.
    pub(crate) fn deliver(self: &Arc<Self>, farm: &FarmHandle) -> Delivering {
        let mut tasks = JoinSet::new();
        for at in 0..self.wakes.len() {
            tasks.spawn(self.clone().deliver_to(at, farm.clone()));
        }
        let keeping = self.clone();
        tasks.spawn(async move {
            loop {
                keeping.changed.notified().await;
                let pause = match keeping.keep().await {
                    Ok(()) => KEEP_EVERY,
                    Err(error) => {
                        tracing::error!("events for webhooks are not on disk: {error:#}");
                        keeping.changed.notify_one();
                        KEEP_AGAIN_AFTER
                    }
                };
                tokio::time::sleep(pause).await;
            }
        });
        Delivering { webhooks: self.clone(), tasks }
    }

    pub(crate) fn figures(&self) -> Vec<Figures> {
        let of_one = |receiver: &Receiver| Figures {
            name: receiver.webhook.name.clone(),
            waiting: receiver.queue.waiting().len(),
            counts: receiver.counts,
        };
        self.book().receivers.iter().map(of_one).collect()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Millis {
        Millis(self.clock.now_ms())
    }

    /// For whoever wants to hear of it.
    fn note(&self, book: &mut Book, kind: HistoryKind, event: Event) {
        let event = Arc::new(event);
        for (receiver, wake) in book.receivers.iter_mut().zip(&self.wakes) {
            if receiver.webhook.events.contains(&kind) {
                receiver.push(event.clone());
                wake.notify_one();
            }
        }
        self.changed.notify_one();
    }

    async fn deliver_to(self: Arc<Self>, at: usize, farm: FarmHandle) {
        loop {
            let next = self.book().receivers[at].queue.next(self.now());
            match next {
                Next::Send(event) => self.attempt(at, &event, &farm).await,
                Next::Wait(until) => tokio::select! {
                    () = tokio::time::sleep_until(self.clock.instant_at(until.0)) => {}
                    () = self.wakes[at].notified() => {}
                },
                Next::Nothing => self.wakes[at].notified().await,
            }
        }
    }

    async fn attempt(&self, at: usize, event: &Event, farm: &FarmHandle) {
        let webhook = self.book().receivers[at].webhook.clone();
        let outcome = self.client.send(&webhook, event).await;
        let given_up = self.book().receivers[at].take(event, outcome, self.now());
        self.changed.notify_one();
        if let Some(why) = given_up {
            let farm = farm.clone();
            // A farm whose journal is stuck answers nobody, and that is what the next event may tell.
            tokio::spawn(async move {
                // One that stops tells nothing more.
                let _ = farm.look(move |farm| farm.hear_given_up(why)).await;
            });
        }
    }

    async fn keep(&self) -> anyhow::Result<()> {
        let (kept, place) = (self.book().kept(), self.place.clone());
        spawn_blocking(move || place.write(kept)).await?
    }
}

impl Delivering {
    /// Ends, after what waits is on disk.
    pub(crate) async fn end(mut self) {
        self.tasks.shutdown().await;
        if let Err(error) = self.webhooks.keep().await {
            tracing::error!("events for webhooks are not on disk: {error:#}");
        }
    }
}

impl Book {
    fn new(webhooks: Vec<Webhook>, kept: Kept, heard: u64) -> Self {
        let events: BTreeMap<&str, Arc<Event>> =
            kept.events.iter().map(|event| (event.id.as_str(), event.clone())).collect();
        let wanted = webhooks.iter().flat_map(|webhook| webhook.events.iter().copied()).collect();
        let receiver = |webhook: Webhook| {
            let mut queue = Queue::default();
            for (id, attempts) in kept.waiting.get(&webhook.uri.to_string()).into_iter().flatten() {
                if let Some(event) = events.get(id.as_str()) {
                    queue.push(event.clone(), *attempts);
                }
            }
            let counts = Counts::default();
            Receiver { webhook, queue, counts, dropped_now: 0, has_given_up: false }
        };
        Self { receivers: webhooks.into_iter().map(receiver).collect(), wanted, heard }
    }

    /// What any receiver is still to be told.
    fn waiting(&self) -> impl Iterator<Item = &Event> {
        let receivers = self.receivers.iter();
        receivers.flat_map(|receiver| receiver.queue.waiting()).map(|waiting| &*waiting.event)
    }

    fn kept(&self) -> Kept {
        let mut events = BTreeMap::new();
        let mut waiting = BTreeMap::new();
        for receiver in &self.receivers {
            let mut ids = Vec::new();
            for one in receiver.queue.waiting() {
                events.insert(&one.event.id, one.event.clone());
                ids.push((one.event.id.clone(), one.attempts));
            }
            waiting.insert(receiver.webhook.uri.to_string(), ids);
        }
        Kept {
            heard: Some(self.heard),
            events: events.into_values().collect(),
            waiting,
            ..Kept::default()
        }
    }
}

impl Receiver {
    fn push(&mut self, event: Arc<Event>) {
        if self.queue.push(event, 0) {
            if self.dropped_now == 0 {
                tracing::error!(
                    webhook = %self.webhook.name,
                    "the webhook {} has {} events to take, and the oldest are dropped from now on",
                    self.webhook.name,
                    queue::WAITING_MAX
                );
            }
            self.dropped_now += 1;
            self.counts.dropped += 1;
        }
    }

    /// Returns a sentence if that is the end of the event, and the receiver has taken nothing since the
    /// last one that ended so.
    fn take(&mut self, event: &Event, outcome: Outcome, now: Millis) -> Option<String> {
        let name = &self.webhook.name;
        let what = format!("{} ({})", event.kind, event.id);
        let mut given_up = None;
        match outcome {
            Outcome::Taken(_) => {
                self.counts.delivered += 1;
                self.has_given_up = false;
                tracing::debug!("the webhook {name} took {what}");
                if self.queue.delivered(&event.id) {
                    let waiting = self.queue.waiting().len();
                    tracing::info!(webhook = %name, "the webhook {name} takes events again, {waiting} wait for it");
                }
                let dropped = std::mem::take(&mut self.dropped_now);
                if dropped > 0 {
                    tracing::error!(
                        webhook = %name,
                        "the webhook {name} has missed {dropped} events, the oldest ones"
                    );
                }
            }
            Outcome::Gone => {
                self.counts.failed += 1;
                self.queue.is_gone();
                tracing::warn!(
                    webhook = %name,
                    "the webhook {name} answered 410 Gone and is told nothing more: take it out of the \
                     configuration, or start the coordinator anew when it is back"
                );
                given_up = Some("answered 410 Gone and is told nothing more".to_owned());
            }
            Outcome::Failed(why, spared) => {
                self.counts.failed += 1;
                let pauses = &self.webhook.pauses;
                match self.queue.failed(&event.id, now, pauses, stretch(), spared) {
                    Then::Again { at } => {
                        let seconds = at.0.saturating_sub(now.0).div_ceil(1_000);
                        tracing::warn!(
                            webhook = %name,
                            "the webhook {name} {why}: {what} is tried again in {seconds} s or, once \
                             others are taken, before that"
                        );
                    }
                    Then::GivenUp => {
                        self.counts.given_up += 1;
                        tracing::error!(webhook = %name, "the webhook {name} {why}: {what} is given up");
                        given_up = Some(format!("{why}: {} is given up", event.kind));
                    }
                    Then::Dropped => {}
                }
            }
        }
        let why = given_up.filter(|_| !self.has_given_up)?;
        self.has_given_up = true;
        // Some addresses are secrets.
        let host = self.webhook.uri.host().unwrap_or_default();
        Some(format!("the webhook at {host} {why}"))
    }
}

/// Between 1 and 1 + [`STRETCH_MAX`].
fn stretch() -> f64 {
    let mut random = [0; 1];
    // Without random numbers pauses are merely the same for all.
    let _ = getrandom::fill(&mut random);
    1.0 + STRETCH_MAX * f64::from(random[0]) / 255.0
}

/// Sends every receiver, or the one with that address, an event that says nothing. Returns a line for
/// each that took it.
pub(crate) async fn try_out(
    settings: &[WebhookSettings],
    only: Option<&str>,
    farm: Label,
) -> anyhow::Result<Vec<String>> {
    let chosen: Vec<WebhookSettings> =
        settings.iter().filter(|one| only.is_none_or(|only| one.url == only)).cloned().collect();
    let webhooks = settings::checked(&chosen)?;
    anyhow::ensure!(
        !webhooks.is_empty(),
        match only {
            Some(url) => format!("no `[[webhook]]` in the configuration has the `url` {url}"),
            None =>
                "no webhook is configured: add `[[webhook]]` with `url` and `secret_file` to the \
                     configuration"
                    .to_owned(),
        }
    );
    let client = Client::new(webhooks.iter().map(|webhook| &webhook.uri))?;
    let now = Millis(Clock::start().now_ms());
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let teller = Teller { farm, authority: BlobHash::from_bytes(random) };
    let data = serde_json::json!({ "message": "somebody tries this webhook out" });
    let event = teller.event(TEST, "", now, &data).context("the clock is wrong")?;
    let (mut lines, mut failed) = (Vec::new(), Vec::new());
    for webhook in &webhooks {
        let name = &webhook.name;
        match client.send(webhook, &event).await {
            Outcome::Taken(status) => lines.push(format!("{name} took {} ({status})", event.kind)),
            Outcome::Gone => failed.push(format!("the webhook {name} answered 410 Gone")),
            Outcome::Failed(why, _) => failed.push(format!("the webhook {name} {why}")),
        }
    }
    anyhow::ensure!(failed.is_empty(), "{}", [lines, failed].concat().join("; "));
    Ok(lines)
}
