//! What people read: tables, and the same as JSON.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is where the CLI prints")]

mod agents;
mod footprints;
mod tokens;

use comfy_table::{Cell, CellAlignment, ColumnConstraint, Table, Width, presets};
use grange_protocol::Millis;
use grange_protocol::agent::DeviceKind;
use grange_protocol::history::HistoryView;
use grange_protocol::view::{
    AgentView, FailureView, FarmView, JobCost, JobDetail, JobProgress, JobView, LogView, TaskView,
};
use indicatif::{DecimalBytes, FormattedDuration};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::time::{Duration, SystemTime};

use agents::place;
pub(crate) use agents::{NO_AGENTS, agent, agents, decisions, device_name, gib, tags};
pub(crate) use footprints::footprints;
pub(crate) use tokens::{members, tokens};

/// Stands where nobody knows.
pub(crate) const UNKNOWN: &str = "–";
pub(crate) const NO_JOBS: &str = "no jobs yet: `grange submit scene.blend` makes one";

pub(crate) fn json<T: Serialize>(value: &T) {
    match serde_json::to_string(value) {
        Ok(text) => println!("{text}"),
        Err(error) => note(&format!("this cannot be written as JSON: {error}")),
    }
}

pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// For people, also while standard output goes elsewhere.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

pub(crate) fn jobs(jobs: &[JobView]) {
    if jobs.is_empty() {
        return line(NO_JOBS);
    }
    let mut table = table([
        "JOB",
        "NAME",
        "STATE",
        "PRIO",
        "DONE",
        "FRAMES",
        "PER MIN",
        "LEFT",
        "BY",
        "SUBMITTED",
        "TAGS",
        "KEPT",
    ]);
    for job in jobs {
        let progress = &job.progress;
        table.add_row(vec![
            right(job.id),
            Cell::new(&job.name),
            Cell::new(job.state),
            right(job.priority),
            right(percent(progress.fraction)),
            right(frames(progress).unwrap_or_else(|| "-".into())),
            right(rate(progress.frames_per_minute)),
            right(left(progress.seconds_left)),
            Cell::new(&job.submitter),
            Cell::new(ago(job.submitted_at)),
            Cell::new(tags(&job.tags)),
            Cell::new(if job.kept { "kept" } else { "" }),
        ]);
    }
    if jobs.iter().all(|job| job.tags.is_empty()) {
        hide(&mut table, 10);
    }
    if !jobs.iter().any(|job| job.kept) {
        hide(&mut table, 11);
    }
    line(&table.trim_fmt());
    for job in jobs {
        if let Some(reason) = &job.reason {
            line(&format!("job {}: {reason}", job.id));
        }
    }
}

/// The agents say what their devices are called.
pub(crate) fn job(detail: &JobDetail, agents: &[AgentView]) {
    let JobDetail { job, steps, tasks, cost } = detail;
    let progress = &job.progress;
    line(&format!(
        "job {}: {} ({}, by {}, {})",
        job.id,
        job.name,
        job.kind,
        job.submitter,
        ago(job.submitted_at)
    ));
    line(&format!("state: {}", standing(job)));
    if !job.tags.is_empty() {
        line(&format!("tags: {}", tags(&job.tags)));
    }
    if let Some(reason) = &job.reason {
        line(&format!("reason: {reason}"));
    }
    line(&format!("progress: {}", summary(job)));
    line(&format!("outputs: {} ({})", progress.outputs, DecimalBytes(progress.output_bytes)));
    if cost.total_ms > 0 {
        line(&device_time(*cost));
    }
    line("");
    let mut table_of_steps = table([
        "STEP",
        "NAME",
        "TASKS",
        "WAITING",
        "READY",
        "RUNNING",
        "COMPLETED",
        "FAILED",
        "CANCELED",
    ]);
    for (at, step) in steps.iter().enumerate() {
        let counts = &step.tasks;
        let mut row = vec![right(at), Cell::new(&step.name)];
        row.extend(
            [
                counts.total,
                counts.waiting,
                counts.ready,
                counts.running,
                counts.completed,
                counts.failed,
                counts.canceled,
            ]
            .map(right),
        );
        table_of_steps.add_row(row);
    }
    line(&table_of_steps.to_string());
    for step in steps {
        if let Some(reason) = &step.skipped {
            line(&format!("step {} was left out: {reason}", step.name));
        }
    }
    if tasks.is_empty() {
        return;
    }
    line("");
    let mut table_of_tasks = table(["TASK", "WHAT", "STATE", "AGENT", "PROGRESS"]);
    for task in tasks {
        table_of_tasks.add_row(vec![
            Cell::new(format!("{}/{}", task.step.0, task.task.0)),
            Cell::new(&task.label),
            Cell::new(task.state),
            Cell::new(place(task, agents)),
            Cell::new(activity(task)),
        ]);
    }
    line(&table_of_tasks.to_string());
    for task in tasks {
        for failure in &task.failures {
            line(&failed(task, failure, &format!(", {}", ago(failure.at))));
        }
    }
}

