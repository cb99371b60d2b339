//! `grange top`, before a real pseudo terminal: what is on its screen, and what keys do.

use std::process::Command;

use crate::support::farm::{FakeJob, Farm};
use crate::support::gpus::FakeGpus;
use crate::support::terminal::Terminal;
use crate::support::told::Told;
use crate::support::{eventually, program, signal};

const SLOW: &str = "frame_ms = 400\nsamples = 40";

fn top(farm: &Farm) -> Terminal {
    Terminal::of(&farm.command(&["top"]), 110, 30)
}

/// Frames that are done, as the row of a job tells.
fn frames_done(row: &str, of: u64) -> Option<u64> {
    let of = format!("/{of}");
    let figure = row.split_whitespace().find(|word| word.ends_with(&of))?;
    figure.strip_suffix(&of)?.parse().ok()
}

#[test]
fn a_job_is_seen_to_render_and_canceled_with_two_keys() {
    let farm = Farm::of_fakes(&["meadow"], 1);
    let mut terminal = top(&farm);
    terminal.shows("no jobs yet: `grange submit scene.blend` makes one");
    assert!(terminal.is_filled());
    terminal.line("the farm is live", |line| line.contains("test") && line.contains("live"));
    terminal.line("the agent", |line| line.starts_with("meadow  online"));
    terminal.shows("/1 instance");

    let job = farm.submit_fake(&FakeJob::new(SLOW, 1000));
    terminal
        .line("a row of the job", |line| line.contains("fake.blend") && line.contains("active"));
    terminal.line("frames that are done", |line| frames_done(line, 1000).is_some_and(|n| n > 0));
    terminal.line("what the agent renders", |line| {
        line.contains("fake.blend") && line.contains("frame ") && line.contains("· sample ")
    });

    terminal.press("c");
    terminal.shows(&format!("cancel job {job} fake.blend? finished frames are kept: y or n"));
    terminal.press("n");
    terminal.shows(&format!("job {job} goes on"));
    assert_eq!(farm.job(job)["job"]["state"], "active");
    terminal.press("cy");
    terminal.shows(&format!("job {job}: canceled, priority 50"));
    terminal
        .line("the row says so", |line| line.contains("fake.blend") && line.contains("canceled"));
    farm.wait_for_state(job, "canceled");

    terminal.press("q");
    let left = terminal.left();
    assert_eq!((left.code, left.text.trim()), (Some(0), ""));
}

#[test]
fn keys_pause_resume_prioritise_and_retry_the_chosen_job_and_a_filter_finds_it() {
    let farm = Farm::of_fakes(&["meadow"], 1);
    let first = farm.submit_fake(&FakeJob::new(SLOW, 1000));
    let second = farm.submit_fake(&FakeJob::new(SLOW, 777));
    let mut terminal = top(&farm);
    terminal.line("both jobs", |line| line.contains("/777"));
    terminal.press(&format!("/#{second}"));
    terminal.shows("1 of 2 jobs");
    terminal.press("\r");
    terminal.shows(&format!("job {second} by "));
    terminal.hides("/1000");
    terminal.press("p");
    terminal.shows(&format!("job {second}: paused, priority 50"));
    farm.wait_for_state(second, "paused");
    terminal.press("++");
    terminal.shows(&format!("job {second}: paused, priority 60"));
    terminal.press("p");
    terminal.line("it goes on", |line| {
        line.starts_with(&format!("job {second}: ")) && !line.contains("paused")
    });
    terminal.press("cy");
    farm.wait_for_state(second, "canceled");
    terminal.shows(&format!("job {second}: canceled"));
    terminal.press("r");
    terminal.line("it is tried again", |line| {
        line.starts_with(&format!("job {second}: ")) && !line.contains("canceled")
    });
    assert_eq!(farm.job(second)["job"]["priority"], 60);
    assert_eq!(farm.job(first)["job"]["priority"], 50);
    // The first Esc ends the filter, the second one leaves.
    terminal.press("\u{1b}");
    terminal.line("both jobs again", |line| line.contains("/1000"));
    terminal.press("\u{1b}");
    assert_eq!(terminal.left().code, Some(0));
}

#[test]
fn a_farm_that_is_away_is_called_until_it_is_back() {
    let mut farm = Farm::of_fakes(&["meadow"], 1);
    let job = farm.submit_fake(&FakeJob::new(SLOW, 1000));
    let mut terminal = top(&farm);
    terminal.line("the job", |line| line.contains("fake.blend"));
    farm.stop_coordinator();
    terminal.line("it says so", |line| {
        line.contains("away for 00:00:") && line.contains("connecting again")
    });
    // What was is still there, and nothing can be done to it.
    assert!(terminal.text().contains("fake.blend"), "{}", terminal.text());
    terminal.press("p");
    terminal.shows("the farm is not connected: try again when it is");
    farm.start_coordinator();
    terminal.line("it is live again", |line| line.contains("test") && line.contains("live"));
    terminal.press("p");
    terminal.shows(&format!("job {job}: paused"));
    farm.stop_coordinator();
    terminal.shows("connecting again");
    // Ctrl-C.
    terminal.press("\u{3}");
    let left = terminal.left();
    assert_eq!((left.code, left.text.trim()), (Some(0), ""));
}

