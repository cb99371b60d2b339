//! Webhooks of real farms: what a receiver is sent, and that nothing is lost on the way.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::support::disk::Disk;
use crate::support::eventually;
use crate::support::farm::{FakeJob, Farm, free_port};
use crate::support::http::Http;
use crate::support::told::Told;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Everything that a receiver was asked, and what it answers.
#[derive(Default)]
struct Seen {
    requests: Vec<Asked>,
    /// What it answers next: a status, and headers. 204 after that.
    answers: VecDeque<String>,
}

#[derive(Clone, Debug)]
struct Asked {
    id: String,
    sent_at: String,
    kind: String,
    body: Value,
}

/// A plain HTTP server.
struct Receiver {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

impl Receiver {
    fn new() -> Self {
        Self::at(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
    }

    fn at(listener: TcpListener) -> Self {
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::<Mutex<Seen>>::default();
        let shared = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever was killed in the middle of a request has sent nothing.
                let _ = serve(&stream, &shared);
            }
        });
        Self { port, seen }
    }

    fn answers(&self, answers: &[&str]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.answers.extend(answers.iter().map(|answer| (*answer).to_owned()));
    }

    fn requests(&self) -> Vec<Asked> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).requests.clone()
    }

    /// The kinds of what it was asked, in their order.
    fn kinds(&self) -> Vec<String> {
        self.requests().into_iter().map(|asked| asked.kind).collect()
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }
}

