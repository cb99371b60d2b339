//! Messages of the wire, manifests, and the words that people paste and type.

use std::fmt::{Debug, Display};
use std::fs;
use std::str::FromStr;

use grange_protocol::agent::{FromAgent, ToAgent, Welcome};
use grange_protocol::client::{EnrolReply, EnrolRequest, Request, Response, Role};
use grange_protocol::file::{GetReply, PutDone, PutReply};
use grange_protocol::join::JoinString;
use grange_protocol::manifest::ManifestEntry;
use grange_protocol::session::{FromSession, ToSession};
use grange_protocol::shot::{Label, OutputPattern, Resolution};
use grange_protocol::stream::Open;
use grange_protocol::view::WatchEvent;
use grange_protocol::{
    BlenderVersion, BlobHash, FrameSet, JobSpec, LayoutPath, Manifest, OutputName, Priority,
    Refusal, codec, connect,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::tree;
use crate::Target;

/// Any message of the wire, read as each type that begins a frame.
pub(super) const MESSAGE: Target = Target {
    name: "message",
    len_max: 4 << 10,
    memory: of_values,
    seeds: golden,
    read: |input| {
        decode::<Open>(input);
        decode::<FromAgent>(input);
        decode::<ToAgent>(input);
        decode::<Welcome>(input);
        decode::<FromSession>(input);
        decode::<ToSession>(input);
        decode::<Request>(input);
        decode::<Response>(input);
        decode::<PutReply>(input);
        decode::<PutDone>(input);
        decode::<GetReply>(input);
        decode::<EnrolRequest>(input);
        decode::<EnrolReply>(input);
        decode::<Result<WatchEvent, Refusal>>(input);
        decode::<JobSpec>(input);
    },
};

/// A manifest, in a store's bytes and in a client's JSON.
pub(super) const MANIFEST: Target = Target {
    name: "manifest",
    len_max: 16 << 10,
    memory: of_values,
    seeds: manifests,
    read: |input| {
        let json = serde_json::from_slice(input).ok();
        for manifest in [codec::decode::<Manifest>(input).ok(), json].into_iter().flatten() {
            for entry in manifest.entries() {
                assert_eq!(manifest.get(&entry.path), Some(entry));
                let below = std::path::Path::new(entry.path.relative());
                let is_plain = |part| matches!(part, std::path::Component::Normal(_));
                assert!(below.components().all(is_plain), "{below:?} leaves its folder");
            }
            let _ = manifest.total_len();
            let again = codec::encode(&manifest).expect("a manifest can be encoded");
            assert_eq!(codec::decode::<Manifest>(&again).ok(), Some(manifest));
        }
    },
};

/// A word that somebody has pasted, or that is part of a message.
pub(super) const WORD: Target = Target {
    name: "word",
    len_max: 2 << 10,
    memory: of_values,
    seeds: words,
    read: |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        written::<JoinString>(text);
        written::<BlobHash>(text);
        written::<LayoutPath>(text);
        written::<Resolution>(text);
        written::<Label>(text);
        written::<BlenderVersion>(text);
        let _ = (text.parse::<Priority>(), text.parse::<Role>());
        let _ = connect::parse_token(text);
        if let Ok(name) = text.parse::<OutputName>() {
            let below = std::path::Path::new(name.as_str());
            let is_plain = |part| matches!(part, std::path::Component::Normal(_));
            assert!(below.components().all(is_plain), "{below:?} leaves its folder");
        }
        if let Ok(pattern) = text.parse::<OutputPattern>() {
            for frame in [i32::MIN, -1, 0, i32::MAX] {
                let _ = (pattern.expand(frame), pattern.numbered().expand(frame));
            }
        }
        if let Ok(frames) = text.parse::<FrameSet>() {
            holds(&frames);
            written::<FrameSet>(text);
        }
    },
};

/// What a set of frames promises.
fn holds(frames: &FrameSet) {
    let len = frames.len();
    assert!(len > 0 && frames.first() <= frames.last());
    assert_eq!(frames.nth(0), Some(frames.first()));
    assert_eq!(frames.nth(len - 1), Some(frames.last()));
    assert_eq!(frames.nth(len), None);
    assert_eq!(frames.slice(len - 1, 2), [frames.last()]);
    assert!(frames.contains(frames.first()) && frames.contains(frames.last()));
}

/// Values take more memory than their bytes, and `Vec`s take some before they know.
fn of_values(input: &[u8]) -> usize {
    (4 << 20) + 128 * input.len()
}

/// What decodes is a value: it encodes, and decodes to itself.
fn decode<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
    if let Ok(value) = codec::decode::<T>(bytes) {
        let again = codec::encode(&value).expect("what was decoded can be encoded");
        let twice: T = codec::decode(&again).expect("what was encoded can be decoded");
        assert!(codec::encode(&twice).is_ok_and(|twice| twice == again), "it has changed");
    }
}

/// What was understood is written so that it is understood again.
fn written<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse::<T>().ok(), Some(value));
    }
}

/// Bytes of every message, as `crates/protocol/tests/golden.rs` holds them still.
fn golden() -> Vec<Vec<u8>> {
    let folder = fs::read_dir(tree("crates/protocol/tests/snapshots")).expect("the golden bytes");
    let mut paths: Vec<_> = folder.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut seeds = Vec::new();
    for path in paths {
        for line in fs::read_to_string(path).unwrap_or_default().lines() {
            let hex = line.rsplit_once(": ").map_or("", |(_, hex)| hex);
            let bytes = (0..hex.len() / 2)
                .map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok());
            seeds.extend(bytes.collect::<Option<Vec<u8>>>().filter(|bytes| !bytes.is_empty()));
        }
    }
    assert!(seeds.len() > 50, "only {} golden messages were found", seeds.len());
    seeds
}

fn manifests() -> Vec<Vec<u8>> {
    let entry = |path: &str| ManifestEntry {
        path: path.parse().expect("a path"),
        blob: BlobHash::of(path.as_bytes()),
        len: path.len() as u64,
    };
    let paths = ["/home/ada/shot.blend", "/home/ada/textures/wood.png", "/srv/library.blend"];
    let manifest = Manifest::new(paths.map(entry).into()).expect("a manifest");
    let wire = codec::encode(&manifest).expect("a manifest can be encoded");
    vec![wire, serde_json::to_vec(&manifest).expect("a manifest can be encoded")]
}

fn words() -> Vec<Vec<u8>> {
    let (token, ca) = ("30313233343536373839616263646566", "ab".repeat(32));
    let join = format!("grange://farm.local:4747,[::1]:4747/agent/{token}/{ca}");
    let words = [
        &join,
        token,
        &ca,
        "1-30",
        "3, 5-10",
        "-3--1",
        "1-100x4, 2",
        "5-7, 1-6",
        "1920x1080",
        "shot_##_v2/####",
        "depth/0001.exr",
        "/home/ada/shot.blend",
        "4.2.23",
        "50",
        "submitter",
        "Kamera Süd",
    ];
    words.map(|word| word.as_bytes().to_vec()).into()
}
