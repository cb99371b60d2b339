//! Sessions: an instance held by one client, over HTTP, with processes that die.

use grange_protocol::BlobHash;
use serde_json::{Value, json};

use crate::support::farm::Farm;
use crate::support::http::Http;
use crate::support::told::failures;
use crate::support::{eventually, eventually_within};

use super::{submission, submit};

/// A session of a scene for fake Blenders.
struct Driver<'a> {
    http: &'a Http,
    id: u64,
    calls: u64,
}

impl<'a> Driver<'a> {
    fn begin(http: &'a Http, scene: &str) -> Self {
        let new = request(http, scene);
        let id = http.ask("POST", "/api/v1/sessions", &new).json(201)["id"].as_u64().unwrap();
        Self { http, id, calls: 0 }
    }

    fn path(&self) -> String {
        format!("/api/v1/sessions/{}", self.id)
    }

    /// Makes a call; all its lines.
    fn lines(&mut self, operation: &str, args: Value) -> Vec<Value> {
        self.calls += 1;
        let call = json!({ "call": self.calls, "do": operation, "args": args });
        self.http.lines(&format!("{}/calls", self.path()), &call).collect()
    }

    fn call(&mut self, operation: &str, args: Value) -> Value {
        let last = self.lines(operation, args).pop().expect("an answer");
        assert_eq!(last["is"], "returned", "{last}");
        last["value"].clone()
    }

    fn is(&self, state: &str) -> Option<Value> {
        let view = self.http.get(&self.path()).json(200);
        (view["state"] == state).then_some(view)
    }

    fn end(&self) {
        assert_eq!(
            self.http.send("DELETE", &self.path(), &[], Vec::new()).json(200)["state"],
            "ended"
        );
    }
}

fn request(http: &Http, scene: &str) -> Value {
    let hash = BlobHash::of(scene.as_bytes());
    http.put(&format!("/api/v1/blobs/{hash}"), scene.as_bytes());
    let path = "/project/fake.blend";
    let entries = json!([{ "path": path, "blob": hash, "len": scene.len() }]);
    let manifest = http.ask("POST", "/api/v1/manifests", &entries).json(200);
    json!({
        "name": "driven", "manifest": manifest["hash"], "blend": path,
        "needs": { "saved_by": { "major": 4, "minor": 2 }, "engines": ["cycles"] },
    })
}

fn names(lines: &[Value]) -> Vec<&str> {
    let outputs = lines.iter().filter(|line| line["is"] == "output");
    outputs.map(|line| line["name"].as_str().unwrap()).collect()
}

/// Instances of this farm that live.
fn instances(farm: &Farm) -> u64 {
    farm.device_states().iter().map(|state| state["instances"].as_u64().unwrap()).sum()
}

#[test]
fn an_instance_does_what_its_owner_calls_and_goes_when_it_is_let_go() {
    let farm = Farm::of_fakes(&["host"], 1);
    let http = Http::of(&farm, "submitter");
    let mut driver = Driver::begin(&http, "frame_ms = 40");
    assert_eq!(driver.call("ping", json!({})), Value::Null);
    let view = driver.is("ready").unwrap();
    assert_eq!((&view["agent"], &view["blender"]), (&json!("host"), &json!("4.2.0 (fake)")));
    let args = json!({ "höhe": 1.5, "list": [1, null, "x"] });
    assert_eq!(driver.call("echo", args.clone()), args);

    let frame = json!({ "frame": 7, "name": "frames/frame_000007", "number": "000007" });
    let lines = driver.lines("render", frame.clone());
    assert!(lines.iter().any(|line| line["is"] == "progress" && line["samples"] == 4), "{lines:?}");
    assert_eq!(names(&lines), ["3/frames/frame_000007.png"]);
    assert!(lines.last().unwrap()["value"]["seconds"].as_f64().unwrap() >= 0.04);
    // The same frame again is another file, for the scene may have changed.
    assert_eq!(names(&driver.lines("render", frame)), ["4/frames/frame_000007.png"]);
    assert_eq!(names(&driver.lines("write", json!({}))), ["5/written.png"]);
    let file = http.get(&format!("/api/v1/jobs/{}/outputs/5/written.png", driver.id));
    assert_eq!((file.status, &file.body[1..4]), (200, &b"PNG"[..]));

    let raised = driver.lines("fly", json!({})).pop().unwrap();
    assert_eq!(raised["is"], "raised");
    assert_eq!(
        (&raised["kind"], &raised["traceback"]),
        (&json!("AttributeError"), &json!("in the fake"))
    );
    let raised = driver.lines("render", json!({ "frame": 1 })).pop().unwrap();
    assert_eq!((&raised["is"], &raised["kind"]), (&json!("raised"), &json!("TypeError")));

    driver.end();
    driver.end();
    farm.wait_for_state(driver.id, "completed");
    eventually("the instance leaves", || (instances(&farm) == 0).then_some(()));
    let over = driver.lines("ping", json!({})).pop().unwrap();
    assert_eq!(
        (&over["is"], &over["message"]),
        (&json!("ended"), &json!("the session was closed"))
    );
}