/// One request, one connection.
fn serve(stream: &TcpStream, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim() {
            "" => break,
            line => headers.push(line.to_ascii_lowercase().replacen(": ", ":", 1)),
        }
    }
    let header = |name: &str| {
        let value = headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_default().to_owned()
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let body: Value = serde_json::from_slice(&body)?;
    let asked = Asked {
        id: header("webhook-id"),
        sent_at: header("webhook-timestamp"),
        kind: body["type"].as_str().unwrap_or_default().to_owned(),
        body,
    };
    let answer = {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.requests.push(asked);
        seen.answers.pop_front().unwrap_or_else(|| "204 No Content".into())
    };
    write!(&*stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// `examples/webhooks/receiver.py`, which knows the signatures from the specification alone.
struct Python {
    process: Child,
    lines: BufReader<ChildStdout>,
    port: u16,
}

impl Python {
    fn new() -> Self {
        let example =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/webhooks/receiver.py");
        let mut process = Command::new("python3")
            .arg(example)
            .arg("0")
            .env("SECRET", SECRET)
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let mut lines = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("listening on port ").expect("a port");
        Self { process, port: port.parse().unwrap(), lines }
    }

    /// The next event that it took, without its time.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.split_once(' ').expect("a time").1.trim().to_owned()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A configuration with these lines in it.
fn configuration(farm: &Farm, lines: &str) -> PathBuf {
    let path = farm.home().join("coordinator.toml");
    fs::write(&path, lines).unwrap();
    path
}

fn webhook(url: &str, more: &str) -> String {
    format!("[[webhook]]\nurl = '{url}'\nsecret = '{SECRET}'\n{more}\n")
}

/// Starts the coordinator anew, with these lines in its configuration.
fn restart_with(farm: &mut Farm, lines: &str) {
    let path = configuration(farm, lines);
    farm.start_coordinator_with(&["--config", path.to_str().unwrap()]);
}

fn farm_with(lines: &str) -> Farm {
    let mut farm = Farm::without_a_coordinator();
    restart_with(&mut farm, lines);
    farm
}

/// Submitted to it, in pieces that do not end before they are looked at.
fn short_job() -> FakeJob {
    FakeJob::new("frame_ms = 1", 2)
}

#[test]
fn a_receiver_that_knows_the_specification_hears_a_job_from_its_start_to_its_end() {
    let mut python = Python::new();
    let url = format!("http://127.0.0.1:{}/", python.port);
    let mut farm = farm_with(&webhook(&url, ""));
    farm.add_fakes(&["host"], 1);
    assert_eq!(python.line(), "test agent.online host");
    let job = farm.submit_fake(&short_job());
    farm.wait_for_state(job, "completed");
    for kind in ["job.submitted", "job.started", "job.completed"] {
        assert_eq!(python.line(), format!("test {kind} fake.blend"));
    }
    farm.kill_agent("host");
    assert_eq!(python.line(), "test agent.offline host");
    // Somebody who does not know the secret is not believed.
    let config = configuration(&farm, &webhook(&url, "").replace("whsec_Mf", "whsec_Nf"));
    test_webhooks(&farm, &config, &[]).fails(1, "answered 401 Unauthorized");
    let config = configuration(&farm, &webhook(&url, ""));
    let told = test_webhooks(&farm, &config, &[&url]).well();
    assert_eq!(told, format!("{url} took webhook.test (204 No Content)\n"));
    assert_eq!(python.line(), "test webhook.test");
}

fn test_webhooks(farm: &Farm, config: &Path, urls: &[&str]) -> Told {
    let mut command = farm.coordinator_command();
    command.args(["--farm", "test", "--config"]).arg(config).arg("test-webhooks").args(urls);
    Told::by(&mut command)
}

#[test]
fn what_is_not_taken_comes_again_under_the_same_id() {
    let receiver = Receiver::new();
    receiver.answers(&["500 Internal Server Error", "302 Found\r\nLocation: http://elsewhere/"]);
    let more = "events = ['job.completed', 'job.canceled']\nretry_s = [0, 1, 1]";
    let mut farm = farm_with(&webhook(&receiver.url(), more));
    farm.add_fakes(&["host"], 1);
    let job = farm.submit_fake(&short_job());
    farm.wait_for_state(job, "completed");
    let asked = eventually("the event is taken", || {
        let asked = receiver.requests();
        (asked.len() == 3).then_some(asked)
    });
    let [first, .., last] = &asked[..] else { panic!("{asked:?}") };
    assert!(asked.iter().all(|one| one.id == first.id && one.body == first.body), "{asked:?}");
    assert!(last.sent_at.parse::<u64>().unwrap() >= first.sent_at.parse().unwrap(), "{asked:?}");
    // Nothing else is told, and what is told is what everybody sees of the job.
    let http = Http::of(&farm, "submitter");
    let detail = http.get(&format!("/api/v1/jobs/{job}")).json(200);
    let told = &first.body["data"];
    for key in ["id", "name", "state", "submitter", "submitted_at", "ended_at"] {
        assert_eq!(told[key], detail["job"][key], "{key}");
    }
    assert_eq!(told["progress"]["frames_done"], 2);
    let figures = eventually("the delivery is counted", || {
        let metrics = String::from_utf8(http.get("/metrics").body).unwrap();
        metrics.contains("outcome=\"delivered\"} 1\n").then_some(metrics)
    });
    let labels = format!("webhook=\"{}\"", receiver.url());
    for line in [
        format!("grange_webhook_deliveries_total{{{labels},outcome=\"failed\"}} 2\n"),
        format!("grange_webhook_waiting{{{labels}}} 0"),
    ] {
        assert!(figures.contains(&line), "{figures}");
    }
    let said = farm.said("coordinator");
    assert!(said.contains("set its `url` to http://elsewhere/, redirects are not followed"));
    assert!(!said.contains("MfKQ9r8G"), "no log shows a secret");
}

#[test]
fn what_happened_while_a_receiver_was_away_outlives_a_killed_coordinator() {
    outlives_a_kill(Farm::without_a_coordinator());
}

#[test]
fn what_happened_while_a_receiver_was_away_outlives_a_killed_coordinator_on_postgres() {
    let mut farm = Farm::without_a_coordinator();
    farm.turn_to_postgres();
    outlives_a_kill(farm);
}

fn outlives_a_kill(mut farm: Farm) {
    let port = free_port();
    let lines =
        webhook(&format!("http://127.0.0.1:{port}/hook"), "retry_s = [1, 1, 1, 1, 1, 3600]");
    restart_with(&mut farm, &lines);
    farm.add_fakes(&["host"], 1);
    let job = farm.submit_fake(&short_job());
    farm.wait_for_state(job, "completed");
    // There and then: what is not on disk yet is in the journal.
    farm.kill_coordinator();
    let receiver = Receiver::at(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
    restart_with(&mut farm, &lines);
    let of_job = |asked: &Asked| asked.kind.starts_with("job.");
    let told = eventually("all of the job is told", || {
        let told: Vec<Asked> = receiver.requests().into_iter().filter(of_job).collect();
        told.iter().any(|asked| asked.kind == "job.completed").then_some(told)
    });
    let kinds: Vec<&str> = told.iter().map(|asked| asked.kind.as_str()).collect();
    assert_eq!(kinds, ["job.submitted", "job.started", "job.completed"]);
    assert!(told.iter().all(|asked| asked.body["data"]["id"] == job), "{told:?}");
    // What was told is not told again by the next one.
    let another = farm.submit_fake(&short_job());
    farm.wait_for_state(another, "completed");
    eventually("the second job is told", || {
        let last = receiver.requests().into_iter().rfind(of_job)?;
        (last.body["data"]["id"] == another && last.kind == "job.completed").then_some(())
    });
    farm.stop_coordinator();
    restart_with(&mut farm, &lines);
    farm.grange(&["cancel", &farm.submit_fake(&FakeJob::new("frame_ms = 60000", 1)).to_string()])
        .well();
    eventually("the third job is told", || {
        receiver.kinds().contains(&"job.canceled".into()).then_some(())
    });
    let mut ids: Vec<String> = receiver.requests().into_iter().map(|asked| asked.id).collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "nothing was told twice: {:?}", receiver.kinds());
}

/// The coordinator dies after its receiver took an event and before that is on disk: the same event
/// comes again, under the same id.
#[test]
fn a_repeat_after_a_kill_has_the_same_id() {
    let receiver = Receiver::new();
    let lines = webhook(&receiver.url(), "events = ['job.submitted']");
    let mut farm = farm_with(&lines);
    // What is written down from now on goes nowhere.
    let kept = farm.home().join("coordinator/webhooks.json");
    eventually("what is to be kept is kept", || kept.exists().then_some(()));
    let before = fs::read(&kept).unwrap();
    let job = farm.submit_fake(&short_job());
    eventually("the event is taken", || (receiver.requests().len() == 1).then_some(()));
    farm.kill_coordinator();
    fs::write(&kept, before).unwrap();
    restart_with(&mut farm, &lines);
    let asked = eventually("it comes again", || {
        let asked = receiver.requests();
        (asked.len() == 2).then_some(asked)
    });
    assert_eq!(asked[0].id, asked[1].id);
    assert_eq!(asked[1].body["data"]["id"], job);
}

/// One takes the connection and never answers; the farm, another receiver and the coordinator's end
/// wait for nothing.
#[test]
fn a_receiver_that_never_answers_holds_up_nobody() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let receiver = Receiver::new();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let lines = webhook(&url, "") + &webhook(&receiver.url(), "events = ['job.completed']");
    let mut farm = farm_with(&lines);
    let first = farm.submit_fake(&short_job());
    let (held, _) = silent.accept().unwrap();
    farm.add_fakes(&["host"], 1);
    farm.wait_for_state(first, "completed");
    eventually("the other one is told", || (receiver.requests().len() == 1).then_some(()));
    farm.stop_coordinator();
    let mut asked = String::new();
    BufReader::new(held).read_to_string(&mut asked).unwrap();
    assert_eq!(asked.matches("webhook-id").count(), 1, "it is asked one thing at a time: {asked}");
    // What it never took waits for it.
    let kept = fs::read_to_string(farm.home().join("coordinator/webhooks.json")).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    let waiting = kept["waiting"][&url].as_array().unwrap();
    assert_eq!(kept["events"].as_array().unwrap().len(), waiting.len(), "{kept}");
    let kinds: Vec<&str> =
        kept["events"].as_array().unwrap().iter().filter_map(|one| one["type"].as_str()).collect();
    for kind in ["job.submitted", "job.started", "job.completed"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
}

/// By HTTPS a receiver is who its certificate says it is. The farm's own HTTP API stands for one.
#[test]
fn a_receiver_by_https_must_be_known_to_the_host() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let config = configuration(&farm, &webhook(&format!("{}/api/v1/jobs", http.base), ""));
    let ca = farm.home().join("ca.pem");
    fs::write(&ca, http.get("/api/v1/ca.pem").body).unwrap();
    let other = Http::of(&Farm::new(), "submitter").get("/api/v1/ca.pem").body;
    let stranger = farm.home().join("stranger.pem");
    fs::write(&stranger, other).unwrap();
    let told = |trusted: &Path| {
        let mut command = farm.coordinator_command();
        command.env("SSL_CERT_FILE", trusted).arg("--config").arg(&config).arg("test-webhooks");
        Told::by(&mut command)
    };
    told(&ca).fails(1, "answered 401 Unauthorized");
    told(&stranger).fails(1, "was not reached (client error (Connect): invalid peer certificate");
}

/// Agents that come back are no news; one that does not is missed.
#[test]
fn an_agent_that_is_lost_with_the_coordinator_is_missed_by_the_next_one() {
    let receiver = Receiver::new();
    let lines = webhook(&receiver.url(), "events = ['agent.online', 'agent.offline']");
    let mut farm = farm_with(&lines);
    farm.add_fakes(&["here", "lost"], 1);
    eventually("both are told", || (receiver.requests().len() == 2).then_some(()));
    // Well stopped, so that it is on disk who was there.
    farm.stop_coordinator();
    farm.kill_agent("lost");
    restart_with(&mut farm, &lines);
    farm.wait_for_agents(1);
    let asked = eventually("one is missed", || {
        let asked = receiver.requests();
        (asked.len() > 2).then_some(asked)
    });
    let mut told: Vec<(&str, &str)> = asked
        .iter()
        .map(|asked| (asked.kind.as_str(), asked.body["data"]["name"].as_str().unwrap()))
        .collect();
    told.sort();
    let [offline, online] = ["agent.offline", "agent.online"];
    assert_eq!(told, [(offline, "lost"), (online, "here"), (online, "lost")]);
}

#[test]
fn a_disk_that_is_full_and_has_room_again_is_told_and_remembered() {
    let mut farm = Farm::without_a_coordinator();
    let Some(disk) = Disk::mount(&farm.home().join("coordinator"), "48m") else { return };
    let receiver = Receiver::new();
    let lines = webhook(&receiver.url(), "events = ['storage.full', 'storage.recovered']");
    restart_with(&mut farm, &lines);
    // Less than what is kept for the journal, a twentieth.
    disk.fill_but(2 << 20);
    eventually("it is told", || (receiver.kinds() == ["storage.full"]).then_some(()));
    // The next one finds it full as well, which is no news.
    farm.kill_coordinator();
    restart_with(&mut farm, &lines);
    disk.empty();
    let mut asked = eventually("that there is room is told", || {
        let asked = receiver.requests();
        asked.iter().any(|one| one.kind == "storage.recovered").then_some(asked)
    });
    // Killed before it had noted that somebody took it, a coordinator says the same again; killed before
    // it was written down, which a full disk waits for nobody with, the next one says it anew.
    asked.dedup_by(|again, one| again.kind == one.kind);
    let problems: Vec<&Value> =
        asked.iter().map(|asked| &asked.body["data"]["storage_full"]).collect();
    let [Value::String(problem), Value::Null] = problems[..] else { panic!("{asked:?}") };
    assert!(problem.contains("make room at "), "{problem}");
    let told = farm.grange(&["history", "--farm", "--json"]).json_lines();
    let of_storage = |event: &&Value| event["kind"].as_str().unwrap().starts_with("storage.");
    let [full, recovered] = &told.iter().filter(of_storage).collect::<Vec<_>>()[..] else {
        panic!("{told:?}")
    };
    assert_eq!((&full["kind"], &full["text"]), (&"storage.full".into(), problems[0]));
    assert_eq!(recovered["kind"], "storage.recovered");
}

/// The disk has no room even for what happened: programs are told all the same, and it is written down
/// when there is.
#[test]
fn a_disk_without_any_room_is_told_of_at_once_and_remembered_later() {
    let mut farm = Farm::without_a_coordinator();
    let Some(disk) = Disk::mount(&farm.home().join("coordinator"), "24m") else { return };
    let receiver = Receiver::new();
    restart_with(&mut farm, &webhook(&receiver.url(), ""));
    disk.fill_but(0);
    eventually("it is told", || (receiver.kinds() == ["storage.full"]).then_some(()));
    // Nothing waits for it: who asks is answered.
    farm.grange(&["jobs"]).well();
    disk.empty();
    eventually("that there is room is told", || {
        (receiver.kinds() == ["storage.full", "storage.recovered"]).then_some(())
    });
    eventually("both are remembered", || {
        let told = farm.grange(&["history", "--farm"]).well();
        let has = |what: &str| told.contains(what);
        (has("is full: make room") && has("there is room in the farm's storage again"))
            .then_some(())
    });
}

/// What nobody takes is given up in the end, which people hear of on the farm itself, once.
#[test]
fn a_receiver_that_takes_nothing_is_in_the_history_once() {
    let receiver = Receiver::new();
    receiver.answers(&["500 Internal Server Error"; 4]);
    let lines = webhook(&receiver.url(), "events = ['job.submitted']\nretry_s = [0]");
    let farm = farm_with(&lines);
    let told = |farm: &Farm| {
        let told = farm.grange(&["history", "--farm", "--json"]).json_lines();
        let gave_up = told.into_iter().filter(|event| event["kind"] == "webhook.gave_up");
        gave_up.map(|event| event["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for asked in [2, 4] {
        farm.submit_fake(&short_job());
        eventually("it is asked twice", || (receiver.requests().len() == asked).then_some(()));
    }
    let expected =
        "the webhook at 127.0.0.1 answered 500 Internal Server Error: job.submitted is given up";
    eventually("it is told", || (!told(&farm).is_empty()).then_some(()));
    assert_eq!(told(&farm), [expected]);
    // Once it has taken something, the next time is news.
    farm.submit_fake(&short_job());
    eventually("it takes one", || (receiver.requests().len() == 5).then_some(()));
    receiver.answers(&["500 Internal Server Error"; 2]);
    farm.submit_fake(&short_job());
    eventually("it is told again", || (told(&farm).len() == 2).then_some(()));
}

#[test]
fn a_receiver_that_is_gone_is_told_nothing_more() {
    let receiver = Receiver::new();
    receiver.answers(&["410 Gone"]);
    let lines = webhook(&receiver.url(), "events = ['job.submitted']");
    let farm = farm_with(&lines);
    farm.submit_fake(&short_job());
    eventually("it says so", || {
        farm.said("coordinator")
            .contains("answered 410 Gone and is told nothing more")
            .then_some(())
    });
    farm.submit_fake(&short_job());
    let http = Http::of(&farm, "submitter");
    let metrics = String::from_utf8(http.get("/metrics").body).unwrap();
    assert!(
        metrics.contains(&format!("grange_webhook_waiting{{webhook=\"{}\"}} 0", receiver.url()))
    );
    assert_eq!(receiver.kinds(), ["job.submitted"]);
}

#[test]
fn a_webhook_that_is_wrong_ends_the_coordinator_with_a_sentence() {
    let farm = Farm::without_a_coordinator();
    let url = "https://example.org/hook";
    for (lines, code) in [
        (webhook(url, "events = ['job.done']"), "`job.done` is no event that the webhook"),
        (webhook("example.org", ""), "`example.org` has no address like https://"),
        (format!("[[webhook]]\nurl = '{url}'\n"), "has no secret: make one by"),
        (webhook(url, "event = []"), "unknown field `event`"),
    ] {
        let config = configuration(&farm, &lines);
        let told = Told::by(farm.coordinator_command().arg("--config").arg(&config));
        told.fails(1, code);
    }
    let config = configuration(&farm, "");
    test_webhooks(&farm, &config, &[]).fails(1, "no webhook is configured: add `[[webhook]]`");
    let config = configuration(&farm, &webhook(url, ""));
    test_webhooks(&farm, &config, &["http://x/"]).fails(1, "has the `url` http://x/");
}
