//! Files on their way to a farm and back, and what becomes of them when somebody dies meanwhile: they
//! go on where they broke off, and nothing half lies about.

use std::collections::BTreeSet;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use grange_client::farm::new_key;
use grange_protocol::job::Policy;
use grange_protocol::kinds::{JobKind, Noop};
use grange_protocol::{JobId, Priority, Submission};
use tempfile::TempDir;

use crate::support::farm::{FakeJob, Farm};
use crate::support::pictures::names;
use crate::support::relay::{Relay, Weather};
use crate::support::scenes::scenes;
use crate::support::told::Told;
use crate::support::{eventually, program, seed};

/// What is sent: long enough to die in the middle of it.
const SCENE_BYTES: usize = 20 << 20;
/// Pictures that fake Blenders render of about as many.
const PICTURE: &str = "width = 2600\nheight = 2600\nframe_ms = 30";
const PICTURE_BYTES: u64 = 2600 * 2600 * 3;
/// What has passed when somebody dies.
const SOME_BYTES: u64 = 6 << 20;
/// What may have been on its way without having arrived, and what everything else needs.
const ASIDE_BYTES: u64 = 3 << 20;

/// Ada, who submits from elsewhere.
struct Ada {
    farm: Farm,
    relay: Relay,
    home: TempDir,
}

impl Ada {
    fn new() -> Self {
        let (farm, relay) = Farm::behind_relay(seed(7));
        let home = TempDir::new().unwrap();
        let ada = Self { farm, relay, home };
        let token = ada.farm.grange(&["token", "create", "--role", "submitter"]).well();
        Told::by(&mut ada.command(&["join", token.trim()])).well();
        // Slow enough to look at.
        ada.relay.set(Weather { kbit_per_s: Some(40_000), ..Weather::default() });
        ada
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("grange"));
        command.arg("--identity").arg(self.home.path().join("identity")).args(args);
        command
    }

    fn begins(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// A scene with much in it: Blender reads no further than a file's end block.
    fn scene(&self) -> PathBuf {
        let mut bytes = fs::read(scenes().join("turn.blend")).unwrap();
        let mut random = fastrand::Rng::with_seed(seed(7));
        bytes.extend((0..SCENE_BYTES).map(|_| random.u8(..)));
        let path = self.home.path().join("large.blend");
        fs::write(&path, bytes).unwrap();
        path
    }

    fn jobs(&self) -> usize {
        self.farm.grange(&["jobs", "--json"]).json().as_array().unwrap().len()
    }

    fn passed(&self) -> u64 {
        self.relay.counts().passed_bytes.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn wait_for_bytes(&self, since: u64) {
        eventually("some of it has passed", || (self.passed() > since + SOME_BYTES).then_some(()));
    }

    fn submit<'a>(&self, scene: &'a Path) -> [&'a str; 4] {
        ["submit", scene.to_str().unwrap(), "--queue-anyway", "--no-preview"]
    }
}

#[track_caller]
fn well(child: Child) -> String {
    Told::of("grange".into(), child.wait_with_output().unwrap()).well()
}

#[test]
fn an_upload_whose_client_was_killed_goes_on_where_it_broke_off() {
    let ada = Ada::new();
    let scene = ada.scene();
    let mut first = ada.begins(&ada.submit(&scene));
    ada.wait_for_bytes(0);
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(ada.jobs(), 0, "nothing was submitted");

    let before = ada.passed();
    let told = well(ada.begins(&ada.submit(&scene)));
    assert!(told.contains("job 1: large.blend"), "{told}");
    let again = ada.passed() - before;
    let rest = SCENE_BYTES as u64 - SOME_BYTES + ASIDE_BYTES;
    assert!(again < rest, "{again} bytes passed the second time");
    let arriving = ada.farm.home().join("coordinator/store/arriving");
    eventually("nothing half is left when the first one's connection has timed out", || {
        names(&arriving).is_empty().then_some(())
    });
}

#[test]
fn a_submission_goes_on_over_a_killed_coordinator_and_is_one_job() {
    let mut ada = Ada::new();
    let scene = ada.scene();
    let client = ada.begins(&ada.submit(&scene));
    ada.wait_for_bytes(0);
    ada.farm.kill_coordinator();
    ada.farm.start_coordinator();
    let told = Told::of("grange".into(), client.wait_with_output().unwrap());
    assert!(told.stderr.contains("connecting again"), "{}", told.stderr);
    assert!(told.well().contains("job 1: large.blend"));
    assert_eq!(ada.jobs(), 1);
    let all = SCENE_BYTES as u64 + ASIDE_BYTES;
    assert!(ada.passed() < all, "{} bytes passed", ada.passed());
}

#[test]
fn a_submission_that_is_said_twice_is_one_job() {
    let farm = Farm::new();
    let (key, other) = (new_key().unwrap(), new_key().unwrap());
    let submission = Submission {
        name: "nothing".parse().unwrap(),
        priority: Priority::DEFAULT,
        policy: Policy::default(),
        manifest: None,
        queue_anyway: true,
        tags: BTreeSet::new(),
        kind: JobKind::Noop(Noop { tasks: 3, millis: 1 }),
    };
    let jobs = farm.ask(async |farm| {
        let mut jobs = Vec::new();
        for key in [key, key, other] {
            jobs.push(farm.submit_once(submission.clone(), key).await.unwrap());
        }
        jobs
    });
    assert_eq!(jobs, [JobId(1), JobId(1), JobId(2)]);
}

#[test]
fn a_download_whose_client_was_killed_goes_on_where_it_broke_off() {
    let mut ada = Ada::new();
    ada.farm.add_fakes(&["host"], 1);
    let job = ada.farm.submit_fake(&FakeJob::new(PICTURE, 2)).to_string();
    ada.farm.wait_for_state(job.parse().unwrap(), "completed");
    let out = ada.home.path().join("out");
    let fetch = ["fetch", &job, "-o", out.to_str().unwrap()];

    let began = ada.passed();
    let mut first = ada.begins(&fetch);
    ada.wait_for_bytes(began);
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(names(&out), ["0001.png.grange-part"], "half a picture has no picture's name");
    // What passed is not all written when a program is killed.
    let had = fs::metadata(out.join("0001.png.grange-part")).unwrap().len();
    assert!(had > 0, "it was killed before it had anything");
    // Somebody else's bytes under the second one's name for what is not whole.
    fs::write(out.join("0002.png.grange-part"), "something else").unwrap();

    let before = ada.passed();
    well(ada.begins(&fetch));
    let again = ada.passed() - before;
    // The second picture comes twice: only its end shows that its beginning was another one's.
    let rest = 3 * PICTURE_BYTES - had + 2 * ASIDE_BYTES;
    assert!(again < rest, "{again} bytes passed the second time");
    assert_eq!(names(&out), ["0001.png", "0002.png"]);
    for frame in [1, 2] {
        let expected = grange_tests::noise::png(2600, 2600, frame);
        assert!(fs::read(out.join(format!("{frame:04}.png"))).unwrap() == expected);
    }
}
