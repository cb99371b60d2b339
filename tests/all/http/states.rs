//! A job of very many tasks, whose states are told as letters.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{noop, submission, submit};
use crate::support::farm::Farm;
use crate::support::http::{Event, Http};

/// What a watcher knows.
#[derive(Default)]
struct Watched {
    /// By step.
    letters: BTreeMap<u64, Vec<char>>,
    /// Tasks that were told as they are.
    told: Vec<Value>,
    state: String,
    /// Steps whose turn it was said to be.
    steps: BTreeSet<String>,
}

impl Watched {
    fn hear(&mut self, event: &Value) {
        if let Some(states) = event.get("states") {
            let letters = self.letters.entry(states["step"].as_u64().unwrap()).or_default();
            let first = states["first"].as_u64().unwrap() as usize;
            let new: Vec<char> = states["states"].as_str().unwrap().chars().collect();
            assert!(first <= letters.len(), "letters {first} come after {}", letters.len());
            letters.resize(letters.len().max(first + new.len()), '?');
            letters[first..first + new.len()].copy_from_slice(&new);
        } else if let Some(task) = event.get("task") {
            self.told.push(task["task"].clone());
        } else if let Some(job) = event.get("job") {
            self.state = job["state"].as_str().unwrap().into();
            self.steps.extend(job["step"].as_str().map(Into::into));
        }
    }

    fn text(&self) -> Vec<String> {
        self.letters.values().map(|letters| letters.iter().collect()).collect()
    }
}

fn grid(http: &Http, job: u64) -> Vec<String> {
    let grid = http.get(&format!("/api/v1/jobs/{job}/grid")).json(200);
    let steps = grid["steps"].as_array().unwrap();
    steps.iter().map(|step| step["states"].as_str().unwrap().into()).collect()
}

/// Hears until what is known is so, which the test waits for as long as it takes.
#[track_caller]
fn until(
    watched: &mut Watched,
    events: &mut impl Iterator<Item = Event>,
    so: impl Fn(&Watched) -> bool,
) {
    while !so(watched) {
        watched.hear(&events.next().expect("an event").data);
    }
}

#[test]
fn states_that_are_told_as_letters_are_those_of_the_grid_whatever_happens() {
    let farm = Farm::of_fakes(&["host"], 2);
    let http = Http::of(&farm, "submitter");
    let mut animation = submission(&http, "frame_ms = 5\nfail = [7]", 12);
    let preview = json!({ "fps": { "fps": 24, "base": 1.0 }, "output": "preview.mp4" });
    animation["kind"]["animation"]["preview"] = preview;
    let job = submit(&http, &animation);
    let path = format!("/api/v1/jobs/{job}/events?states=true");
    let mut events = http.events(&path, None);
    let mut watched = Watched::default();
    until(&mut watched, &mut events, |watched| watched.state == "failed");
    let failed = grid(&http, job);
    assert_eq!(watched.text(), failed);
    assert_eq!(&failed[0][6..7], "f");
    assert_eq!(failed[1], "x");
    assert_eq!(watched.steps, ["render".to_owned()].into());
    let task = |watched: &Watched| {
        let mut told = watched.told.iter();
        told.rfind(|task| task["state"] == "failed").cloned().expect("a failed task")
    };
    assert_eq!(task(&watched)["failures"][0]["reason"], "Cannot render, no camera");

    // All that failed or was canceled is open again at once, and fails again.
    watched.told.clear();
    http.ask("POST", &format!("/api/v1/jobs/{job}/retry"), &Value::Null).json(200);
    let has_failed = |task: &Value| task["state"] == "failed";
    until(&mut watched, &mut events, |watched| {
        watched.state == "failed" && watched.told.iter().any(has_failed)
    });
    assert_eq!(watched.text(), grid(&http, job));

    // Whoever comes later hears of all first.
    let mut late = Watched::default();
    let events = http.events(&path, None).take_while(|event| event.data != "caughtup");
    events.for_each(|event| late.hear(&event.data));
    assert_eq!((late.text(), late.state), (watched.text(), watched.state));
}

#[test]
fn of_thousands_of_tasks_that_end_at_a_time_some_are_told_as_they_are() {
    let farm = Farm::of_fakes(&["host"], 2);
    let http = Http::of(&farm, "submitter");
    let job = submit(&http, &noop("many", 20_000));
    let mut events = http.events(&format!("/api/v1/jobs/{job}/events?states=true"), None);
    let mut watched = Watched::default();
    until(&mut watched, &mut events, |watched| watched.text().concat().contains('c'));
    http.ask("POST", &format!("/api/v1/jobs/{job}/cancel"), &Value::Null).json(200);
    until(&mut watched, &mut events, |watched| watched.state == "canceled");
    let text = watched.text().concat();
    assert_eq!(watched.text(), grid(&http, job));
    assert!(text.ends_with('x') && text.len() == 20_000, "{text}");
    assert!(watched.told.len() < 20_000);
    assert_eq!(watched.steps, BTreeSet::new(), "there is one only");
}
