//! The HTTP API of a real coordinator, as a client meets it that has nothing but a connect string.

mod browser;
mod conformance;
mod files;
mod jobs;
mod numbers;
mod scenes;
mod sessions;
mod states;
mod trust;
mod uploads;

use grange_protocol::BlobHash;
use serde_json::{Value, json};

use crate::support::http::Http;

/// Sends a scene for fake Blenders and submits its frames, all over HTTP.
#[track_caller]
fn submission(http: &Http, scene: &str, frames: i32) -> Value {
    let hash = BlobHash::of(scene.as_bytes());
    let put = http.put(&format!("/api/v1/blobs/{hash}"), scene.as_bytes());
    assert!(matches!(put.status, 200 | 201), "{put:?}");
    let path = "/project/fake.blend";
    let entries = json!([{ "path": path, "blob": hash, "len": scene.len() }]);
    let manifest = http.ask("POST", "/api/v1/manifests", &entries).json(200);
    let shot = json!({
        "frames": [{ "first": 1, "last": frames, "step": 1 }],
        "output": "####",
    });
    json!({
        "name": "fake.blend",
        "manifest": manifest["hash"],
        "kind": { "animation": {
            "blend": path,
            "needs": { "saved_by": { "major": 4, "minor": 2 }, "engines": ["cycles"] },
            "shot": shot,
        } },
    })
}

/// A job that needs no files and ends at once where there is an agent.
fn noop(name: &str, tasks: u32) -> Value {
    json!({ "name": name, "queue_anyway": true, "kind": { "noop": { "tasks": tasks, "millis": 1 } } })
}

#[track_caller]
fn submit(http: &Http, submission: &Value) -> u64 {
    http.ask("POST", "/api/v1/jobs", submission).json(201)["id"].as_u64().expect("a number")
}
