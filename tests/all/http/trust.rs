//! Who may ask what, and whom a client trusts.

use std::net::TcpStream;
use std::process::Command;

use serde_json::json;

use super::{noop, submit};
use crate::support::farm::Farm;
use crate::support::http::{Http, agent};
use crate::support::scenes::script;
use crate::support::told::Told;

#[test]
fn without_a_good_token_there_is_nothing_but_the_ca() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let strange = "0".repeat(32);
    for token in ["", "nonsense", &strange] {
        let stranger = http.with_token(token);
        for path in ["/api/v1/farm", "/api/v1/events", "/openapi.json", "/nowhere"] {
            let answer = stranger.get(path);
            assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"grange\"");
            answer.problem(401, "bad_token", "token");
        }
        assert!(stranger.get("/api/v1/ca.pem").body.starts_with(b"-----BEGIN CERTIFICATE-----"));
    }
    let basic = format!("Basic {}", http.token);
    let url = format!("{}/api/v1/farm", http.base);
    let answer = agent(None, false).get(url).header("Authorization", basic).call().unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(http.get("/api/v1/farm").json(200)["farm"], "test");
}

#[test]
fn roles_are_those_of_the_farm() {
    let farm = Farm::new();
    let (submitter, admin) = (Http::of(&farm, "submitter"), Http::of(&farm, "admin"));
    let wish = json!({ "name": "ada", "role": "submitter", "ttl_s": 60 });
    submitter.ask("POST", "/api/v1/tokens", &wish).problem(
        403,
        "forbidden",
        "your role (submitter) does not allow this",
    );
    submitter.get("/api/v1/tokens").problem(403, "forbidden", "ask the farm's admin");

    let made = admin.ask("POST", "/api/v1/tokens", &wish).json(201);
    let connect = made["connect"].as_str().unwrap();
    let ada = submitter.with_token(&connect["grange+https://".len()..][..32]);
    let job = submit(&ada, &noop("hers", 1));
    assert_eq!(ada.get(&format!("/api/v1/jobs/{job}")).json(200)["job"]["submitter"], "ada");
    admin.ask("POST", "/api/v1/tokens", &wish).problem(409, "name_taken", "token `ada` already");

    let names = |listed: serde_json::Value| -> Vec<String> {
        let names = listed.as_array().unwrap().iter().map(|token| token["name"].as_str().unwrap());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(names(admin.get("/api/v1/tokens").json(200)), ["ada", "admin", "submitter"]);
    assert_eq!(admin.send("DELETE", "/api/v1/tokens/ada", &[], Vec::new()).status, 204);
    ada.get("/api/v1/jobs").problem(401, "bad_token", "was revoked");
    farm.grange(&["token", "revoke", "submitter"]).well();
    submitter.get("/api/v1/jobs").problem(401, "bad_token", "was revoked");
    assert_eq!(names(farm.grange(&["token", "list", "--json"]).json()), ["admin"]);
    farm.grange(&["token", "revoke", "submitter"]).fails(1, "there is no token `submitter`");
}

#[test]
fn tokens_survive_a_killed_coordinator_and_its_journal_does_not_tell_them() {
    let mut farm = Farm::new();
    let http = Http::of(&farm, "admin");
    farm.kill_coordinator();
    let state = farm.home().join("coordinator");
    for file in ["journal.sqlite", "journal.sqlite-wal"] {
        let bytes = std::fs::read(state.join(file)).unwrap_or_default();
        let secret: Vec<u8> = (0..16)
            .map(|at| u8::from_str_radix(&http.token[at * 2..at * 2 + 2], 16).unwrap())
            .collect();
        for spelled in [secret.as_slice(), http.token.as_bytes()] {
            assert!(!bytes.windows(spelled.len()).any(|window| window == spelled), "{file}");
        }
    }
    farm.start_coordinator();
    assert_eq!(http.get("/api/v1/farm").json(200)["farm"], "test");
}

#[test]
fn a_client_trusts_the_farms_authority_and_nobody_else() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let url = format!("{}/api/v1/farm", http.base);
    let unpinned = agent(None, true).get(&url).call().unwrap_err();
    assert!(unpinned.to_string().contains("UnknownIssuer"), "{unpinned}");
    let other = Farm::new();
    let foreign = Http::of(&other, "submitter").get("/api/v1/ca.pem").body;
    let wrong = agent(Some(&foreign), true).get(&url).call().unwrap_err();
    assert!(wrong.to_string().contains("invalid peer certificate"), "{wrong}");
    let localhost = http.base.replace("127.0.0.1", "localhost");
    let own = http.get("/api/v1/ca.pem").body;
    let pinned = agent(Some(&own), true).get(format!("{localhost}/api/v1/ca.pem")).call().unwrap();
    assert_eq!(pinned.status(), 200);
}

