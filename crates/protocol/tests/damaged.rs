//! Messages that are damaged on purpose: whatever the bytes, decoding answers, and what it takes for a
//! message is one. Their beginnings are the golden bytes of every message.

use std::fs;
use std::path::Path;

use grange_protocol::agent::{FromAgent, ToAgent};
use grange_protocol::client::{Request, Response};
use grange_protocol::join::JoinString;
use grange_protocol::session::{FromSession, ToSession};
use grange_protocol::stream::Open;
use grange_protocol::view::WatchEvent;
use grange_protocol::{FrameSet, Manifest, OutputName, Refusal, Submission, codec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What lengths are when they are wrong: 127, 16383, 2³²−1 and 2⁶⁴−1 as postcard writes them.
const BAD: [&[u8]; 4] = [
    &[0x7F],
    &[0xFF, 0x7F],
    &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F],
    &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
];

#[derive(Clone, Debug)]
enum Damage {
    Set(Index, u8),
    Cut(Index),
    Remove(Index),
    Insert(Index, Vec<u8>),
    Length(Index, usize),
}

fn golden() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let mut seeds = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        for line in fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
            let hex = line.rsplit_once(": ").map_or("", |(_, hex)| hex);
            let bytes = (0..hex.len() / 2)
                .map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok());
            seeds.extend(bytes.collect::<Option<Vec<u8>>>().filter(|bytes| !bytes.is_empty()));
        }
    }
    assert!(seeds.len() > 50, "only {} golden messages were found", seeds.len());
    seeds
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        at().prop_map(Damage::Cut),
        at().prop_map(Damage::Remove),
        (at(), prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, new)| Damage::Insert(at, new)),
        (at(), 0..BAD.len()).prop_map(|(at, bad)| Damage::Length(at, bad)),
    ]
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        if bytes.is_empty() {
            break;
        }
        let len = bytes.len();
        match damage {
            Damage::Set(at, byte) => bytes[at.index(len)] = *byte,
            Damage::Cut(at) => bytes.truncate(at.index(len)),
            Damage::Remove(at) => drop(bytes.remove(at.index(len))),
            Damage::Insert(at, new) => {
                drop(bytes.splice(at.index(len)..at.index(len), new.clone()))
            }
            Damage::Length(at, bad) => {
                let at = at.index(len);
                bytes.splice(at..=at, BAD[*bad].iter().copied());
            }
        }
    }
    bytes
}

/// What decodes is a value: it encodes, and decodes to itself.
fn decode<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
    if let Ok(value) = codec::decode::<T>(bytes) {
        let again = codec::encode(&value).expect("what was decoded can be encoded");
        let twice: T = codec::decode(&again).expect("what was encoded can be decoded");
        assert_eq!(codec::encode(&twice).unwrap(), again);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_damaged_message_is_refused_or_is_one(
        seed in select(golden()),
        damages in prop::collection::vec(damage(), 1..6),
    ) {
        let bytes = damaged(seed, &damages);
        decode::<Open>(&bytes);
        decode::<FromAgent>(&bytes);
        decode::<ToAgent>(&bytes);
        decode::<FromSession>(&bytes);
        decode::<ToSession>(&bytes);
        decode::<Request>(&bytes);
        decode::<Response>(&bytes);
        decode::<Manifest>(&bytes);
        decode::<Result<WatchEvent, Refusal>>(&bytes);
    }

    #[test]
    fn text_from_outside_is_refused_or_understood(text in "\\PC{0,200}|[-0-9,x. ]{0,60}|grange[-:/a-z0-9]{0,200}") {
        let _ = text.parse::<JoinString>();
        let _ = text.parse::<FrameSet>();
        let _ = text.parse::<OutputName>();
        let _ = serde_json::from_str::<Submission>(&text);
        let _ = serde_json::from_str::<Manifest>(&text);
    }
}
