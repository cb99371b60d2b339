//! What webhooks are told of, and in which words.
//!
//! A body says the kind, when it happened, whose farm it is, and shows the job, the agent or the
//! farm as the HTTP API shows it. An event's id is made of what happened, so it is the same whenever
//! and however often the event is told, by this coordinator or by one that starts after it.

use grange_protocol::history::HistoryKind;
use grange_protocol::shot::Label;
use grange_protocol::{BlobHash, Millis};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What a webhook can ask for, of all that the history has.
pub(crate) const KINDS: [HistoryKind; 12] = [
    HistoryKind::JobSubmitted,
    HistoryKind::JobStarted,
    HistoryKind::JobPaused,
    HistoryKind::JobResumed,
    HistoryKind::JobRetried,
    HistoryKind::JobCompleted,
    HistoryKind::JobFailed,
    HistoryKind::JobCanceled,
    HistoryKind::AgentOnline,
    HistoryKind::AgentOffline,
    HistoryKind::StorageFull,
    HistoryKind::StorageRecovered,
];
/// Somebody tries a webhook out.
pub(crate) const TEST: &str = "webhook.test";

/// Something that happened, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// The same whenever it is told.
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// JSON, as it is signed and sent.
    pub(crate) body: String,
}

/// Who tells.
#[derive(Clone, Debug)]
pub(crate) struct Teller {
    pub(crate) farm: Label,
    /// Of the farm's certificate authority: two farms of the same name never give the same id.
    pub(crate) authority: BlobHash,
}

#[derive(Serialize)]
struct Body<'a, D> {
    #[serde(rename = "type")]
    kind: &'a str,
    timestamp: String,
    farm: &'a Label,
    data: &'a D,
}

impl Teller {
    /// `which` tells it from all others of its kind.
    pub(crate) fn event(
        &self,
        kind: &str,
        which: &str,
        at: Millis,
        data: &impl Serialize,
    ) -> Option<Event> {
        let origin = format!("{}/{kind}/{which}", self.authority);
        let hash = BlobHash::of(origin.as_bytes()).to_string();
        let body = Body { kind, timestamp: rfc3339(at)?, farm: &self.farm, data };
        let body = serde_json::to_string(&body).ok()?;
        Some(Event { id: format!("msg_{}", hash.get(..32)?), kind: kind.into(), body })
    }
}

/// `None` after the year 9999.
fn rfc3339(at: Millis) -> Option<String> {
    let nanoseconds = i128::from(at.0) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn teller() -> Teller {
        Teller { farm: "meadow".parse().unwrap(), authority: BlobHash::of(b"a CA") }
    }

    #[test]
    fn a_body_says_what_happened_when_and_where() {
        let at = Millis(1_667_507_170_344);
        let event = teller().event("job.completed", "7", at, &json!({ "id": 7 })).unwrap();
        let body: Value = serde_json::from_str(&event.body).unwrap();
        let expected = json!({
            "type": "job.completed", "timestamp": "2022-11-03T20:26:10.344Z", "farm": "meadow",
            "data": { "id": 7 },
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn an_id_tells_events_apart_and_is_the_same_for_the_same() {
        let id_of = |teller: Teller, kind, which, at| {
            teller.event(kind, which, Millis(at), &()).unwrap().id
        };
        let id = id_of(teller(), "job.paused", "7/1", 5);
        // A coordinator that starts anew may look later.
        assert_eq!(id, id_of(teller(), "job.paused", "7/1", 6));
        assert_ne!(id, id_of(teller(), "job.resumed", "7/1", 5));
        assert_ne!(id, id_of(teller(), "job.paused", "7/2", 5));
        let other = Teller { authority: BlobHash::of(b"another CA"), ..teller() };
        assert_ne!(id, id_of(other, "job.paused", "7/1", 5));
        // A full stop in it would let a body pass for another one.
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{id}");
    }
}
