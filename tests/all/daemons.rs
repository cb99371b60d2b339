//! The daemons as a system runs them: units, configuration, signals.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::farm::{FakeJob, Farm};
use crate::support::told::Told;
use crate::support::{eventually, program, signal};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let dir = TempDir::new().unwrap();
    let mut units = Vec::new();
    for daemon in ["grange-coordinator", "grange-agent"] {
        let unit = fs::read_to_string(deploy().join(format!("systemd/{daemon}.service"))).unwrap();
        let installed = format!("/usr/bin/{daemon}");
        assert!(unit.contains(&installed) && unit.contains("Type=notify"));
        let path = dir.path().join(format!("{daemon}.service"));
        fs::write(&path, unit.replace(&installed, program(daemon).to_str().unwrap())).unwrap();
        units.push(path);
    }
    let told = Told::by(Command::new("systemd-analyze").args(["--man=no", "verify"]).args(&units));
    assert_eq!(told.stderr, "", "{told:?}");
    told.well();
    let sysusers = deploy().join("systemd/grange.sysusers.conf").canonicalize().unwrap();
    let told = Told::by(Command::new("systemd-sysusers").arg("--dry-run").arg(sysusers));
    assert!(format!("{told:?}").contains("grange-agent"), "{told:?}");
    told.well();
}

#[test]
fn the_sample_configurations_are_the_defaults() {
    for (daemon, file) in
        [("grange-coordinator", "coordinator.toml"), ("grange-agent", "agent.toml")]
    {
        let sample = fs::read_to_string(deploy().join("config").join(file)).unwrap();
        let help = Told::by(Command::new(program(daemon)).arg("--help")).well();
        let settings: Vec<&str> = sample
            .lines()
            .filter_map(|line| line.strip_prefix('#')?.split_once(" = "))
            .map(|(key, _)| key)
            .filter(|key| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
            .collect();
        assert!(settings.len() > 4, "{settings:?}");
        for key in &settings {
            let flag = format!("--{}", key.replace('_', "-"));
            assert!(help.contains(&flag), "{file} has `{key}`, but {daemon} has no {flag}");
        }
        // Every setting uncommented is still a configuration.
        let dir = TempDir::new().unwrap();
        let path = dir.path().join(file);
        let all: String = sample
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting)
                    if settings.iter().any(|key| setting.starts_with(&format!("{key} = "))) =>
                {
                    setting
                }
                _ => line,
            })
            .fold(String::new(), |text, line| text + line + "\n");
        let state = dir.path().join("state");
        fs::write(&path, all).unwrap();
        let mut command = Command::new(program(daemon));
        command.arg("--config").arg(&path).arg("--state-dir").arg(&state);
        if daemon == "grange-agent" {
            Told::by(&mut command).fails(1, "this host is in no farm yet");
        } else {
            fs::write(&path, fs::read_to_string(&path).unwrap() + "\nlisten_on = 3\n").unwrap();
            Told::by(&mut command).fails(1, "unknown field `listen_on`");
        }
    }
}

#[test]
fn flags_go_over_the_environment_over_the_file() {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("c.toml");
    // Each value is bad in its own way, so the error tells which one counted.
    fs::write(&config, "advertise = ['file']\n").unwrap();
    let told = |env: Option<&str>, flag: Option<&str>| {
        let mut command = Command::new(program("grange-coordinator"));
        command.arg("--config").arg(&config).arg("--state-dir").arg(dir.path());
        command.envs(env.map(|value| ("GRANGE_ADVERTISE", value)));
        command.args(flag.map(|value| format!("--advertise={value}")));
        Told::by(&mut command)
    };
    told(None, None).fails(1, "`file` in `advertise` is not HOST:PORT");
    told(Some("environment"), None).fails(1, "`environment` in `advertise`");
    told(Some("environment"), Some("flag")).fails(1, "`flag` in `advertise`");
}

#[test]
fn an_agent_that_is_told_to_stop_finishes_its_frame_and_gives_back_the_rest() {
    let mut farm = Farm::of_fakes(&["host"], 1);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 1500", 5));
    eventually("the first frame renders", || {
        (farm.job(job)["job"]["progress"]["tasks"]["running"].as_u64() > Some(0)).then_some(())
    });
    std::thread::sleep(std::time::Duration::from_millis(500));
    signal(farm.agent_pid("host"), "TERM");
    assert!(farm.wait_for_end_of("host").success());
    let tasks = &farm.job(job)["job"]["progress"]["tasks"];
    assert_eq!(
        (tasks["completed"].as_u64(), tasks["running"].as_u64()),
        (Some(1), Some(0)),
        "{tasks}"
    );
    assert_eq!(tasks["failed"], 0);
    farm.restart_agent("host", &[program("fake-blender")], &[]);
    farm.wait_for_state(job, "completed");
}

#[test]
fn a_second_coordinator_on_the_same_state_is_refused() {
    let farm = Farm::new();
    let mut command = Command::new(program("grange-coordinator"));
    command.args(["--listen", "127.0.0.1:0", "--state-dir"]).arg(farm.home().join("coordinator"));
    Told::by(&mut command).fails(1, "another coordinator is using");
}

#[test]
fn a_log_for_programs_is_an_object_a_line_that_says_what_it_is_about() {
    let mut farm = Farm::without_a_coordinator();
    farm.set_environment(&[("GRANGE_LOG_FORMAT", "json")]);
    farm.start_coordinator();
    farm.add_fakes(&["host"], 1);
    farm.stop_coordinator();
    for (daemon, field, value, message) in [
        ("coordinator", "agent", "host", "agent host is here"),
        ("host", "farm", "test", "connected to farm test"),
    ] {
        let said = farm.said(daemon);
        let lines: Vec<Value> = said
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect();
        let about = lines.iter().find(|line| line["message"] == message).expect(message);
        assert_eq!((&about[field], &about["level"]), (&json!(value), &json!("INFO")), "{about}");
        assert!(about["timestamp"].is_string(), "{about}");
    }
}

#[test]
fn what_a_daemon_says_when_its_address_is_taken() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = TempDir::new().unwrap();
    let mut command = Command::new(program("grange-coordinator"));
    command.args(["--listen", &address, "--state-dir"]).arg(dir.path());
    Told::by(&mut command).fails(1, &format!("the address {address} cannot be listened on"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = Command::new(program("grange-coordinator"));
    command.args(["--listen", "127.0.0.1:0", "--http-listen", &address, "--state-dir"]);
    let saying = format!("the address {address} (TCP) of the HTTP API cannot be listened on");
    Told::by(command.arg(dir.path())).fails(1, &saying);
    let mut command = Command::new(program("grange-coordinator"));
    command.args(["--http-listen", "of", "--state-dir"]).arg(dir.path());
    Told::by(&mut command).fails(1, "`of` in `http_listen` is neither ADDRESS:PORT nor `off`");
}
