//! What newcomers and members show of themselves. A newcomer's request is read before its token is
//! looked at, so by anybody's wish.

use std::cell::OnceCell;

use grange_protocol::AgentId;
use grange_protocol::client::Role;
use grange_protocol::shot::Label;
use grange_transport::{Authority, Peer};

use crate::{Target, scratch};

/// A request to sign a key, and a certificate, both in DER.
pub(super) const CERTIFICATE: Target = Target {
    name: "certificate",
    len_max: 4 << 10,
    memory: |input| (1 << 20) + 128 * input.len(),
    // Keys are made of random numbers: what there is to begin with is kept.
    seeds: Vec::new,
    read: |input| {
        AUTHORITY.with(|authority| {
            let (authority, newcomer) = authority.get_or_init(farm);
            if let Ok(signed) = authority.sign(input, newcomer) {
                // Whatever the request says of itself, name and role are the farm's.
                assert_eq!(Peer::of(&signed).as_ref().ok(), Some(newcomer));
            }
        });
        let _ = Peer::of(&input.into());
    },
};

thread_local! {
    static AUTHORITY: OnceCell<(Authority, Peer)> = const { OnceCell::new() };
}

/// A farm's authority, and somebody who joins it.
fn farm() -> (Authority, Peer) {
    let name = |name: &str| name.parse::<Label>().expect("a name");
    let authority = Authority::open(&scratch::folder(), &name("farm")).expect("an authority");
    let id = AgentId::default();
    (authority, Peer { id, role: Role::Agent, name: name("render-01") })
}
