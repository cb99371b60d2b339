//! What a command said and how it ended.

use std::fmt::Debug;
use std::process::{Command, Output};

use serde_json::Value;

/// A command that has ended.
pub(crate) struct Told {
    command: String,
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Told {
    pub(crate) fn by(command: &mut Command) -> Self {
        let shown = format!("{command:?}");
        let output = command.output().unwrap_or_else(|error| panic!("{shown}: {error}"));
        Self::of(shown, output)
    }

    pub(crate) fn of(command: String, output: Output) -> Self {
        Self {
            command,
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It ended well; its standard output.
    #[track_caller]
    pub(crate) fn well(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// It ended well and printed one JSON value.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(self.stdout.trim()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// It ended well and printed a JSON value per line.
    #[track_caller]
    pub(crate) fn json_lines(self) -> Vec<Value> {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// It failed with this code, and said this on standard error, among other things.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, saying: &str) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stderr.contains(saying), "it does not say `{saying}`: {self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self
    }
}

/// Failed attempts of a job as `grange job --json` tells of it: `kind on agent: reason`.
pub(crate) fn failures(detail: &Value) -> Vec<String> {
    let tasks = detail["tasks"].as_array().unwrap().iter();
    let failures = tasks.flat_map(|task| task["failures"].as_array().unwrap().clone());
    failures
        .map(|failure| {
            let text = |key: &str| failure[key].as_str().unwrap().to_owned();
            format!("{} on {}: {}", text("kind"), text("agent"), text("reason"))
        })
        .collect()
}

impl Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} ended with {}\n── stdout\n{}\n── stderr\n{}",
            self.command, self.code, self.stdout, self.stderr
        )
    }
}
