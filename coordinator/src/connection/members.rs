//! What one identity may have of the coordinator at once, over all of its connections: a host that
//! somebody has taken over must not get all that there is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use grange_protocol::AgentId;
use tokio::sync::{Semaphore, watch};

/// Connections of one identity. People run many programs as one, and an agent comes back before its
/// old connection is seen to be dead.
const CONNECTIONS: usize = 64;
/// Files on their way to or from one identity; half of all, so that no one has them all.
const TRANSFERS: usize = 32;
/// First messages of more than [`super::SMALL`] bytes that are taken in at once.
const LARGE: usize = 8;
/// Small pictures of so many files on their way from one identity: agents make them one at a time.
const PICTURES: usize = 1;

#[derive(Default)]
pub(crate) struct Members(Mutex<Here>);

#[derive(Default)]
struct Here {
    known: HashMap<AgentId, Known>,
    /// Of all.
    connections: usize,
}

struct Known {
    connections: usize,
    bounds: Arc<Bounds>,
}

/// What the connections of one identity share.
pub(super) struct Bounds {
    /// More wait.
    pub(super) transfers: Semaphore,
    /// More wait.
    pub(super) large: Semaphore,
    /// More wait.
    pub(super) pictures: Semaphore,
    /// It is no member any more.
    removed: watch::Sender<bool>,
}

/// A connection that counts.
pub(super) struct Entered {
    members: Arc<Members>,
    id: AgentId,
    pub(super) bounds: Arc<Bounds>,
}

impl Members {
    /// Counts one connection more; none if that is too many.
    pub(super) fn enter(self: &Arc<Self>, id: AgentId) -> Option<Entered> {
        let mut here = self.lock();
        let known = here.known.entry(id).or_insert_with(|| Known {
            connections: 0,
            bounds: Arc::new(Bounds {
                transfers: Semaphore::new(TRANSFERS),
                large: Semaphore::new(LARGE),
                pictures: Semaphore::new(PICTURES),
                removed: watch::Sender::new(false),
            }),
        });
        if known.connections >= CONNECTIONS {
            return None;
        }
        known.connections += 1;
        let bounds = known.bounds.clone();
        here.connections += 1;
        Some(Entered { members: self.clone(), id, bounds })
    }

    /// Ends the connections of somebody who is no member any more.
    pub(super) fn dismiss(&self, id: AgentId) {
        if let Some(known) = self.lock().known.get(&id) {
            known.bounds.removed.send_replace(true);
        }
    }

    /// Connections of all.
    pub(super) fn connections(&self) -> usize {
        self.lock().connections
    }

    fn lock(&self) -> MutexGuard<'_, Here> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entered {
    /// Waits until the member is removed.
    pub(super) async fn removed(&self) {
        let mut removed = self.bounds.removed.subscribe();
        // The sender lives as long as this does.
        let _ = removed.wait_for(|removed| *removed).await;
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut here = self.members.lock();
        here.connections -= 1;
        if let Some(known) = here.known.get_mut(&self.id) {
            known.connections -= 1;
            if known.connections == 0 {
                here.known.remove(&self.id);
            }
        }
    }
}
