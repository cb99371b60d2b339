//! Files that come in parts, for whoever knows what docs/http-api.md says of it.

use std::io::Read;
use std::sync::mpsc;
use std::thread;

use grange_protocol::BlobHash;
use serde_json::{Value, json};

use crate::support::farm::Farm;
use crate::support::http::{Answer, Http};
use crate::support::pictures::names;
use crate::support::{eventually, seed};

const PART: &str = "application/partial-upload";

fn noise(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed(5));
    (0..len).map(|_| random.u8(..)).collect()
}

/// Begins one, and says where it is.
#[track_caller]
fn begin(http: &Http, len: usize, query: &str) -> String {
    let len = len.to_string();
    let headers = [("Upload-Length", len.as_str()), ("Upload-Complete", "?0")];
    let answer = http.send("POST", &format!("/api/v1/uploads{query}"), &headers, Vec::new());
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.headers["upload-limit"], "max-size=1099511627776");
    answer.headers["location"].to_str().unwrap().to_owned()
}

fn append(http: &Http, upload: &str, offset: usize, complete: &str, bytes: &[u8]) -> Answer {
    let offset = offset.to_string();
    let headers =
        [("Content-Type", PART), ("Upload-Offset", offset.as_str()), ("Upload-Complete", complete)];
    http.send("PATCH", upload, &headers, bytes.to_vec())
}

/// What HEAD tells: offset, length, whether it is complete.
#[track_caller]
fn head(http: &Http, upload: &str) -> [String; 3] {
    let answer = http.send("HEAD", upload, &[], Vec::new());
    assert_eq!((answer.status, &answer.body[..]), (200, &b""[..]));
    assert_eq!(answer.headers["cache-control"], "no-store");
    ["upload-offset", "upload-length", "upload-complete"]
        .map(|name| answer.headers[name].to_str().unwrap().to_owned())
}

fn blob_of(bytes: &[u8]) -> Value {
    json!({ "hash": BlobHash::of(bytes).to_string(), "len": bytes.len() })
}

/// Names of what has not arrived whole.
fn arriving(farm: &Farm) -> Vec<String> {
    names(&farm.home().join("coordinator/store/arriving"))
}

/// Waits until so many bytes of a file have arrived. Nobody is told to stop for that.
fn wait_for_bytes(farm: &Farm, bytes: u64) {
    let folder = farm.home().join("coordinator/store/arriving");
    eventually("most of it has arrived", || {
        let name = names(&folder).pop()?;
        (std::fs::metadata(folder.join(name)).ok()?.len() >= bytes).then_some(())
    });
}

#[test]
fn a_file_comes_in_parts_and_the_last_answer_tells_its_hash() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let bytes = noise(3_000_000);
    let upload = begin(&http, bytes.len(), "");
    assert_eq!(head(&http, &upload), ["0", "3000000", "?0"]);

    let part = append(&http, &upload, 0, "?0", &bytes[..1_000_000]);
    assert_eq!((part.status, &part.body[..]), (204, &b""[..]));
    assert_eq!(part.headers["upload-offset"], "1000000");
    assert_eq!(part.headers["upload-complete"], "?0");
    // All that there is, which does not make it complete.
    assert_eq!(append(&http, &upload, 1_000_000, "?0", &bytes[1_000_000..]).status, 204);
    let state = json!({ "offset": 3_000_000, "len": 3_000_000, "blob": null });
    assert_eq!(http.get(&upload).json(200), state);

    let last = append(&http, &upload, 3_000_000, "?1", b"");
    let path = format!("/api/v1/blobs/{}", BlobHash::of(&bytes));
    assert_eq!(last.headers["upload-complete"], "?1");
    assert_eq!(last.headers["location"], path.as_str());
    assert_eq!(last.json(201), blob_of(&bytes));
    assert_eq!(http.get(&path).body, bytes);
    assert_eq!(arriving(&farm), [""; 0]);

    // Whoever has not heard the last answer asks.
    assert_eq!(head(&http, &upload), ["3000000", "3000000", "?1"]);
    let state = json!({ "offset": 3_000_000, "len": 3_000_000, "blob": blob_of(&bytes) });
    assert_eq!(http.get(&upload).json(200), state);
    append(&http, &upload, 3_000_000, "?1", b"").problem(409, "conflict", "is complete");
    assert_eq!(http.send("DELETE", &upload, &[], Vec::new()).status, 204);
    http.get(&upload).problem(404, "not_found", "no such upload");
}

