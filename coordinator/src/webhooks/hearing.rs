//! What the farm's loop says to webhooks: what of its history they are told, and what that shows.
//!
//! Called by the loop between its turns, with the farm as it is then. Nothing here waits.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use grange_protocol::history::{HistoryKind, HistoryView};

use super::event::Event;
use super::{Book, Webhooks};
use crate::farm::Farm;

impl Webhooks {
    /// At the start, before anything else happens: what the coordinator before had not noted yet.
    pub(crate) fn catch_up(&self, farm: &Farm) {
        let missed =
            std::mem::take(&mut *self.missed.lock().unwrap_or_else(PoisonError::into_inner));
        let mut book = self.book();
        // What does not wait until it is durable may have been noted all the same.
        let waiting: BTreeSet<String> = book.waiting().map(|event| event.id.clone()).collect();
        for happened in &missed {
            if let Some(event) = self.event(&book, farm, happened)
                && !waiting.contains(&event.id)
            {
                self.note(&mut book, happened.kind, event);
            }
        }
        self.heard(&mut book, &missed);
    }

    /// Changes that nobody could take back, before they are durable.
    pub(crate) fn hear(&self, farm: &Farm, happened: &[HistoryView]) {
        let mut book = self.book();
        for happened in happened {
            if let Some(event) = self.event(&book, farm, happened) {
                self.note(&mut book, happened.kind, event);
            }
        }
    }

    /// All that happened, now that it is durable.
    pub(crate) fn hear_durable(&self, farm: &Farm, happened: &[HistoryView]) {
        let mut book = self.book();
        for happened in happened.iter().filter(|happened| !is_told_at_once(happened.kind)) {
            if let Some(event) = self.event(&book, farm, happened) {
                self.note(&mut book, happened.kind, event);
            }
        }
        self.heard(&mut book, happened);
    }

    fn heard(&self, book: &mut Book, happened: &[HistoryView]) {
        if let Some(last) = happened.last() {
            book.heard = last.cursor;
            self.changed.notify_one();
        }
    }

    /// What is told of it, if anybody wants to hear of that.
    fn event(&self, book: &Book, farm: &Farm, happened: &HistoryView) -> Option<Event> {
        let HistoryView { cursor, at, kind, job, agent, .. } = happened;
        if !book.wanted.contains(kind) {
            return None;
        }
        let which = format!("{cursor}/{}", at.0);
        let (teller, kind) = (&self.teller, kind.name());
        match (job, agent) {
            (Some(job), _) => teller.event(kind, &which, *at, &farm.job_view(*job)?),
            (None, Some(agent)) => teller.event(kind, &which, *at, &farm.agent_view(*agent)?),
            (None, None) => teller.event(kind, &which, *at, &farm.farm_view()),
        }
    }
}

fn is_told_at_once(kind: HistoryKind) -> bool {
    matches!(
        kind,
        HistoryKind::AgentOnline
            | HistoryKind::AgentOffline
            | HistoryKind::StorageFull
            | HistoryKind::StorageRecovered
    )
}
