//! Small pictures of frames: agents make them, the coordinator keeps them as long as it has room and
//! their files, and makes what is not there.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use crate::runtimes::blender;
use crate::support::eventually;
use crate::support::farm::{FakeJob, Farm};
use crate::support::http::Http;
use crate::support::pictures::names;
use crate::support::scenes::scenes;

const SIZES: [&str; 3] = ["small", "medium", "large"];

/// A number of the coordinator's that has no or these labels.
fn number(http: &Http, name: &str) -> f64 {
    let text = String::from_utf8(http.get("/metrics").body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

fn count(http: &Http, outcome: &str) -> f64 {
    number(http, &format!("grange_pictures_total{{outcome=\"{outcome}\"}}"))
}

fn wait_for_sent(http: &Http, files: f64) {
    eventually("agents have sent pictures", || (count(http, "sent") == files).then_some(()));
}

/// Of the job's frames, in their order.
fn hashes(http: &Http, job: u64) -> Vec<String> {
    let page = http.get(&format!("/api/v1/jobs/{job}/outputs")).json(200);
    let mut outputs = page["items"].as_array().unwrap().clone();
    outputs.retain(|output| output["output"]["role"] == "frame");
    outputs.sort_by_key(|output| output["output"]["frame"].as_i64());
    outputs
        .iter()
        .map(|output| output["output"]["blob"]["hash"].as_str().unwrap().to_owned())
        .collect()
}

/// All small pictures of files.
fn pictures(http: &Http, hashes: &[String]) -> Vec<Vec<u8>> {
    let picture = |hash: &String, size: &str| {
        let answer = http.get(&format!("/api/v1/pictures/{hash}/{size}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    };
    hashes.iter().flat_map(|hash| SIZES.map(|size| picture(hash, size))).collect()
}

fn submit(farm: &Farm, scene: &str) {
    let scene = scenes().join(scene);
    farm.grange(&["submit", scene.to_str().unwrap(), "--no-preview", "--wait"]).well();
}

/// As if nobody had asked for any file for two days.
fn age_files(farm: &Farm) {
    let blobs = farm.home().join("coordinator/store/blobs");
    let then = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
    for name in names(&blobs) {
        File::open(blobs.join(name)).unwrap().set_modified(then).unwrap();
    }
}

#[test]
fn agents_make_the_pictures_of_png_and_exr_and_the_coordinator_none() {
    let mut farm = Farm::new();
    farm.start_agent("host", &[blender()], &["--engines", "cycles"]);
    farm.wait_for_agents(1);
    submit(&farm, "turn.blend");
    submit(&farm, "light.blend");
    let http = Http::of(&farm, "submitter");
    wait_for_sent(&http, 6.0);
    let (png, exr) = (hashes(&http, 1), hashes(&http, 2));
    assert_eq!((png.len(), exr.len()), (4, 2));
    let shown = pictures(&http, &[&png[..], &exr[..]].concat());
    for (at, picture) in shown.iter().enumerate() {
        let picture = image::load_from_memory(picture).unwrap();
        let width = match (at / 3 < 4, at % 3) {
            (true, _) => 64,
            (false, 0) => 192,
            (false, _) => 320,
        };
        assert_eq!((picture.width(), picture.height()), (width, width * 9 / 16), "{at}");
    }
    assert_eq!((count(&http, "made"), count(&http, "skipped")), (0.0, 0.0));
    let bytes = number(&http, "grange_pictures_stored_bytes");
    assert!(bytes > 0.0);
    assert_eq!(http.get("/api/v1/storage").json(200)["pictures_bytes"], bytes as u64);

    // A restart keeps them.
    farm.stop_coordinator();
    farm.start_coordinator();
    let all = [&png[..], &exr[..]].concat();
    assert_eq!(pictures(&http, &all), shown);
    assert_eq!((count(&http, "sent"), count(&http, "made")), (0.0, 0.0));
    let counted = || (number(&http, "grange_pictures_stored_bytes") == bytes).then_some(());
    eventually("they are counted", counted);

    // Without them the coordinator makes the same, once.
    let folder = farm.home().join("coordinator/pictures");
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(pictures(&http, &all), shown);
    assert_eq!(pictures(&http, &all), shown);
    assert_eq!(count(&http, "made"), 6.0);
    assert_eq!(names(&folder).len(), 6);

    // They go with their files, which go with their job.
    farm.grange(&["delete", "2"]).well();
    farm.stop_coordinator();
    age_files(&farm);
    farm.start_coordinator();
    eventually("the pictures of the job are gone", || {
        let left = names(&folder);
        let of = |hash: &String| left.iter().any(|name| name.ends_with(hash.as_str()));
        (!exr.iter().any(of)).then(|| assert!(png.iter().all(of), "{left:?}"))
    });
    http.get(&format!("/api/v1/pictures/{}/small", exr[0])).problem(404, "not_found", "no file");
}

#[test]
fn agents_make_none_where_nobody_can_look_or_none_are_kept() {
    let mut farm = Farm::without_a_coordinator();
    farm.start_coordinator_with(&["--pictures-gib", "0"]);
    farm.add_fakes(&["host"], 1);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 1", 3));
    farm.wait_for_state(job, "completed");
    let http = Http::of(&farm, "submitter");
    let hashes = hashes(&http, job);
    pictures(&http, &hashes);
    assert_eq!(count(&http, "made"), 9.0, "none is kept, so each is made anew");
    farm.stop_coordinator();
    farm.start_coordinator_with(&["--http-listen", "off"]);
    farm.wait_for_agents(1);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 1\nwidth = 50", 3));
    farm.wait_for_state(job, "completed");
    farm.stop_coordinator();
    farm.start_coordinator();
    farm.wait_for_agents(1);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 1\nwidth = 60", 3));
    farm.wait_for_state(job, "completed");
    wait_for_sent(&http, 3.0);
    let mut kept = names(&farm.home().join("coordinator/pictures"));
    let shards = |hash: &String| format!("{}/{hash}", &hash[..2]);
    let mut expected: Vec<String> = self::hashes(&http, job).iter().map(shards).collect();
    kept.sort();
    expected.sort();
    assert_eq!(kept, expected, "those of the last job alone");
}