#[test]
fn an_upload_is_only_for_who_has_begun_it() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let upload = begin(&http, 10, "");
    append(&http, &upload, 0, "?0", b"01234");

    let other = Http::of(&farm, "admin");
    let looks = Http::of(&farm, "viewer");
    other.get(&upload).problem(404, "not_found", "no such upload of yours");
    append(&other, &upload, 5, "?1", b"56789").problem(404, "not_found", "no such upload");
    other.send("DELETE", &upload, &[], Vec::new()).problem(404, "not_found", "no such upload");
    append(&looks, &upload, 5, "?1", b"56789").problem(403, "forbidden", "viewer");
    looks.send("POST", "/api/v1/uploads", &[("Upload-Length", "10")], Vec::new()).problem(
        403,
        "forbidden",
        "viewer",
    );
    http.with_token(&"0".repeat(32)).get(&upload).problem(401, "bad_token", "unknown");
    for unknown in ["0123456789abcdef0123456789abcdef", "no-id"] {
        let unknown = format!("/api/v1/uploads/{unknown}");
        append(&http, &unknown, 0, "?1", b"").problem(404, "not_found", "begin it anew");
    }
    assert_eq!(append(&http, &upload, 5, "?1", b"56789").json(201), blob_of(b"0123456789"));
}

#[test]
fn what_does_not_fit_an_upload_is_refused_and_changes_nothing() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let create = |headers: &[(&str, &str)], body: &[u8]| {
        http.send("POST", "/api/v1/uploads", headers, body.to_vec())
    };
    create(&[], b"").problem(411, "length_required", "Upload-Length");
    create(&[("Upload-Length", "-1")], b"").problem(411, "length_required", "Upload-Length");
    create(&[("Upload-Length", "5")], b"01234").problem(400, "bad_request", "without content");
    let whole = [("Upload-Length", "0"), ("Upload-Complete", "?1")];
    create(&whole, b"").problem(400, "bad_request", "without content");
    let large = create(&[("Upload-Length", "1099511627777")], b"");
    assert_eq!(large.headers["upload-limit"], "max-size=1099511627776");
    large.problem(413, "too_large", "more than");
    assert_eq!(arriving(&farm), [""; 0]);

    let upload = begin(&http, 10, "");
    append(&http, &upload, 0, "?0", b"01234");
    for offset in [0, 4, 6] {
        let refused = append(&http, &upload, offset, "?1", b"56789");
        assert_eq!(refused.headers["upload-offset"], "5");
        refused.problem(409, "wrong_offset", "at byte 5");
    }
    append(&http, &upload, 5, "?1", b"567890").problem(422, "invalid", "would end at 11");
    append(&http, &upload, 5, "?1", b"5678").problem(422, "invalid", "would end at 9");
    let said = |headers: &[(&str, &str)]| http.send("PATCH", &upload, headers, b"56789".to_vec());
    said(&[("Upload-Offset", "5"), ("Upload-Complete", "?1")]).problem(
        415,
        "not_a_part",
        "application/partial-upload",
    );
    said(&[("Content-Type", PART), ("Upload-Complete", "?1")]).problem(
        400,
        "bad_request",
        "Upload-Offset",
    );
    said(&[("Content-Type", PART), ("Upload-Offset", "5"), ("Upload-Complete", "1")]).problem(
        400,
        "bad_request",
        "Upload-Complete",
    );
    assert_eq!(head(&http, &upload), ["5", "10", "?0"]);
    assert_eq!(append(&http, &upload, 5, "?1", b"56789").json(201), blob_of(b"0123456789"));
}

