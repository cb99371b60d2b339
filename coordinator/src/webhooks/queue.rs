//! What one webhook is still to be told, and when. Pure: time comes in, nothing goes out.
//!
//! Events are told in their order. One that was not taken is told again after growing pauses, each its
//! own, so that one that a receiver cannot bear does not hold up those after it. Meanwhile the
//! receiver rests: whoever is away is not asked anew with every event. Once it takes one again, all
//! that it missed follows at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use grange_protocol::Millis;

use super::event::Event;

/// Events that wait for one receiver. Full, the oldest one is dropped.
pub(super) const WAITING_MAX: usize = 2_000;
/// A receiver that fails is asked again after so long at the latest.
const REST_MAX: Duration = Duration::from_secs(5 * 60);
/// So many failures without a success between them, and the receiver counts as away.
const AWAY_AFTER: usize = 2;

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    failures_in_row: usize,
    rests_until: Millis,
    /// It wants to hear nothing more.
    is_gone: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) event: Arc<Event>,
    /// That have failed.
    pub(super) attempts: usize,
    due: Millis,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Send(Arc<Event>),
    /// Look again then, or when something has come.
    Wait(Millis),
    /// Look again when something has come.
    Nothing,
}

/// What becomes of an event that was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    Again {
        at: Millis,
    },
    GivenUp,
    /// It was dropped while it was under way.
    Dropped,
}

impl Queue {
    /// One more event. Returns whether the oldest was dropped for it.
    pub(super) fn push(&mut self, event: Arc<Event>, attempts: usize) -> bool {
        if self.is_gone {
            return false;
        }
        let is_full = self.waiting.len() >= WAITING_MAX;
        if is_full {
            self.waiting.pop_front();
        }
        self.waiting.push_back(Waiting { event, attempts, due: Millis(0) });
        is_full
    }

    pub(super) fn next(&self, now: Millis) -> Next {
        let Some(first_due) = self.waiting.iter().map(|waiting| waiting.due).min() else {
            return Next::Nothing;
        };
        let at = first_due.max(self.rests_until);
        if at > now {
            return Next::Wait(at);
        }
        let due = self.waiting.iter().find(|waiting| waiting.due <= now);
        due.map_or(Next::Nothing, |waiting| Next::Send(waiting.event.clone()))
    }

    /// It was taken. Returns whether the receiver was away before.
    pub(super) fn delivered(&mut self, id: &str) -> bool {
        self.waiting.retain(|waiting| waiting.event.id != id);
        let was_away = self.failures_in_row >= AWAY_AFTER;
        self.failures_in_row = 0;
        self.rests_until = Millis(0);
        if was_away {
            for waiting in &mut self.waiting {
                waiting.due = Millis(0);
            }
        }
        was_away
    }

    /// It was not taken. `stretch` is how much longer than the schedule the pauses are, so that not
    /// everybody comes back at once; `asked_for` is what the receiver wants to be spared.
    pub(super) fn failed(
        &mut self,
        id: &str,
        now: Millis,
        pauses: &[Duration],
        stretch: f64,
        asked_for: Option<Duration>,
    ) -> Then {
        let stretched = |pause: Duration| pause.mul_f64(stretch);
        let rest = pauses.get(self.failures_in_row.min(pauses.len().saturating_sub(1)));
        let rest = stretched(rest.copied().unwrap_or_default().min(REST_MAX));
        self.failures_in_row += 1;
        self.rests_until = after(now, rest.max(asked_for.unwrap_or_default()));
        let Some(at) = self.waiting.iter().position(|waiting| waiting.event.id == id) else {
            return Then::Dropped;
        };
        let waiting = &mut self.waiting[at];
        waiting.attempts += 1;
        match pauses.get(waiting.attempts - 1) {
            Some(pause) => {
                waiting.due = after(now, stretched(*pause).max(asked_for.unwrap_or_default()));
                Then::Again { at: waiting.due }
            }
            None => {
                self.waiting.remove(at);
                Then::GivenUp
            }
        }
    }

    /// It wants to hear nothing more.
    pub(super) fn is_gone(&mut self) {
        self.is_gone = true;
        self.waiting.clear();
    }

    pub(super) fn waiting(&self) -> &VecDeque<Waiting> {
        &self.waiting
    }
}