pub(crate) fn log(log: &LogView) {
    let outcome = if log.failed { "failed" } else { "completed" };
    line(&format!(
        "── task {}/{} on {}, {outcome}, {} ──",
        log.step.0,
        log.task.0,
        log.agent,
        ago(log.at)
    ));
    line(log.text.trim_end());
}

/// A line of the history: when it happened, by this host's clock on the wall, and what.
pub(crate) fn happened(event: &HistoryView) -> String {
    let at = i64::try_from(event.at.0).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    let at = at.unwrap_or_default().to_zoned(TimeZone::system());
    format!("{}  {}", at.strftime("%Y-%m-%d %H:%M:%S"), event.sentence())
}

/// Says that the farm has no room, if it has none.
pub(crate) fn storage(farm: &FarmView) {
    if let Some(problem) = &farm.storage_full {
        line(problem);
    }
}

pub(crate) fn farm(farm: &FarmView) -> String {
    let problem = farm.storage_full.as_ref().map(|why| format!("; {why}"));
    format!(
        "farm {}: {} agents online, {} jobs open, {} tasks running, {} done, {} frames/min, {} left{}",
        farm.farm,
        farm.agents_online,
        farm.jobs_open,
        farm.tasks_running,
        percent(farm.fraction),
        rate(farm.frames_per_minute),
        left(farm.seconds_left),
        problem.unwrap_or_default()
    )
}

/// Frames done of all; `None` for a job that has none beforehand, such as a session.
pub(crate) fn frames(progress: &JobProgress) -> Option<String> {
    (progress.frames_total > 0)
        .then(|| format!("{}/{}", progress.frames_done, progress.frames_total))
}

/// What came of an action on a job.
pub(crate) fn acted(job: &JobView) -> String {
    format!("job {}: {}", job.id, standing(job))
}

/// What people decided of it, in a line with its state.
fn standing(job: &JobView) -> String {
    let kept = if job.kept { ", kept" } else { "" };
    format!("{}, priority {}{kept}", job.state, job.priority)
}

/// One line on how far a job is.
pub(crate) fn summary(job: &JobView) -> String {
    let progress = &job.progress;
    let mut parts = vec![match frames(progress) {
        Some(frames) => format!("{frames} frames · {}", percent(progress.fraction)),
        None => job.kind.to_string(),
    }];
    if progress.tasks.failed > 0 {
        parts.push(format!("{} failed", progress.tasks.failed));
    }
    if progress.frames_per_minute > 0.0 {
        parts.push(format!("{} frames/min", rate(progress.frames_per_minute)));
    }
    if let Some(seconds) = progress.seconds_left.filter(|_| !job.state.is_final()) {
        parts.push(format!("{} left", left(Some(seconds))));
    }
    parts.join(" · ")
}

/// A failure in a line, and more about when it was. A shot that fits nowhere failed on no host.
pub(crate) fn failed(task: &TaskView, failure: &FailureView, when: &str) -> String {
    let host = match failure.agent.as_str() {
        "" => String::new(),
        host => format!(" on {host}"),
    };
    format!("{} failed{host}{when}: {}", task.label, failure.reason)
}