#[test]
fn a_viewer_sees_everything_and_is_told_why_nothing_is_done() {
    let farm = Farm::of_fakes(&["meadow"], 1);
    let job = farm.submit_fake(&FakeJob::new(SLOW, 1000));
    let join = farm.grange(&["token", "create", "--role", "viewer"]).well();
    let eve = |args: &[&str]| {
        let mut command = Command::new(program("grange"));
        command.arg("--identity").arg(farm.home().join("eve")).args(args);
        command
    };
    Told::by(&mut eve(&["join", join.trim()])).well();
    let mut terminal = Terminal::of(&eve(&["top"]), 110, 30);
    terminal.line("what runs", |line| line.contains("frame ") && line.contains("· sample "));
    terminal.press("cy");
    terminal.shows(&format!("job {job}: your role (viewer) does not allow this"));
    assert_eq!(farm.job(job)["job"]["state"], "active");
    terminal.press("q");
    assert_eq!(terminal.left().code, Some(0));
}

#[test]
fn it_follows_the_size_of_its_terminal_and_gives_it_back_when_it_is_ended() {
    let farm = Farm::of_fakes(&["meadow"], 1);
    farm.submit_fake(&FakeJob::new(SLOW, 1000));
    let mut terminal = top(&farm);
    terminal.line("a wide table", |line| line.contains("PER MIN") && line.contains("PRIO"));
    terminal.resize(40, 12);
    terminal.line("a narrow one", |line| line.contains("NAME") && !line.contains("PER MIN"));
    terminal.press("?");
    terminal.shows("cancel: asks first");
    terminal.resize(110, 30);
    terminal.press("x");
    terminal.hides("asks first");
    terminal.line("a wide one again", |line| line.contains("PER MIN") && line.contains("PRIO"));
    signal(terminal.pid(), "TERM");
    let left = terminal.left();
    assert_eq!((left.code, left.text.trim()), (Some(0), ""));
}

/// A window is dragged while somebody types.
#[test]
fn a_key_in_the_same_instant_as_a_new_size_counts() {
    let farm = Farm::new();
    let mut terminal = top(&farm);
    terminal.line("the farm is live", |line| line.contains("test") && line.contains("live"));
    for round in 0..100 {
        terminal.resize(100 + round % 7, 30);
        terminal.press("?");
        terminal.shows("cancel: asks first");
        terminal.resize(90 + round % 7, 30);
        terminal.press("x");
        terminal.hides("asks first");
    }
    terminal.press("q");
    assert_eq!(terminal.left().code, Some(0));
}

#[test]
fn each_device_shows_whose_its_memory_is() {
    let mut gpus = FakeGpus::of_sizes(&[24_576, 8_192]);
    gpus.foreign_process(1, 4242, 4_096);
    let mut farm = Farm::new();
    farm.start_agent_on(&gpus, "meadow", &["--instances", "1"]);
    farm.wait_for_agents(1);
    let mut terminal = top(&farm);
    terminal.line("the GPU that is free", |line| {
        line.contains("Fake 0") && line.contains(" 0.0/23.6 GiB") && !line.contains('▒')
    });
    terminal.line("the GPU that others use", |line| {
        line.contains("Fake 1") && line.contains(" ▒▒▒▒▒▒▒▒") && line.contains(" 4.0/7.9 GiB")
    });
    terminal.press("q");
    assert_eq!(terminal.left().code, Some(0));
}

#[test]
fn what_renders_stands_below_its_device() {
    let gpus = FakeGpus::of_sizes(&[24_576, 24_576]);
    let mut farm = Farm::new();
    farm.start_agent_on(&gpus, "meadow", &["--instances", "1"]);
    farm.wait_for_agents(1);
    let job = farm.submit_fake(&FakeJob::new(SLOW, 1000));
    let mut terminal = top(&farm);
    eventually("a frame below each device", || {
        let text = terminal.text();
        let (_, below) = text.split_once("Fake 0")?;
        let both = below.split_once("Fake 1")?;
        [both.0, both.1].iter().all(|lines| lines.matches("· sample ").count() == 1).then_some(())
    });
    terminal.press("q");
    assert_eq!(terminal.left().code, Some(0));
    // Whoever asks once is told as well.
    eventually("both devices have a task", || {
        let told = farm.grange(&["job", &job.to_string()]).well();
        ["meadow, Fake 0", "meadow, Fake 1"].iter().all(|at| told.contains(at)).then_some(())
    });
}

#[test]
fn who_wants_no_colours_gets_none() {
    let farm = Farm::new();
    for (no_color, coloured) in [("1", false), ("", true)] {
        let mut command = farm.command(&["top"]);
        let mut terminal = Terminal::of(command.env("NO_COLOR", no_color), 80, 24);
        terminal.line("the farm is live", |line| line.contains("test") && line.contains("live"));
        assert_eq!(terminal.is_coloured(), coloured, "NO_COLOR={no_color}");
        terminal.press("q");
        assert_eq!(terminal.left().code, Some(0));
    }
}

#[test]
fn where_it_cannot_be_it_says_what_to_use_instead() {
    let mut farm = Farm::new();
    farm.grange(&["top"]).fails(2, "needs a terminal to fill: `grange watch` prints");
    farm.grange(&["top", "--json"]).fails(2, "`grange jobs --json` is for programs");
    // A terminal that knows nothing but lines.
    let mut dumb = farm.command(&["top"]);
    dumb.env("TERM", "dumb");
    let left = Terminal::of(&dumb, 80, 24).left();
    assert_eq!(left.code, Some(2), "{}", left.text);
    // No coordinator, and the terminal stays as it is.
    farm.stop_coordinator();
    let mut terminal = Terminal::of(&farm.command(&["top"]), 160, 24);
    terminal.shows("cannot be reached");
    assert!(!terminal.is_filled());
    assert_eq!(terminal.left().code, Some(3));
}