#[test]
fn a_whole_that_has_another_hash_than_was_announced_is_refused_and_forgotten() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let query = format!("?hash={}", BlobHash::of(b"right"));
    let upload = begin(&http, 5, &query);
    append(&http, &upload, 0, "?0", b"wr");
    let refused = append(&http, &upload, 2, "?1", b"ong");
    assert_eq!(refused.headers["upload-complete"], "?1");
    refused.problem(422, "invalid", "their hash differs");
    http.get(&upload).problem(404, "not_found", "begin it anew");
    assert_eq!(arriving(&farm), [""; 0]);

    let upload = begin(&http, 5, &query);
    assert_eq!(append(&http, &upload, 0, "?1", b"right").json(201), blob_of(b"right"));
}

/// A body that waits before its end, which is sooner than its length says.
struct Stalls {
    rest: Vec<u8>,
    go_on: mpsc::Receiver<()>,
}

impl Read for Stalls {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.rest.is_empty() {
            let _ = self.go_on.recv();
            return Err(std::io::Error::other("the cable is out"));
        }
        let count = self.rest.len().min(into.len());
        into[..count].copy_from_slice(&self.rest[..count]);
        self.rest.drain(..count);
        Ok(count)
    }
}

#[test]
fn an_upload_goes_on_at_once_while_an_older_connection_seems_to_be_open() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let bytes = noise(2_000_000);
    let upload = begin(&http, bytes.len(), "");
    let (end, go_on) = mpsc::channel();
    let stalled = Stalls { rest: bytes[..1_200_000].to_vec(), go_on };
    let (older, path, len) = (http.with_token(&http.token), upload.clone(), bytes.len() as u64);
    let waiting = thread::spawn(move || {
        let headers = [("Content-Type", PART), ("Upload-Offset", "0"), ("Upload-Complete", "?1")];
        older.send_from_with("PATCH", &path, Some(len), &headers, stalled)
    });
    wait_for_bytes(&farm, 1_150_000);

    // Nobody has ended the older one, and it would be given up as silent only after 30 s.
    let offset: usize = head(&http, &upload)[0].parse().unwrap();
    assert!(offset >= 1_150_000, "{offset}");
    let last = append(&http, &upload, offset, "?1", &bytes[offset..]);
    assert_eq!(last.json(201), blob_of(&bytes));
    let said = farm.said("coordinator");
    assert!(said.contains("an upload goes on over another connection"), "{said}");
    drop(end);
    if let Ok(Ok(answer)) = waiting.join() {
        answer.problem(409, "conflict", "another request goes on");
    }
}

#[test]
fn what_broke_off_goes_on_after_the_coordinator_was_killed() {
    let mut farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let bytes = noise(2_000_000);
    let upload = begin(&http, bytes.len(), "");
    let (end, go_on) = mpsc::channel();
    drop(end);
    let breaks = Stalls { rest: bytes[..1_200_000].to_vec(), go_on };
    let headers = [("Content-Type", PART), ("Upload-Offset", "0"), ("Upload-Complete", "?1")];
    http.send_from_with("PATCH", &upload, Some(bytes.len() as u64), &headers, breaks)
        .expect_err("it broke off");
    wait_for_bytes(&farm, 1_150_000);
    let before = head(&http, &upload);
    farm.kill_coordinator();
    farm.start_coordinator();
    assert_eq!(head(&http, &upload), before);
    let offset: usize = before[0].parse().unwrap();
    let last = append(&http, &upload, offset, "?1", &bytes[offset..]);
    assert_eq!(last.json(201), blob_of(&bytes));
    assert_eq!(arriving(&farm), [""; 0]);
}

#[test]
fn whoever_begins_too_many_uploads_loses_their_oldest_and_nobody_elses() {
    let farm = Farm::new();
    let (http, other) = (Http::of(&farm, "submitter"), Http::of(&farm, "admin"));
    let others = begin(&other, 5, "");
    let uploads: Vec<String> = (0..66).map(|_| begin(&http, 5, "")).collect();
    for gone in &uploads[..2] {
        http.get(gone).problem(404, "not_found", "begin it anew");
    }
    assert_eq!(head(&http, &uploads[2])[0], "0");
    assert_eq!(head(&other, &others)[0], "0");
    assert_eq!(arriving(&farm).len(), 65);
}
