//! Jobs from their submission to their last output.

use serde_json::{Value, json};

use super::{noop, submission, submit};
use crate::support::farm::Farm;
use crate::support::http::{Event, Http};

#[test]
fn a_job_is_submitted_watched_and_fetched() {
    let farm = Farm::of_fakes(&["host"], 1);
    let http = Http::of(&farm, "submitter");
    let job = submit(&http, &submission(&http, "frame_ms = 20", 3));
    let jobs = format!("/api/v1/jobs/{job}");

    let events = http.events(&format!("{jobs}/events"), None);
    let mut told: Vec<Event> = Vec::new();
    for event in events {
        let done = event.data["job"]["state"] == "completed";
        told.push(event);
        if done {
            break;
        }
    }
    assert!(told.iter().any(|event| event.data == "caughtup"));
    let outputs: Vec<&Event> = told.iter().filter(|event| event.id.is_some()).collect();
    let name = |event: &Event| event.data["output"]["output"]["output"]["name"].clone();
    let names: Vec<Value> = outputs.iter().map(|event| name(event)).collect();
    assert_eq!(names, ["0001.png", "0002.png", "0003.png"]);

    let listed = http.get(&format!("{jobs}/outputs")).json(200);
    assert_eq!(listed["next"], Value::Null);
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);
    for (event, row) in outputs.iter().zip(listed["items"].as_array().unwrap()) {
        assert_eq!(&event.data["output"]["output"], row);
        assert_eq!(event.id, Some(row["cursor"].to_string()));
        let output = &row["output"];
        let (hash, len) = (&output["blob"]["hash"], output["blob"]["len"].as_u64().unwrap());
        let name = output["name"].as_str().unwrap();
        let file = http.get(&format!("{jobs}/outputs/{name}"));
        assert_eq!((file.status, file.body.len() as u64), (200, len));
        assert_eq!(file.headers["content-type"], "image/png");
        assert_eq!(file.headers["etag"], format!("\"{}\"", hash.as_str().unwrap()));
        let by_hash = http.get(&format!("/api/v1/blobs/{}", hash.as_str().unwrap()));
        assert_eq!(by_hash.body, file.body);
        let range = [("Range", "bytes=4-9")];
        let part = http.get_with(&format!("{jobs}/outputs/{name}"), &range);
        assert_eq!((part.status, &part.body[..]), (206, &file.body[4..10]));
    }
    let unknown = http.get(&format!("{jobs}/outputs/no/such.png"));
    unknown.problem(404, "not_found", "has no output of that name");

    // Whoever comes back hears of what came after, and of nothing twice.
    let rest = |last: Option<&str>, path: &str| -> Vec<Value> {
        let events = http.events(&format!("{jobs}/events{path}"), last);
        let until = events.take_while(|event| event.data != "caughtup");
        until.filter(|event| event.id.is_some()).map(|event| name(&event)).collect()
    };
    assert_eq!(rest(outputs[0].id.as_deref(), ""), ["0002.png", "0003.png"]);
    assert_eq!(rest(outputs[2].id.as_deref(), ""), Vec::<Value>::new());
    let after = format!("?outputs_after={}", outputs[1].id.as_deref().unwrap());
    assert_eq!(rest(None, &after), ["0003.png"]);

    let logs = http.get(&format!("{jobs}/logs")).json(200);
    assert_eq!(logs["items"][0]["text"], "Read blend: /project/fake.blend\n");
    assert_eq!(http.get("/api/v1/agents").json(200)[0]["name"], "host");
    assert!(http.get("/api/v1/footprints").json(200).is_array());
    assert!(http.get("/api/v1/decisions").json(200).is_array());
}

#[test]
fn watchers_of_the_farm_hear_of_every_job_and_of_its_end() {
    let mut farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let mut events = http.events("/api/v1/events", None);
    assert!(events.by_ref().any(|event| event.data == "caughtup"));
    submit(&http, &noop("news", 1));
    assert!(events.by_ref().any(|event| event.data["job"]["name"] == "news"));
    let missing = http.get("/api/v1/jobs/99/events");
    missing.problem(404, "not_found", "there is no job 99");
    let began = std::time::Instant::now();
    farm.stop_coordinator();
    events.for_each(drop);
    assert!(began.elapsed().as_secs() < 4, "it waited for its watchers: {:?}", began.elapsed());
}

