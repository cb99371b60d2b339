//! An instance that is no process: somebody in this program takes its orders and says what happens.
//!
//! A farm that lives in a time of its own needs such ones, for a process lives in everybody's.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};

use super::exit::{Exit, ExitHow};
use super::group::Group;
use super::wire::Hello;
use super::{EVENTS_MAX, Instance, InstanceEvent, ORDERS_MAX, Order, Shared};

/// The other end of an instance. Dropped before [`exit`](Self::exit), it ends without a word, as no
/// process does.
#[derive(Debug)]
pub struct StandIn {
    /// Ends when the instance is dropped.
    pub orders: mpsc::Receiver<Order>,
    /// All but the end.
    pub events: mpsc::Sender<InstanceEvent>,
    /// Notified when the instance is killed.
    pub killed: Arc<Notify>,
    who: String,
}

impl StandIn {
    /// Tells how it ended.
    pub async fn exit(self, how: ExitHow) {
        let exit = Exit::new(how, self.who, "", None);
        // Nobody listens to an instance that was dropped.
        let _ = self.events.send(InstanceEvent::Exited(exit)).await;
    }
}

impl Instance {
    /// An instance that says of itself that it is this version of Blender, such as `4.2.0`.
    pub fn stand_in(version: &str) -> (Self, mpsc::Receiver<InstanceEvent>, StandIn) {
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        let (happened, events) = mpsc::channel(EVENTS_MAX);
        let shared = Arc::new(Shared::new(Group::of_child(None)));
        let killed = shared.killed.clone();
        let stand_in = StandIn {
            orders: ordered,
            events: happened,
            killed,
            who: format!("Blender {version}"),
        };
        (Self { orders, shared, hello: Hello::of(version) }, events, stand_in)
    }
}
