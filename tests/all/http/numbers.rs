//! The farm in numbers, and its signs of life, as machines ask for them.

use std::path::Path;

use super::{submission, submit};
use crate::support::eventually;
use crate::support::farm::Farm;
use crate::support::gpus::FakeGpus;
use crate::support::http::Http;

#[test]
fn prometheus_reads_what_people_see() {
    let farm = Farm::of_fakes(&["host"], 1);
    let http = Http::of(&farm, "submitter");
    let job = submit(&http, &submission(&http, "frame_ms = 5", 3));
    farm.wait_for_state(job, "completed");
    let answer = http.get("/metrics");
    assert_eq!(answer.status, 200);
    let kind = answer.headers["content-type"].to_str().unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = String::from_utf8(answer.body).unwrap();
    let value = |line: &str| {
        let found = text.lines().find_map(|known| known.strip_prefix(line));
        found.unwrap_or_else(|| panic!("no {line} in\n{text}")).trim().parse::<f64>().unwrap()
    };
    assert_eq!(value("grange_jobs{state=\"completed\"}"), 1.0);
    assert_eq!(value("grange_tasks{state=\"completed\"}"), 3.0);
    assert_eq!(value("grange_agents{state=\"online\"}"), 1.0);
    assert_eq!(value("grange_agents{state=\"offline\"}"), 0.0);
    assert_eq!(value("grange_frames_completed_total"), 3.0);
    assert_eq!(value("grange_outputs_total"), 3.0);
    assert!(value("grange_outputs_bytes_total") > 100.0);
    assert_eq!(value("grange_epoch"), 1.0);
    let device = text.lines().find(|line| {
        line.starts_with("grange_device_memory_bytes{agent=\"host\",device=\"cpu\"")
            && line.contains("use=\"total\"")
    });
    assert!(device.is_some(), "{text}");
    assert!(text.ends_with("# EOF\n"));
    // One help per family, or Prometheus reads none of it.
    let mut helps: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
    let count = helps.len();
    helps.sort_unstable();
    helps.dedup();
    assert_eq!(helps.len(), count, "{text}");
    // What was rendered was, and a rate of it is no rate of deletions.
    farm.grange(&["delete", &job.to_string()]).well();
    let text = String::from_utf8(http.get("/metrics").body).unwrap();
    assert!(text.contains("grange_jobs{state=\"completed\"} 0"), "{text}");
    assert!(text.contains("\ngrange_frames_completed_total 3\n"), "{text}");
}

#[test]
fn signs_of_life_need_no_token_and_numbers_do() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let nobody = http.with_token("");
    for path in ["/healthz", "/readyz"] {
        let answer = nobody.get(path);
        assert_eq!((answer.status, &answer.body[..]), (200, &b"ok\n"[..]), "{path}");
    }
    nobody.get("/metrics").problem(401, "bad_token", "token");
}

#[test]
fn the_dashboard_shows_what_there_is() {
    let mut farm = Farm::new();
    let mut gpus = FakeGpus::of_sizes(&[24_000]);
    gpus.change(|state| {
        (state.gpus[0].temperature_c, state.gpus[0].power_w) = (Some(61), Some(200));
    });
    farm.start_agent_on(&gpus, "host", &["--instances", "1"]);
    farm.wait_for_agents(1);
    let http = Http::of(&farm, "submitter");
    let job = submit(&http, &submission(&http, "frame_ms = 5", 3));
    farm.wait_for_state(job, "completed");
    let told = eventually("devices are told of", || {
        let text = String::from_utf8(http.get("/metrics").body).unwrap();
        text.contains("grange_device_power_watts{").then_some(text)
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/grafana/grange.json");
    let dashboard = std::fs::read_to_string(path).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&dashboard).is_ok());
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = dashboard.match_indices("grange_").map(|(at, _)| {
        let rest = &dashboard[at..];
        &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())]
    });
    let families: Vec<&str> =
        told.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for name in names {
        let family = name.strip_suffix("_total").unwrap_or(name);
        // A farm without sessions, or without a rate, has no such values.
        let is_quiet = ["grange_sessions", "grange_left_seconds"].contains(&family);
        assert!(is_quiet || families.contains(&family), "{name} is none of {families:?}");
    }
}