#[test]
fn those_who_connect_and_say_nothing_hold_up_nobody() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let address = http.base.strip_prefix("https://").unwrap();
    let silent: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(http.get("/api/v1/farm").json(200)["farm"], "test");
    drop(silent);
}

#[test]
fn pythons_standard_library_is_enough() {
    let farm = Farm::new();
    let create = ["token", "create", "--api", "--role", "submitter"];
    let connect = farm.grange(&create).well();
    let python = |connect: &str| {
        Told::by(Command::new("python3.11").arg(script("connect.py")).arg(connect.trim()))
    };
    assert_eq!(python(&connect).json()["farm"], "test");
    let (before, ca) = connect.trim().split_once("?ca=").unwrap();
    let another =
        format!("{before}?ca={}{}", if ca.starts_with('0') { "1" } else { "0" }, &ca[1..]);
    python(&another).fails(1, "this is not the farm of the connect string");
}

#[test]
fn whoever_is_refused_keeps_the_connection_also_if_the_body_comes_after_its_head() {
    let farm = Farm::new();
    let viewer = Http::of(&farm, "viewer");
    let code = "import http.client, json, ssl, sys, time
host, token = sys.argv[1:]
client = http.client.HTTPSConnection(host, context=ssl._create_unverified_context())
for _ in range(2):
    client.putrequest('POST', '/api/v1/jobs')
    client.putheader('Authorization', f'Bearer {token}')
    client.putheader('Content-Length', '2')
    client.endheaders()
    time.sleep(0.5)
    client.send(b'{}')
    answer = client.getresponse()
    print(answer.status, json.loads(answer.read())['type'])";
    let host = viewer.base.strip_prefix("https://").unwrap();
    let told = Told::by(Command::new("python3.11").args(["-c", code, host, &viewer.token])).well();
    assert_eq!(told, "403 urn:grange:forbidden\n403 urn:grange:forbidden\n");
}

#[test]
fn what_a_person_is_told_who_asks_for_the_wrong_token() {
    let farm = Farm::new();
    farm.grange(&["token", "create", "--api", "--role", "agent"])
        .fails(1, "agents do not use the HTTP API");
    farm.grange(&["token", "create", "--api", "--role", "admin", "--ttl", "1s"])
        .fails(1, "lives from 10 seconds to 10 years");
    farm.grange(&["token", "create", "--role", "admin", "--name", "x"]).fails(2, "--api");
}

#[test]
fn a_token_that_is_revoked_hears_nothing_more_also_where_something_always_happens() {
    let farm = Farm::of_fakes(&["host"], 1);
    let http = Http::of(&farm, "viewer");
    let mut events = http.events("/api/v1/events", None);
    assert!(events.by_ref().any(|event| event.data == "caughtup"));
    farm.grange(&["token", "revoke", "viewer"]).well();
    // The host's heartbeats go on; the stream ends all the same.
    let last = events.by_ref().last().expect("what happened until then");
    assert!(last.data.get("agent").is_some(), "{last:?}");
    assert_eq!(events.broke, None, "the farm did not end it");
}

#[test]
fn an_answer_that_comes_before_a_body_was_read_ends_the_connection_and_says_so() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let post = |http: &Http, kind: &str, body: &[u8]| {
        let answer = http.send("POST", "/api/v1/jobs", &[("Content-Type", kind)], body.to_vec());
        let ends = answer.headers.get("connection").is_some_and(|told| told == "close");
        (answer.status, ends)
    };
    assert_eq!(post(&http, "text/plain", b"hello"), (415, true));
    assert_eq!(post(&http, "text/plain", b""), (415, false));
    assert_eq!(post(&http, "application/json", b"hello"), (400, false));
    let nobody = http.with_token(&"0".repeat(32));
    assert_eq!(post(&nobody, "application/json", b"hello"), (401, false), "a short one is read");
}
