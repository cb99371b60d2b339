//! `grange top`: the farm, filling a terminal, live. This is the shell: the terminal, the connection
//! and the clock. What is known and what keys do is decided in [`model`], what is seen in [`draw`].

mod draw;
mod farm;
mod keys;
mod model;
#[cfg(test)]
mod samples;
mod screen;

use std::time::Duration;

use anyhow::Context;
use crossterm::event::{Event, EventStream};
use futures_util::StreamExt;
use grange_client::Farm;
use grange_daemon::signals::StopSignals;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::exit::Ending;
use crate::print;
use farm::Link;
use model::{Model, News, Request};
use screen::Screen;

/// News that wait to be taken in; when it is full whoever brings more waits, and in the end the
/// farm, which then leaves out what was in between.
const NEWS_MAX: usize = 1_024;
/// Between two pictures, whatever comes: of the farm, and where a key was pressed.
const PICTURE_EVERY: Duration = Duration::from_millis(100);
const PICTURE_AFTER_KEY: Duration = Duration::from_millis(25);
/// What the picture says of times changes by itself.
const CLOCK_EVERY: Duration = Duration::from_secs(1);

/// Shows the farm until somebody leaves.
pub(crate) async fn run(farm: Farm) -> anyhow::Result<Ending> {
    let mut model = Model::new(farm.farm().await?);
    let (tell, mut news) = mpsc::channel(NEWS_MAX);
    let mut signals = StopSignals::catch().context("no signals")?;
    let mut screen = Screen::open()?;
    let mut keys = EventStream::new();
    let mut link = Link::open(farm, tell);
    let mut clock = interval(CLOCK_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pace = Pace::default();
    loop {
        tokio::select! {
            // Whoever wants to leave, then pictures, then what is new: no flood of news keeps
            // anybody from leaving, or the picture from changing.
            biased;
            () = signals.next() => return Ok(Ending::Done),
            event = keys.next() => {
                let event = event.context("the terminal is gone")?;
                // Of all others, such as a new size, the next picture takes note.
                if let Event::Key(key) = event.context("the terminal cannot be read")? {
                    let action = keys::action(model.mode, key);
                    match action.and_then(|action| model.press(action)) {
                        Some(Request::Leave) => return Ok(Ending::Done),
                        Some(Request::Act(job, action)) => link.act(job, action),
                        None => {}
                    }
                }
                pace.want(PICTURE_AFTER_KEY);
            }
            ended = link.ended() => ended?,
            () = pace.due() => {
                model.arrange();
                let shown = screen.draw(&model, print::now())?;
                model.shown(shown);
                link.ask_for(model.worth_asking().0);
                pace.drawn();
            }
            _ = clock.tick() => pace.want(PICTURE_EVERY),
            Some(one) = news.recv() => {
                hear(&mut model, one, &mut news);
                pace.want(PICTURE_EVERY);
            }
        }
    }
}

/// Takes in what is new, and all that came meanwhile: but no more than was waiting, so that the keys
/// have their turn.
fn hear(model: &mut Model, first: News, news: &mut mpsc::Receiver<News>) {
    model.hear(first);
    for _ in 0..NEWS_MAX {
        let Ok(more) = news.try_recv() else { break };
        model.hear(more);
    }
}

/// When the next picture is due.
struct Pace {
    drawn_at: Option<Instant>,
    /// How long after the one before; `None`: nothing has changed since.
    wanted: Option<Duration>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { drawn_at: None, wanted: Some(Duration::ZERO) }
    }
}

impl Pace {
    fn want(&mut self, after: Duration) {
        self.wanted = Some(self.wanted.map_or(after, |wanted| wanted.min(after)));
    }

    fn drawn(&mut self) {
        (self.drawn_at, self.wanted) = (Some(Instant::now()), None);
    }

    async fn due(&self) {
        match (self.wanted, self.drawn_at) {
            (None, _) => std::future::pending().await,
            (Some(_), None) => {}
            (Some(after), Some(drawn_at)) => tokio::time::sleep_until(drawn_at + after).await,
        }
    }
}
