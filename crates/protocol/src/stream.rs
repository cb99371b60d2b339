//! How a stream begins. Whoever opens one sends an [`Open`] frame that says what it is for.
//!
//! | opened with | by | then |
//! | --- | --- | --- |
//! | `Control` | agent | [`Welcome`](crate::agent::Welcome), then batches both ways |
//! | `Call` | client, agent | one [`Response`](crate::client::Response) or refusal |
//! | `Watch` | client | [`WatchEvent`](crate::view::WatchEvent)s until either side ends it |
//! | `PutBlob`; `PutOutput`, `PutPictures` | client; agent | see [`file`](crate::file) |
//! | `GetBlob` | client, agent | see [`file`](crate::file) |
//! | `Session` | agent | [`ToSession`](crate::session::ToSession) and [`FromSession`](crate::session::FromSession), until either side ends it |

use serde::{Deserialize, Serialize};

use crate::agent::AgentHello;
use crate::client::{Request, WatchRequest};
use crate::file::{GetBlob, PutBlob, PutOutput, PutPictures};
use crate::session::OpenSession;

/// The ALPN of an enrolled peer; the number changes when old and new can no longer talk.
pub const ALPN_FARM: &[u8] = b"grange/5";
/// The ALPN of a peer that has a join token and no certificate yet.
pub const ALPN_JOIN: &[u8] = b"grange-join/1";

/// The name that every coordinator's certificate carries, whatever its address is.
pub const COORDINATOR_NAME: &str = "coordinator.grange.internal";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Open {
    Control(Box<AgentHello>),
    Call(Box<Request>),
    Watch(WatchRequest),
    PutBlob(PutBlob),
    PutOutput(PutOutput),
    GetBlob(GetBlob),
    Session(OpenSession),
    PutPictures(PutPictures),
}