#[test]
fn a_call_that_is_made_again_is_done_once() {
    let farm = Farm::of_fakes(&["host"], 1);
    let http = Http::of(&farm, "submitter");
    let mut driver = Driver::begin(&http, "");
    let frame = json!({ "frame": 1, "name": "f", "number": "1" });
    let first = driver.lines("render", frame.clone());
    driver.calls -= 1;
    let again = driver.lines("render", frame);
    assert_eq!(names(&first), names(&again));
    assert_eq!(first.last(), again.last());
    driver.calls -= 1;
    let calls = format!("{}/calls", driver.path());
    let other = json!({ "call": 1, "do": "ping" });
    http.ask("POST", &calls, &other).problem(422, "invalid", "call 1 was another one before");
    let bad = json!({ "call": 0, "do": "ping" });
    http.ask("POST", &calls, &bad).problem(400, "bad_request", "a number from 1");
}

#[test]
fn sessions_are_their_owners() {
    let farm = Farm::of_fakes(&["host"], 1);
    let http = Http::of(&farm, "submitter");
    let mut driver = Driver::begin(&http, "");
    driver.call("ping", json!({}));
    let create = ["token", "create", "--api", "--role", "submitter", "--name", "eve"];
    let connect = farm.grange(&create).well();
    let token = connect.trim().strip_prefix("grange+https://").unwrap().split('@').next().unwrap();
    let eve = http.with_token(token);
    let calls = format!("{}/calls", driver.path());
    let call = json!({ "call": 9, "do": "ping" });
    eve.ask("POST", &calls, &call).problem(403, "forbidden", "does not allow");
    eve.send("DELETE", &driver.path(), &[], Vec::new()).problem(403, "forbidden", "does not allow");
    let held = json!({ "sessions": [driver.id] });
    let alive = "/api/v1/sessions/alive";
    assert_eq!(eve.ask("POST", alive, &held).json(200)["ended"], json!([driver.id]));
    assert_eq!(http.ask("POST", alive, &held).json(200)["ended"], json!([]));
    let admin = Http::of(&farm, "admin");
    assert_eq!(admin.send("DELETE", &driver.path(), &[], Vec::new()).status, 200);
    http.get("/api/v1/sessions/99").problem(404, "not_found", "no session 99");
}

#[test]
fn a_dead_instance_ends_its_session_and_says_so() {
    let farm = Farm::of_fakes(&["host"], 1);
    let http = Http::of(&farm, "submitter");
    let mut driver = Driver::begin(&http, "");
    let last = driver.lines("crash", json!({})).pop().unwrap();
    assert_eq!(last["is"], "ended");
    assert!(last["message"].as_str().unwrap().contains("crashed"), "{last}");
    farm.wait_for_state(driver.id, "failed");
    // There is room for the next one.
    let mut next = Driver::begin(&http, "");
    next.call("ping", json!({}));
    assert!(farm.grange(&["cancel", &next.id.to_string()]).well().contains("cancel"));
    let over = eventually("it ends", || next.is("ended"));
    assert_eq!(over["detail"], "the session was canceled");
    eventually("the instance is gone", || (instances(&farm) == 0).then_some(()));
}

