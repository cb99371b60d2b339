//! Places for those who have not shown yet who they are.
//!
//! There are as many as memory and files allow. Whoever comes when all are taken, or all that their
//! address may have, gets the one that was taken for the longest time: one who belongs to the farm
//! needs it for a moment, and those who only sit there need it for ever. So a crowd of strangers takes
//! bounded memory and keeps nobody out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

pub(crate) struct Strangers {
    max: usize,
    /// Of one source, which shall not be able to take all from the others.
    per_source_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    last: u64,
    /// By when they were taken.
    places: BTreeMap<u64, (Source, oneshot::Sender<()>)>,
    per_source: HashMap<Source, BTreeSet<u64>>,
}

/// An address, or the part of it that a network gives to one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Source(IpAddr);

/// A place that is taken. Dropped, it is free again.
pub(crate) struct Place {
    number: u64,
    strangers: Arc<Strangers>,
}

/// Tells that somebody else has got the place.
pub(crate) struct SentAway(oneshot::Receiver<()>);

impl Strangers {
    pub(crate) fn new(max: usize, per_source_max: usize) -> Arc<Self> {
        Arc::new(Self { max, per_source_max, taken: Mutex::default() })
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().places.len()
    }

    /// A place for somebody from there.
    pub(crate) fn admit(self: &Arc<Self>, from: IpAddr) -> (Place, SentAway) {
        let source = Source::of(from);
        let mut taken = self.lock();
        let own = taken.per_source.get(&source).filter(|own| own.len() >= self.per_source_max);
        let oldest = match own {
            Some(own) => own.first().copied(),
            None if taken.places.len() >= self.max => taken.places.keys().next().copied(),
            None => None,
        };
        if let Some(gives_way) = oldest.and_then(|oldest| taken.free(oldest)) {
            // Whoever has gone meanwhile need not hear of it.
            let _ = gives_way.send(());
        }
        let (give_way, told) = oneshot::channel();
        taken.last += 1;
        let number = taken.last;
        taken.places.insert(number, (source, give_way));
        taken.per_source.entry(source).or_default().insert(number);
        (Place { number, strangers: self.clone() }, SentAway(told))
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn free(&mut self, number: u64) -> Option<oneshot::Sender<()>> {
        let (source, give_way) = self.places.remove(&number)?;
        if let Some(own) = self.per_source.get_mut(&source) {
            own.remove(&number);
            if own.is_empty() {
                self.per_source.remove(&source);
            }
        }
        Some(give_way)
    }
}

impl SentAway {
    /// Ends when it is so, and never if the place was given back before.
    pub(crate) async fn told(self) {
        if self.0.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.strangers.lock().free(self.number);
    }
}

impl Source {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            v4 => v4,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_sent_away(told: &mut SentAway) -> bool {
        told.0.try_recv().is_ok()
    }

    #[test]
    fn who_has_waited_longest_gives_way_and_a_place_that_was_given_back_is_free() {
        let strangers = Strangers::new(2, 2);
        let from = |last: u8| IpAddr::from([10, 0, 0, last]);
        let (first, mut first_told) = strangers.admit(from(1));
        let (second, mut second_told) = strangers.admit(from(2));
        let (_third, _told) = strangers.admit(from(3));
        assert!(is_sent_away(&mut first_told) && !is_sent_away(&mut second_told));
        assert_eq!(strangers.count(), 2);
        drop((first, second));
        assert_eq!(strangers.count(), 1);
        let (_fourth, _told) = strangers.admit(from(4));
        assert_eq!(strangers.count(), 2);
        assert!(!is_sent_away(&mut second_told), "its place was free already");
    }

    #[test]
    fn an_address_with_all_its_places_gives_way_to_itself() {
        let strangers = Strangers::new(9, 1);
        let of = |text: &str| text.parse::<IpAddr>().unwrap();
        let (_v4, mut v4_told) = strangers.admit(of("10.0.0.1"));
        let (_v6, mut v6_told) = strangers.admit(of("2001:db8::1"));
        let _other = strangers.admit(of("10.0.0.2"));
        let _other_subscriber = strangers.admit(of("2001:db8:0:1::1"));
        assert!(!is_sent_away(&mut v4_told) && !is_sent_away(&mut v6_told));
        let _same = strangers.admit(of("::ffff:10.0.0.1"));
        assert!(is_sent_away(&mut v4_told));
        let _same = strangers.admit(of("2001:db8::2:1"));
        assert!(is_sent_away(&mut v6_told));
        assert_eq!(strangers.count(), 4);
    }
}
