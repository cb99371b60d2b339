//! Pools on farms whose instances, agents and clients are killed. Fake Blenders, real processes.

use serde_json::{Value, json};

use super::instances::a_blender;
use super::{Person, Running, nothing_runs};
use crate::support::farm::Farm;
use crate::support::http::Http;
use crate::support::pictures::{names, pixels};
use crate::support::told::Told;
use crate::support::{eventually, eventually_within, processes, program, signal};

/// Frames of 0.1 s, four for each of eight calls.
const SCENE: &str = "frame_ms = 100";
const CALLS: usize = 8;
const FRAMES: usize = 4 * CALLS;

/// A pool of eight calls that is under way.
struct Pool<'a> {
    person: &'a Person,
    program: Running,
}

impl<'a> Pool<'a> {
    fn of(person: &'a Person) -> Self {
        Self { person, program: Running::of(&mut person.story_of_fakes("pool", SCENE)) }
    }

    /// Waits until so many frames have come.
    fn has(&self, frames: usize) {
        eventually("frames", || (whole(self.person).len() >= frames).then_some(()));
    }

    /// All calls were made, each of them is told once, and all their frames are here.
    fn ends_well(self) -> Value {
        let told = self.program.told().json();
        let expected: Vec<Value> = (0..CALLS).map(|call| json!([call, 4])).collect();
        assert_eq!(told["results"], Value::Array(expected.clone()));
        let mut once = told["told"].as_array().unwrap().clone();
        once.sort_by_key(|call| call[0].as_u64());
        assert_eq!(once, expected);
        assert_eq!(whole(self.person).len(), FRAMES);
        told
    }
}

/// Names of pictures that have come, every one of them whole.
fn whole(person: &Person) -> Vec<String> {
    let mut names = names(&person.out());
    names.retain(|name| name.ends_with(".png"));
    for name in &names {
        pixels(&person.out().join(name));
    }
    names
}

/// How many frames the farm has rendered in all sessions.
fn rendered(farm: &Farm, http: &Http) -> usize {
    let sessions = http.get("/api/v1/sessions").json(200);
    let sessions = sessions["items"].as_array().unwrap().iter();
    sessions.map(|session| farm.outputs(session["id"].as_u64().unwrap()).len()).sum()
}

#[test]
fn a_pool_with_tags_has_its_instances_on_hosts_that_have_them() {
    let farm = Farm::of_fakes(&["large", "small"], 1);
    farm.grange(&["agent", "tag", "large", "big"]).well();
    let person = Person::of(&farm);
    let room = person.tells_of_fakes("tagged", SCENE);
    assert_eq!(room, json!({ "all": 2, "big": 1 }));
    let jobs = farm.grange(&["jobs", "--json"]).json();
    for job in jobs.as_array().unwrap() {
        assert_eq!(job["tags"], json!(["big"]), "{job}");
        let renderers = farm.renderers(job["id"].as_u64().unwrap());
        assert!(renderers.iter().all(|host| host == "large"), "{renderers:?}");
    }
    assert_eq!(whole(&person).len(), FRAMES);
}

#[test]
fn a_pool_makes_every_call_once() {
    let farm = Farm::of_fakes(&["host"], 2);
    let http = Http::of(&farm, "admin");
    let person = Person::of(&farm);
    let told = Pool::of(&person).ends_well();
    assert_eq!(told["made"].as_array().unwrap().len(), CALLS);
    assert_eq!(rendered(&farm, &http), FRAMES);
    nothing_runs(&farm);
}

#[test]
fn a_call_that_waits_for_its_instance_is_overtaken_by_no_later_one() {
    let farm = Farm::of_fakes(&["host"], 1);
    let person = Person::of(&farm);
    let ended = person.tells_of_fakes("in_order", "frames = 1\nframe_ms = 60");
    let mut ended: Vec<u64> = serde_json::from_value(ended).unwrap();
    // The first two begin at once, and one of them is first.
    ended[..2].sort();
    assert!(ended.iter().copied().eq(0..CALLS as u64), "{ended:?}");
    nothing_runs(&farm);
}

#[test]
fn a_killed_instance_costs_its_call_an_attempt_and_no_frame_that_was_done() {
    let farm = Farm::of_fakes(&["host"], 2);
    let http = Http::of(&farm, "admin");
    let person = Person::of(&farm);
    let pool = Pool::of(&person);
    pool.has(6);
    signal(a_blender(&farm, "host"), "KILL");
    let told = pool.ends_well();
    let made = told["made"].as_array().unwrap().len();
    assert!((CALLS..=CALLS + 1).contains(&made), "{told}");
    // The one under way, and one that was done and on its way, may be rendered again.
    let rendered = rendered(&farm, &http);
    assert!((FRAMES..=FRAMES + 2).contains(&rendered), "{rendered}");
    nothing_runs(&farm);
}

