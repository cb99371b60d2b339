//! Large files on their way to a farm from Python, over a cable that breaks.

use std::fs;
use std::path::{Path, PathBuf};

use grange_protocol::BlobHash;
use serde_json::Value;

use super::{Person, Running};
use crate::support::cable::Cable;
use crate::support::farm::Farm;
use crate::support::http::Http;
use crate::support::pictures::names;
use crate::support::{eventually, seed};

const MIB: u64 = 1 << 20;
const FILE_BYTES: u64 = 64 * MIB;
/// What may have gone up and not have arrived where a connection breaks, and what all else needs.
const ASIDE_BYTES: u64 = MIB;

/// Somebody whose program sends a large file over a cable.
struct Sender {
    farm: Farm,
    cable: Cable,
    person: Person,
    hash: String,
}

impl Sender {
    fn new() -> Self {
        let farm = Farm::new();
        let mut person = Person::of(&farm);
        let connect = person.connect.take().unwrap();
        let (before, rest) = connect.split_once("@127.0.0.1:").unwrap();
        let (port, after) = rest.split_once('?').unwrap();
        let cable = Cable::to(port.parse().unwrap());
        person.connect = Some(format!("{before}@127.0.0.1:{}?{after}", cable.port));
        let mut random = fastrand::Rng::with_seed(seed(11));
        let bytes: Vec<u8> = (0..FILE_BYTES).map(|_| random.u8(..)).collect();
        fs::write(person.home.path().join("large.blend"), &bytes).unwrap();
        Self { farm, cable, person, hash: BlobHash::of(&bytes).to_string() }
    }

    fn begins(&self) -> Running {
        let mut story = self.person.story("uploads.py", "send");
        Running::of(story.arg(self.person.home.path().join("large.blend")))
    }

    /// Waits until the farm has all that may go up.
    fn wait_until_arrived(&self) {
        self.cable.wait_until_full();
        let arriving = self.arriving();
        eventually("what went up has arrived", || {
            let arrived: u64 =
                names(&arriving).iter().map(|name| len_of(&arriving.join(name))).sum();
            (arrived + ASIDE_BYTES / 2 > self.cable.up_bytes()).then_some(())
        });
    }

    fn arriving(&self) -> PathBuf {
        self.farm.home().join("coordinator/store/arriving")
    }

    /// The file is there, its progress has never gone back, and nothing half is left.
    fn has_arrived(&self, sending: Running) {
        let told: Value = sending.told().json();
        assert_eq!(told["hash"], self.hash.as_str(), "{told}");
        let heard: Vec<u64> =
            told["heard"].as_array().unwrap().iter().map(|bytes| bytes.as_u64().unwrap()).collect();
        assert!(heard.is_sorted(), "{heard:?}");
        assert_eq!(heard.last(), Some(&FILE_BYTES));
        let http = Http::of(&self.farm, "submitter");
        let (len, hash) = http.download(&format!("/api/v1/blobs/{}", self.hash));
        assert_eq!((len, hash), (FILE_BYTES, self.hash.clone()));
        assert_eq!(names(&self.arriving()), [""; 0]);
    }

    fn was_sent_once(&self, breaks: u64) {
        let most = FILE_BYTES + (breaks + 1) * ASIDE_BYTES;
        let sent = self.cable.up_bytes();
        assert!((FILE_BYTES..most).contains(&sent), "{sent} bytes went up");
    }
}

fn len_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

#[test]
fn a_file_whose_connection_breaks_several_times_is_sent_once_in_all() {
    let sender = Sender::new();
    sender.cable.allow(10 * MIB);
    let sending = sender.begins();
    for breaks in 2..=5 {
        sender.wait_until_arrived();
        sender.cable.allow(breaks * 10 * MIB);
        sender.cable.cut();
    }
    sender.cable.allow(u64::MAX);
    sender.has_arrived(sending);
    sender.was_sent_once(4);
}

#[test]
fn a_file_goes_on_while_the_farm_still_waits_at_the_connection_that_broke() {
    let sender = Sender::new();
    sender.cable.allow(20 * MIB);
    let sending = sender.begins();
    sender.wait_until_arrived();
    sender.cable.tear();
    sender.cable.allow(u64::MAX);
    sender.has_arrived(sending);
    sender.was_sent_once(1);
}

#[test]
fn a_file_goes_on_after_the_coordinator_was_killed_and_started_again() {
    let mut sender = Sender::new();
    sender.cable.allow(30 * MIB);
    let sending = sender.begins();
    sender.wait_until_arrived();
    sender.farm.kill_coordinator();
    sender.cable.allow(u64::MAX);
    sender.farm.start_coordinator();
    sender.has_arrived(sending);
    sender.was_sent_once(1);
}
