//! Who knocks, and who is let in to show who they are.
//!
//! A handshake costs memory and a signature, and anybody who reaches the port may ask for one. So it
//! has a place among few ([`Strangers`]); when many have one, whoever comes has to show first that its
//! address is its own, which costs nothing here; and those who are already leaving count as well.

use std::sync::Arc;

use grange_transport::Listener;
use grange_transport::endpoint::Knock;

use super::{Shared, serve};
use crate::strangers::Strangers;

/// Connections of those who have not shown who they are: handshakes, and newcomers that join. Each
/// takes up to 120 KiB, most of it quinn's buffer for what it sends.
const STRANGERS: usize = 256;
/// Of them from one address: one may hide many hosts, which all come back at once.
const OF_ONE_ADDRESS: usize = 64;
/// From so many on addresses are validated, which takes honest ones a round trip.
const CROWD: usize = 32;
/// Connections that are no member's, with those that were sent away and are still in the books, for
/// as long as a last packet may be on its way. Beyond, nobody is let in for a moment.
const NOT_MEMBERS: usize = 448;

pub(crate) fn strangers() -> Arc<Strangers> {
    Strangers::new(STRANGERS, OF_ONE_ADDRESS)
}

/// Lets in whoever knocks, until the listener is closed.
pub(crate) async fn keep(shared: Arc<Shared>, listener: Listener) {
    while let Some(knock) = listener.knock().await {
        let others = listener.connections().saturating_sub(shared.members.connections());
        answer(&shared, knock, others);
    }
}

fn answer(shared: &Arc<Shared>, knock: Knock, others: usize) {
    let from = knock.remote().ip();
    if others >= NOT_MEMBERS {
        knock.refuse();
        shared.refusals.note(
            "a connection was refused because too many are being opened",
            &from.to_canonical().to_string(),
            format_args!("{others} that have not shown who they are"),
        );
        return;
    }
    if !knock.is_validated() && shared.strangers.count() >= CROWD {
        knock.validate();
        return;
    }
    let (place, sent_away) = shared.strangers.admit(from);
    tokio::spawn(serve(shared.clone(), knock, place, sent_away));
}