#[test]
fn a_killed_agents_calls_are_made_on_another() {
    let mut farm = Farm::of_fakes(&["first", "second"], 1);
    let person = Person::of(&farm);
    let pool = Pool::of(&person);
    pool.has(6);
    let mark = farm.home().join("first").display().to_string();
    farm.kill_agent("first");
    let told = pool.ends_well();
    let made = told["made"].as_array().unwrap().len();
    assert!((CALLS..=CALLS + 1).contains(&made), "{told}");
    let gone = || processes(&mark).is_empty().then_some(());
    eventually("its Blenders die with it", gone);
    nothing_runs(&farm);
}

#[test]
fn a_killed_clients_sessions_end_and_what_it_has_is_whole() {
    let farm = Farm::of_fakes(&["host"], 2);
    let person = Person::of(&farm);
    let mut pool = Pool::of(&person);
    pool.has(6);
    pool.program.kill();
    let kept = whole(&person);
    assert!(kept.len() < FRAMES, "it was killed in the middle");
    // Half a minute nothing is heard of it.
    let http = Http::of(&farm, "admin");
    eventually_within(90, "its sessions end", || {
        let sessions = http.get("/api/v1/sessions").json(200);
        let mut sessions = sessions["items"].as_array().unwrap().iter();
        sessions.all(|session| session["state"] == "ended").then_some(())
    });
    nothing_runs(&farm);
    // Nobody else is kept from going on, and what is there is not rendered again.
    Pool::of(&person).ends_well();
    assert!(rendered(&farm, &http) <= FRAMES + 4, "{} frames", rendered(&farm, &http));
}

#[test]
fn one_failing_call_ends_no_other_and_is_told_with_its_traceback() {
    let farm = Farm::of_fakes(&["host"], 2);
    let person = Person::of(&farm);
    let told = Told::by(&mut person.story_of_fakes("failing", SCENE)).well();
    // Lines of progress come before.
    let told: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(told["waited"], true);
    assert_eq!(told["done"], serde_json::json!(["one", "wrong", "two", "mine", "three"]));
    let states = serde_json::json!({
        "one": "done", "wrong": "failed", "two": "done", "mine": "failed", "three": "done",
    });
    assert_eq!(told["states"], states);
    let errors = told["errors"].as_object().unwrap();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert_eq!(errors["wrong"][0], "AttributeError");
    assert!(errors["wrong"][2].as_str().unwrap().contains("in the fake"), "{errors:?}");
    assert_eq!(errors["mine"][0], "KeyError");
    nothing_runs(&farm);
}

#[test]
fn two_people_share_a_farm() {
    let farm = Farm::of_fakes(&["host"], 2);
    let http = Http::of(&farm, "admin");
    let people = ["ann", "bob"].map(|name| Person::called(&farm, name));
    let pools: Vec<Pool<'_>> = people.iter().map(Pool::of).collect();
    for pool in pools {
        let told = pool.ends_well();
        assert_eq!(told["made"].as_array().unwrap().len(), CALLS, "{told}");
    }
    assert_eq!(rendered(&farm, &http), 2 * FRAMES);
    nothing_runs(&farm);
}

#[test]
fn frames_are_handed_out_as_instances_get_free() {
    let mut farm = Farm::new();
    let slow = farm.home().join("slow-blender");
    std::fs::copy(program("fake-blender"), &slow).unwrap();
    farm.start_agent("tortoise", &[slow], &["--instances", "1"]);
    farm.start_agent("hare", &[program("fake-blender")], &["--instances", "1"]);
    farm.wait_for_agents(2);
    let person = Person::of(&farm);
    let told = person.tells_of_fakes("two_hosts", "frame_ms = 60\nframes = 24");
    assert_eq!(told, serde_json::json!({ "ready": 2, "frames": 24 }));
    let http = Http::of(&farm, "admin");
    let sessions = http.get("/api/v1/sessions").json(200);
    let mut counts: Vec<(String, usize)> = sessions["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|session| {
            let agent = session["agent"].as_str().unwrap_or_default().to_owned();
            (agent, farm.outputs(session["id"].as_u64().unwrap()).len())
        })
        .collect();
    counts.sort();
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<usize>(), 24, "{counts:?}");
    // It takes ten times as long, so about two of them are its own; split beforehand it is twelve.
    let least = counts.iter().map(|(_, count)| *count).min().unwrap();
    assert!((1..=5).contains(&least), "{counts:?}");
}
