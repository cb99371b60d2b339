//! A job as it happens: bars on a terminal, lines elsewhere, or JSON.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;

use grange_protocol::view::{JobView, TaskState, TaskView, WatchEvent};
use grange_protocol::{StepIndex, TaskIndex};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::print;

/// Running tasks that get a line of their own.
const TASK_LINES: usize = 8;
/// Of the job's bar: fine enough for a sample to move it.
const BAR_STEPS: u64 = 10_000;

pub(crate) enum Display {
    Bars(Box<Bars>),
    /// Each saved file and each failure, a line.
    Lines {
        failures_seen: usize,
    },
    Json,
}

pub(crate) struct Bars {
    all: MultiProgress,
    job: ProgressBar,
    tasks: BTreeMap<(StepIndex, TaskIndex), ProgressBar>,
    last_saved: Option<String>,
    latest: Option<JobView>,
    failures_seen: usize,
}

impl Display {
    pub(crate) fn new(json: bool) -> Self {
        if json {
            return Self::Json;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines { failures_seen: 0 };
        }
        let all = MultiProgress::new();
        let job = all.add(ProgressBar::new(BAR_STEPS));
        job.set_style(style("{bar:28.green/dim} {msg}"));
        Self::Bars(Box::new(Bars {
            all,
            job,
            tasks: BTreeMap::new(),
            last_saved: None,
            latest: None,
            failures_seen: 0,
        }))
    }

    /// Shows an event of the job that is followed.
    pub(crate) fn event(&mut self, event: &WatchEvent) {
        match (self, event) {
            (Self::Json, event) => print::json(event),
            (Self::Bars(bars), WatchEvent::Job(job)) => bars.job(job),
            (Self::Bars(bars), WatchEvent::Task { task, .. }) => bars.task(task),
            (Self::Lines { failures_seen }, WatchEvent::Task { task, .. }) => {
                for line in new_failures(task, failures_seen) {
                    print::note(&line);
                }
            }
            _ => {}
        }
    }

    /// Whether it shows outputs that nobody saves.
    pub(crate) fn wants_outputs(&self) -> bool {
        matches!(self, Self::Json)
    }

    /// A file is in the user's folder.
    pub(crate) fn saved(&mut self, path: &Path) {
        match self {
            Self::Json => print::json(&serde_json::json!({ "saved": path })),
            Self::Lines { .. } => print::line(&format!("saved {}", path.display())),
            Self::Bars(bars) => {
                bars.last_saved = path.file_name().map(|name| name.to_string_lossy().into_owned());
                bars.refresh();
            }
        }
    }

    /// Something to say beside the bars.
    pub(crate) fn say(&self, text: &str) {
        match self {
            Self::Bars(bars) => {
                // A terminal that cannot be written to shows nothing else either.
                let _ = bars.all.println(text);
            }
            Self::Lines { .. } | Self::Json => print::note(text),
        }
    }

    /// Takes the bars away and leaves the terminal as it should be.
    pub(crate) fn finish(&mut self) {
        if let Self::Bars(bars) = self {
            for line in bars.tasks.values() {
                line.finish_and_clear();
            }
            bars.job.abandon();
        }
    }
}

impl Bars {
    fn job(&mut self, job: &JobView) {
        self.job.set_position((f64::from(job.progress.fraction) * BAR_STEPS as f64) as u64);
        self.latest = Some(job.clone());
        self.refresh();
    }

    fn refresh(&self) {
        let Some(job) = &self.latest else { return };
        let mut message = print::summary(job);
        if let Some(saved) = &self.last_saved {
            message.push_str(&format!(" · saved {saved}"));
        }
        if let Some(reason) = job.reason.as_ref().filter(|_| !job.state.is_final()) {
            message.push_str(&format!(" · {reason}"));
        }
        self.job.set_message(message);
    }

    fn task(&mut self, task: &TaskView) {
        for line in new_failures(task, &mut self.failures_seen) {
            let _ = self.all.println(line);
        }
        let key = (task.step, task.task);
        if task.state != TaskState::Running {
            if let Some(line) = self.tasks.remove(&key) {
                line.finish_and_clear();
                self.all.remove(&line);
            }
            return;
        }
        if !self.tasks.contains_key(&key) && self.tasks.len() < TASK_LINES {
            let line = self.all.add(ProgressBar::new(BAR_STEPS));
            line.set_style(style("  {bar:12.cyan/dim} {msg}"));
            self.tasks.insert(key, line);
        }
        if let Some(line) = self.tasks.get(&key) {
            let fraction = task.progress.map_or(0.0, |progress| f64::from(progress.fraction));
            line.set_position((fraction * BAR_STEPS as f64) as u64);
            let agent = task.agent.as_ref().map_or("", |agent| agent.as_str());
            line.set_message(format!("{} on {agent} · {}", task.label, print::activity(task)));
        }
    }
}

/// Failures of a task that were not told yet, by the count of all that were.
fn new_failures(task: &TaskView, seen: &mut usize) -> Vec<String> {
    // Only tasks that ran again or ended have new ones; the latest is what a person wants to know.
    if task.failures.is_empty() || task.state == TaskState::Running {
        return Vec::new();
    }
    *seen += 1;
    let attempts = task.failures.len();
    let told = task.failures.last().map(|failure| {
        // Where nobody tried there was no attempt.
        let tried = !failure.agent.as_str().is_empty();
        let attempt = if tried { format!(" (attempt {attempts})") } else { String::new() };
        print::failed(task, failure, &attempt)
    });
    told.into_iter().collect()
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━━─")
}