fn after(now: Millis, pause: Duration) -> Millis {
    now + u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSES: [Duration; 3] =
        [Duration::from_secs(5), Duration::from_secs(300), Duration::from_secs(1_800)];

    fn event(id: &str) -> Arc<Event> {
        Arc::new(Event { id: id.into(), kind: "job.completed".into(), body: String::new() })
    }

    fn queue(ids: &[&str]) -> Queue {
        let mut queue = Queue::default();
        for id in ids {
            assert!(!queue.push(event(id), 0));
        }
        queue
    }

    fn secs(seconds: u64) -> Millis {
        Millis(seconds * 1_000)
    }

    #[test]
    fn events_go_in_their_order() {
        let mut queue = queue(&["a", "b"]);
        assert_eq!(queue.next(secs(0)), Next::Send(event("a")));
        assert!(!queue.delivered("a"));
        assert_eq!(queue.next(secs(0)), Next::Send(event("b")));
        queue.delivered("b");
        assert_eq!(queue.next(secs(0)), Next::Nothing);
    }

    #[test]
    fn pauses_grow_until_the_event_is_given_up() {
        let mut queue = queue(&["a"]);
        let mut now = secs(0);
        for pause in PAUSES {
            let at = after(now, pause);
            assert_eq!(queue.failed("a", now, &PAUSES, 1.0, None), Then::Again { at });
            assert_eq!(queue.next(Millis(at.0 - 1)), Next::Wait(at));
            assert_eq!(queue.next(at), Next::Send(event("a")));
            now = at;
        }
        assert_eq!(queue.failed("a", now, &PAUSES, 1.0, None), Then::GivenUp);
        assert_eq!(queue.next(secs(1_000_000)), Next::Nothing);
    }

    #[test]
    fn a_receiver_that_is_away_rests_and_then_hears_all_it_missed_in_order() {
        let mut queue = queue(&["a", "b", "c"]);
        queue.failed("a", secs(0), &PAUSES, 1.0, None);
        // Not even another event is tried at once.
        assert_eq!(queue.next(secs(1)), Next::Wait(secs(5)));
        assert_eq!(queue.next(secs(5)), Next::Send(event("a")));
        queue.failed("a", secs(5), &PAUSES, 1.0, None);
        assert_eq!(queue.next(secs(6)), Next::Wait(secs(305)));
        queue.failed("a", secs(305), &PAUSES, 1.0, None);
        // "a" is due in half an hour, but the receiver is asked before that.
        assert_eq!(queue.next(secs(605)), Next::Send(event("b")));
        assert!(queue.delivered("b"), "it was away");
        assert_eq!(queue.next(secs(605)), Next::Send(event("a")));
        queue.delivered("a");
        assert_eq!(queue.next(secs(605)), Next::Send(event("c")));
    }

    #[test]
    fn an_event_that_is_never_taken_holds_up_no_other() {
        let mut queue = queue(&["bad", "b", "c"]);
        queue.failed("bad", secs(0), &PAUSES, 1.0, None);
        queue.failed("bad", secs(5), &PAUSES, 1.0, None);
        assert_eq!(queue.next(secs(304)), Next::Wait(secs(305)));
        queue.failed("bad", secs(305), &PAUSES, 1.0, None);
        assert_eq!(queue.next(secs(605)), Next::Send(event("b")));
        assert!(queue.delivered("b"));
        // Once more, for the receiver may be back.
        assert_eq!(queue.next(secs(605)), Next::Send(event("bad")));
        assert_eq!(queue.failed("bad", secs(605), &PAUSES, 1.0, None), Then::GivenUp);
        assert_eq!(queue.next(secs(610)), Next::Send(event("c")));
    }

    #[test]
    fn a_receiver_is_spared_as_it_asks() {
        let mut queue = queue(&["a"]);
        let asked_for = Some(Duration::from_secs(60));
        let then = queue.failed("a", secs(0), &PAUSES, 1.0, asked_for);
        assert_eq!(then, Then::Again { at: secs(60) });
        assert_eq!(queue.next(secs(59)), Next::Wait(secs(60)));
    }

    #[test]
    fn a_full_queue_drops_the_oldest_and_one_that_is_gone_takes_none() {
        let mut queue = Queue::default();
        for number in 0..WAITING_MAX {
            assert!(!queue.push(event(&number.to_string()), 0));
        }
        assert!(queue.push(event("last"), 0));
        assert_eq!(queue.next(secs(0)), Next::Send(event("1")));
        assert_eq!(queue.waiting().len(), WAITING_MAX);
        assert_eq!(queue.failed("0", secs(0), &PAUSES, 1.0, None), Then::Dropped);
        queue.is_gone();
        assert!(!queue.push(event("more"), 0));
        assert_eq!(queue.next(secs(100)), Next::Nothing);
    }
}