#[test]
fn a_session_survives_the_coordinator_and_no_call_is_done_twice() {
    let mut farm = Farm::of_fakes(&["host"], 1);
    let http = Http::of(&farm, "submitter");
    let mut driver = Driver::begin(&http, "frame_ms = 3000");
    driver.call("ping", json!({}));
    let frame = json!({ "frame": 1, "name": "f", "number": "1" });
    let call = json!({ "call": 2, "do": "render", "args": frame });
    let path = format!("{}/calls", driver.path());
    let mut lines = http.lines(&path, &call);
    assert!(lines.any(|line| line["is"] == "progress"));
    farm.kill_coordinator();
    assert_eq!(lines.last(), None);
    farm.start_coordinator();
    farm.wait_for_agents(1);
    let lines: Vec<Value> = eventually("the session is known", || {
        driver.is("ready").map(|_| http.lines(&path, &call).collect())
    });
    assert_eq!(names(&lines), ["2/f.png"]);
    assert_eq!(lines.last().unwrap()["is"], "returned");
    driver.calls = 2;
    driver.call("ping", json!({}));
}

#[test]
fn a_lost_agent_ends_its_sessions_and_they_do_not_begin_anew() {
    let mut farm = Farm::of_fakes(&["host", "other"], 1);
    let http = Http::of(&farm, "submitter");
    let mut driver = Driver::begin(&http, "");
    driver.call("ping", json!({}));
    let agent = driver.is("ready").unwrap()["agent"].as_str().unwrap().to_owned();
    farm.kill_agent(&agent);
    let last = driver.lines("ping", json!({})).pop().unwrap();
    assert_eq!(last["is"], "ended");
    assert!(last["message"].as_str().unwrap().contains("agent was lost"), "{last}");
    farm.wait_for_state(driver.id, "canceled");
}

#[test]
fn nobody_who_is_gone_or_idle_keeps_an_instance() {
    let farm = Farm::of_fakes(&["host"], 2);
    let http = Http::of(&farm, "submitter");
    let mut idle = request(&http, "");
    idle["idle_s"] = json!(10);
    let idle = http.ask("POST", "/api/v1/sessions", &idle).json(201)["id"].as_u64().unwrap();
    let mut idle = Driver { http: &http, id: idle, calls: 0 };
    idle.call("ping", json!({}));
    let mut gone = Driver::begin(&http, "");
    gone.call("ping", json!({}));
    let over = eventually_within(60, "the idle one ends", || {
        http.ask("POST", "/api/v1/sessions/alive", &json!({ "sessions": [idle.id] })).json(200);
        idle.is("ended")
    });
    assert_eq!(over["detail"], "nothing was asked of it for 10 seconds");
    let over = eventually_within(60, "the other one ends", || gone.is("ended"));
    assert_eq!(over["detail"], "its client was not heard of for 30 seconds");
    eventually("the instances are gone", || (instances(&farm) == 0).then_some(()));
    farm.wait_for_state(gone.id, "completed");
}

#[test]
fn work_of_a_job_makes_room_for_a_session_and_loses_no_frame() {
    let farm = Farm::of_fakes(&["host"], 1);
    let http = Http::of(&farm, "submitter");
    let job = submit(&http, &submission(&http, "frame_ms = 400", 12));
    eventually("the job runs", || {
        let running = farm.job(job)["job"]["progress"]["tasks"]["running"].as_u64();
        (running >= Some(1)).then_some(())
    });
    let mut urgent = request(&http, "");
    urgent["priority"] = json!(80);
    let id = http.ask("POST", "/api/v1/sessions", &urgent).json(201)["id"].as_u64().unwrap();
    let mut driver = Driver { http: &http, id, calls: 0 };
    let lines = driver.lines("ping", json!({}));
    assert_eq!(lines[0]["is"], "waiting", "{lines:?}");
    assert_eq!(lines.last().unwrap()["is"], "returned", "{lines:?}");
    assert_eq!(farm.job(job)["job"]["state"], "active");
    driver.end();
    let detail = farm.wait_for_state(job, "completed");
    assert_eq!(failures(&detail), [""; 0]);
    let logs = farm.grange(&["logs", &job.to_string(), "--json"]).json_lines();
    assert_eq!(logs.len(), 2, "its scene was opened before the session, and once after it");
}
