//! Links that sign a browser in to the dashboard: each good once, and for a few minutes.
//!
//! In memory only: a coordinator that starts anew knows none, and people ask for another.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use grange_protocol::Millis;
use grange_protocol::client::Role;
use grange_protocol::shot::Label;
use grange_scheduler::TokenHash;

const GOOD_FOR_MS: u64 = 5 * 60 * 1_000;
/// Links that wait to be followed. Full, the one that ends first is forgotten.
const LINKS_MAX: usize = 256;

#[derive(Default)]
pub(crate) struct Links(Mutex<BTreeMap<TokenHash, Link>>);

struct Link {
    name: Label,
    role: Role,
    expires_at: Millis,
}

impl Links {
    /// The secret of a new link, and when it ends.
    pub(crate) fn make(
        &self,
        name: Label,
        role: Role,
        now: Millis,
    ) -> Result<(String, Millis), getrandom::Error> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret)?;
        let expires_at = now + GOOD_FOR_MS;
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|_, link| link.expires_at > now);
        if links.len() >= LINKS_MAX {
            let first = links.iter().min_by_key(|(_, link)| link.expires_at).map(|(hash, _)| *hash);
            first.and_then(|hash| links.remove(&hash));
        }
        links.insert(TokenHash::of(&secret), Link { name, role, expires_at });
        Ok((secret.iter().map(|byte| format!("{byte:02x}")).collect(), expires_at))
    }

    /// Whom the link is for, if it is good; it is not any more after this.
    pub(crate) fn take(&self, secret: &[u8; 16], now: Millis) -> Option<(Label, Role)> {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let link = links.remove(&TokenHash::of(secret)).filter(|link| link.expires_at > now)?;
        Some((link.name, link.role))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grange_protocol::connect::parse_token;

    fn made(links: &Links, now: u64) -> [u8; 16] {
        let name = "ada".parse().unwrap();
        let (secret, _) = links.make(name, Role::Submitter, Millis(now)).unwrap();
        parse_token(&secret).unwrap()
    }

    #[test]
    fn a_link_is_good_once_and_for_five_minutes() {
        let links = Links::default();
        let (one, other) = (made(&links, 0), made(&links, 0));
        let ada = Some(("ada".parse().unwrap(), Role::Submitter));
        assert_eq!(links.take(&one, Millis(GOOD_FOR_MS - 1)), ada);
        assert_eq!(links.take(&one, Millis(GOOD_FOR_MS - 1)), None);
        assert_eq!(links.take(&other, Millis(GOOD_FOR_MS)), None);
    }

    #[test]
    fn of_too_many_links_the_one_that_ends_first_is_forgotten() {
        let links = Links::default();
        let first = made(&links, 0);
        let later: Vec<[u8; 16]> = (1..=LINKS_MAX as u64).map(|at| made(&links, at)).collect();
        assert_eq!(links.take(&first, Millis(1)), None);
        assert!(later.iter().all(|link| links.take(link, Millis(1)).is_some()));
    }
}