#[test]
fn a_key_makes_a_submission_one_job_also_over_a_killed_coordinator() {
    let mut farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let send = |http: &Http, key: &str, submission: &Value| {
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key)];
        http.send("POST", "/api/v1/jobs", &headers, submission.to_string().into_bytes())
    };
    let first = send(&http, "a", &noop("one", 1));
    assert_eq!(first.headers["location"], "/api/v1/jobs/1");
    assert_eq!(first.json(201)["id"], 1);
    assert_eq!(send(&http, "a", &noop("one", 1)).json(201)["id"], 1);
    assert_eq!(send(&http, "b", &noop("one", 1)).json(201)["id"], 2);
    // Another token's keys are its own.
    let admin = Http::of(&farm, "admin");
    assert_eq!(send(&admin, "a", &noop("one", 1)).json(201)["id"], 3);

    farm.kill_coordinator();
    farm.start_coordinator();
    assert_eq!(send(&http, "a", &noop("one", 1)).json(201)["id"], 1);
    send(&http, "a", &noop("other", 1)).problem(422, "key_reused", "which is job 1");
    send(&http, "", &noop("one", 1)).problem(400, "bad_request", "1 to 255 characters");
    assert_eq!(http.get("/api/v1/jobs").json(200)["items"].as_array().unwrap().len(), 3);
}

#[test]
fn long_lists_come_in_pages() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    for number in 1..=5 {
        submit(&http, &noop(&format!("job {number}"), 3));
    }
    let pages = |path: &str, field: &str| -> Vec<Vec<u64>> {
        let (mut pages, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = http.get(&format!("{path}?limit=2{cursor}")).json(200);
            let items = page["items"].as_array().unwrap();
            pages.push(items.iter().map(|item| item[field].as_u64().unwrap()).collect());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return pages,
            }
        }
    };
    assert_eq!(pages("/api/v1/jobs", "id"), [vec![5, 4], vec![3, 2], vec![1]]);
    assert_eq!(pages("/api/v1/jobs/1/tasks", "task"), [vec![0, 1], vec![2]]);
    for (bad, saying) in [
        ("limit=0", "give 1 to 1000"),
        ("limit=1001", "give 1 to 1000"),
        ("cursor=x", "the cursor is none"),
        ("limits=3", "unknown field `limits`"),
    ] {
        http.get(&format!("/api/v1/jobs?{bad}")).problem(400, "bad_request", saying);
    }
}

#[test]
fn jobs_do_what_they_are_told() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let job = submit(&http, &noop("obedient", 2));
    let act =
        |action: &str| http.send("POST", &format!("/api/v1/jobs/{job}/{action}"), &[], vec![]);
    assert_eq!(act("pause").json(200)["state"], "paused");
    assert_eq!(act("resume").json(200)["state"], "queued");
    let priority = format!("/api/v1/jobs/{job}/priority");
    assert_eq!(http.ask("PUT", &priority, &json!({ "priority": 90 })).json(200)["priority"], 90);
    http.ask("PUT", &priority, &json!({ "priority": 101 })).problem(
        422,
        "invalid",
        "`101` is not a priority",
    );
    act("retry").problem(409, "conflict", "there is nothing to retry");
    assert_eq!(act("cancel").json(200)["state"], "canceled");
    act("pause").problem(409, "conflict", "has canceled already");
    assert_eq!(act("retry").json(200)["state"], "queued");
    let detail = http.get(&format!("/api/v1/jobs/{job}")).json(200);
    assert_eq!(
        (&detail["job"]["priority"], &detail["steps"][0]["name"]),
        (&json!(90), &json!("noop"))
    );
    http.get("/api/v1/jobs/99").problem(404, "not_found", "there is no job 99");
}

#[test]
fn mistakes_are_problems_with_one_clear_sentence() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    http.get("/api/v1/jbos").problem(404, "not_found", "there is nothing at /api/v1/jbos");
    let answer = http.send("DELETE", "/api/v1/jobs", &[], Vec::new());
    assert_eq!(answer.headers["allow"], "GET,HEAD,POST");
    answer.problem(405, "no_such_method", "does not know DELETE");
    http.get("/api/v1/jobs/first").problem(400, "bad_request", "first");
    let post = |kind: &str, body: &str| {
        let headers = [("Content-Type", kind)];
        http.send("POST", "/api/v1/jobs", &headers, body.as_bytes().to_vec())
    };
    post("text/plain", "{}").problem(415, "not_json", "Content-Type: application/json");
    post("application/json", "{").problem(400, "bad_request", "the body is not JSON");
    post("application/json", "{}").problem(422, "invalid", "missing field `name`");
    let large = format!("\"{}\"", "x".repeat(5 << 20));
    post("application/json", &large).problem(413, "too_large", "takes 4194304 at most");
    http.ask("POST", "/api/v1/jobs", &noop("", 1)).problem(
        422,
        "invalid",
        "the job has no name: give it one",
    );
    let mut lacking = submission(&http, "frame_ms = 1", 1);
    let mut flat = lacking.clone();
    flat["kind"]["animation"]["shot"]["resolution"] = json!({ "width": 0, "height": 9 });
    http.ask("POST", "/api/v1/jobs", &flat).problem(422, "invalid", "`0x9` is not a resolution");
    lacking["manifest"] = json!("ab".repeat(32));
    http.ask("POST", "/api/v1/jobs", &lacking).problem(
        422,
        "missing_blobs",
        "does not have the job's manifest: send it first",
    );
}
