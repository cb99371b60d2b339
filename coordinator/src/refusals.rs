//! What was refused, in the log: once, and then how often.
//!
//! Whoever knocks ten thousand times must not fill a disk with lines, and must not hide the one line
//! that matters. The first refusal of a kind and of somebody is told at once; what follows within a
//! minute is counted and told in one line at its end.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the same refusal is only counted.
const WINDOW: Duration = Duration::from_secs(60);
/// How often it is looked whose window has ended.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Kinds and names that are told apart at once. Those of more are told together.
const TOLD_APART: usize = 128;
/// Characters of the particulars that are told.
const PARTICULARS_MAX: usize = 200;
/// Whose refusals are told together.
const OTHERS: &str = "others";

#[derive(Default)]
pub(crate) struct Refusals(Mutex<Ledger>);

/// What was told, and what was only counted since.
#[derive(Default)]
struct Ledger(HashMap<(&'static str, String), Counted>);

struct Counted {
    since: Instant,
    more: u64,
}

impl Refusals {
    /// Tells of the counted ones in time.
    pub(crate) fn keep(self: &Arc<Self>) {
        let refusals = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut looks = tokio::time::interval(LOOK_EVERY);
            loop {
                looks.tick().await;
                let Some(refusals) = refusals.upgrade() else { return };
                let lines = refusals.with(|ledger| ledger.due(Instant::now()));
                lines.into_iter().for_each(|line| tracing::warn!("{line}"));
            }
        });
    }

    /// `who` was refused for `what`, which is one of a few sentences; `why` has the particulars.
    pub(crate) fn note(&self, what: &'static str, who: &str, why: impl Display) {
        if let Some(who) = self.with(|ledger| ledger.note(Instant::now(), what, who)) {
            tracing::warn!("{who}: {what} ({})", in_one_line(&why.to_string()));
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Ledger {
    /// Whom the line is about, if there is to be one.
    fn note(&mut self, now: Instant, what: &'static str, who: &str) -> Option<String> {
        let mut key = (what, who.to_owned());
        if !self.0.contains_key(&key) && self.0.len() >= TOLD_APART {
            key.1 = OTHERS.into();
        }
        match self.0.get_mut(&key) {
            Some(counted) => {
                counted.more += 1;
                None
            }
            None => {
                let who = key.1.clone();
                self.0.insert(key, Counted { since: now, more: 0 });
                Some(who)
            }
        }
    }

    /// The lines of those whose window has ended.
    fn due(&mut self, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        self.0.retain(|(what, who), counted| {
            if now.duration_since(counted.since) < WINDOW {
                return true;
            }
            if counted.more == 0 {
                return false;
            }
            lines.push(format!(
                "{who}: {what}, {} times more in {} s",
                counted.more,
                WINDOW.as_secs()
            ));
            *counted = Counted { since: now, more: 0 };
            true
        });
        lines.sort();
        lines
    }
}

/// Particulars may have the other side's own words in them.
fn in_one_line(text: &str) -> String {
    let plain = text.chars().map(|char| if char.is_control() { ' ' } else { char });
    plain.take(PARTICULARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_the_rest_is_counted() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        assert_eq!(ledger.note(start, "no token", "10.0.0.1").as_deref(), Some("10.0.0.1"));
        for _ in 0..9_999 {
            assert_eq!(ledger.note(start, "no token", "10.0.0.1"), None);
        }
        assert!(ledger.note(start, "no token", "10.0.0.2").is_some());
        assert!(ledger.note(start, "no sense", "10.0.0.1").is_some());
        assert!(ledger.due(start + WINDOW / 2).is_empty());
        let told = ledger.due(start + WINDOW);
        assert_eq!(told, ["10.0.0.1: no token, 9999 times more in 60 s"]);
        // It goes on in a new window, and is told anew after a silent one.
        assert_eq!(ledger.note(start + WINDOW, "no token", "10.0.0.1"), None);
        assert_eq!(ledger.due(start + WINDOW * 2).len(), 1);
        assert!(ledger.due(start + WINDOW * 3).is_empty());
        assert!(ledger.note(start + WINDOW * 3, "no token", "10.0.0.1").is_some());
    }

    #[test]
    fn nobody_writes_a_line_of_their_own() {
        let told = in_one_line(&format!("gone\nWARN all is lost\x1b[2J{}", "x".repeat(1_000)));
        assert!(told.starts_with("gone WARN all is lost [2J"), "{told}");
        assert_eq!(told.chars().count(), PARTICULARS_MAX);
    }

    #[test]
    fn many_names_are_told_together() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let told: Vec<String> =
            (0..10_000).filter_map(|n| ledger.note(start, "no token", &n.to_string())).collect();
        assert_eq!(told.len(), TOLD_APART + 1);
        assert_eq!(told.last().map(String::as_str), Some(OTHERS));
        assert_eq!(ledger.0.len(), TOLD_APART + 1);
    }
}