/// What a running task is doing.
pub(crate) fn activity(task: &TaskView) -> String {
    let Some(progress) = &task.progress else { return String::new() };
    let mut parts = vec![progress.stage.to_string()];
    if progress.samples > 0 {
        parts.push(format!("sample {}/{}", progress.sample, progress.samples));
    }
    if progress.memory_mib > 0 {
        parts.push(format!("{} MiB", progress.memory_mib));
    }
    parts.push(format!("{:.1} s", progress.seconds));
    parts.join(" · ")
}

fn table<const N: usize>(headers: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(headers);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2)).set_constraint(ColumnConstraint::ContentWidth);
    }
    table
}

/// Lets a column's text go on in the next line after so many characters.
fn wrap(table: &mut Table, column: usize, chars: u16) {
    if let Some(column) = table.column_mut(column) {
        let padding = column.padding_width();
        column.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(chars + padding)));
    }
}

/// Leaves out a column that has nothing to say.
fn hide(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_constraint(ColumnConstraint::Hidden);
    }
}

fn right(value: impl ToString) -> Cell {
    Cell::new(value.to_string()).set_alignment(CellAlignment::Right)
}

fn device_time(cost: JobCost) -> String {
    let time = |ms: u64| FormattedDuration(Duration::from_secs(ms / 1_000));
    let mut text = format!("device time: {}", time(cost.total_ms));
    if cost.saved_ms >= 1_000 {
        text += &format!(", {} saved by warm instances", time(cost.saved_ms));
    }
    text
}

pub(crate) fn percent(fraction: f32) -> String {
    // Rounded down, so that 100 % means all.
    format!("{} %", (f64::from(fraction) * 100.0).floor())
}

pub(crate) fn rate(per_minute: f32) -> String {
    if per_minute >= 100.0 { format!("{per_minute:.0}") } else { format!("{per_minute:.1}") }
}

pub(crate) fn left(seconds: Option<u32>) -> String {
    seconds.map_or(UNKNOWN.into(), |seconds| {
        FormattedDuration(Duration::from_secs(seconds.into())).to_string()
    })
}

/// As `--device` takes it.
pub(crate) fn kind(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Cpu => "cpu",
        DeviceKind::Cuda => "cuda",
        DeviceKind::Hip => "hip",
        DeviceKind::OneApi => "oneapi",
        DeviceKind::Metal => "metal",
    }
}

fn ago(at: Millis) -> String {
    ago_at(at, now())
}

pub(crate) fn now() -> Millis {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// How long before a moment another one was.
pub(crate) fn ago_at(at: Millis, now: Millis) -> String {
    match now.since(at) / 1000 {
        0..5 => "just now".into(),
        seconds @ 5..60 => format!("{seconds} s ago"),
        seconds @ 60..3600 => format!("{} min ago", seconds / 60),
        seconds @ 3600..172_800 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grange_protocol::agent::FailureKind;
    use grange_protocol::view::TaskState;
    use grange_protocol::{StepIndex, TaskIndex};

    #[test]
    fn a_failure_names_its_host_if_there_was_one() {
        let task = TaskView {
            step: StepIndex(0),
            task: TaskIndex(0),
            label: "frame 3".into(),
            state: TaskState::Failed,
            agent: None,
            device: None,
            progress: None,
            failures: Vec::new(),
        };
        let told = |agent: &str, reason: &str| {
            let failure = FailureView {
                agent: agent.parse().unwrap_or_default(),
                kind: FailureKind::OutOfMemory,
                reason: reason.into(),
                at: Millis(0),
            };
            failed(&task, &failure, ", just now")
        };
        let crashed = told("meadow", "Blender ended by itself");
        assert_eq!(crashed, "frame 3 failed on meadow, just now: Blender ended by itself");
        let nowhere = told("", "it needs 90.0 GiB");
        assert_eq!(nowhere, "frame 3 failed, just now: it needs 90.0 GiB");
    }
}
