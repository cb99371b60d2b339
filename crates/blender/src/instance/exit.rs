//! How an instance ended, in words.

use std::fmt;
use std::process::ExitStatus;

use grange_protocol::agent::{Failure, FailureKind};

use super::fault;

/// The end of an instance; whatever was under way ended with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub how: ExitHow,
    /// What ended, for the sentence: `Blender 4.2.23 LTS`.
    pub who: String,
    pub(crate) want_of_memory: Evidence,
}

/// What speaks for want of memory as the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    Nothing,
    /// It was killed, and the kernel does not say whether by itself.
    Unknown,
    /// It was killed, and the kernel has killed somebody for want of memory.
    Kernel,
    /// Its last words.
    Words,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitHow {
    /// It was told to quit, or killed by its owner.
    Asked,
    /// It said what no worker says, and was killed.
    Misbehaved,
    Code(i32),
    /// Also what a sandbox reports as 128 + the signal.
    Signal(i32),
}

/// What `--python-exit-code` makes of an exception in the worker.
pub(crate) const PYTHON_EXIT_CODE: i32 = 66;

const SIGNALS: [(i32, &str); 9] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (4, "SIGILL"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (11, "SIGSEGV"),
    (15, "SIGTERM"),
];

impl ExitHow {
    pub(crate) fn from_status(status: ExitStatus) -> Self {
        #[cfg(unix)]
        if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
            return Self::Signal(signal);
        }
        match status.code() {
            Some(code) if SIGNALS.iter().any(|(number, _)| code == 128 + number) => {
                Self::Signal(code - 128)
            }
            code => Self::Code(code.unwrap_or(-1)),
        }
    }
}

impl Exit {
    /// Judges the end with the help of the last lines that were printed, and of whether the kernel
    /// has killed anybody for want of memory meanwhile, if it says that.
    pub(crate) fn new(
        how: ExitHow,
        who: String,
        last_lines: &str,
        kernel_killed: Option<bool>,
    ) -> Self {
        let want_of_memory = match (how, kernel_killed) {
            _ if fault::is_out_of_memory(last_lines) => Evidence::Words,
            (ExitHow::Signal(SIGKILL), Some(true)) => Evidence::Kernel,
            (ExitHow::Signal(SIGKILL), None) => Evidence::Unknown,
            _ => Evidence::Nothing,
        };
        Self { how, who, want_of_memory }
    }

    /// What a shot that was under way fails with.
    pub fn failure(&self) -> Failure {
        let kind = match self.how {
            ExitHow::Asked => FailureKind::Other,
            _ if self.want_of_memory != Evidence::Nothing => FailureKind::OutOfMemory,
            ExitHow::Misbehaved | ExitHow::Code(_) | ExitHow::Signal(_) => FailureKind::Crash,
        };
        Failure::new(kind, self.to_string())
    }
}

const SIGKILL: i32 = 9;

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = &self.who;
        match self.how {
            ExitHow::Asked => write!(f, "{who} was stopped"),
            ExitHow::Misbehaved => write!(f, "{who} said what no worker says, and was killed"),
            _ if self.want_of_memory == Evidence::Words => {
                write!(f, "{who} died for want of memory")
            }
            ExitHow::Signal(SIGKILL) => {
                let by = match self.want_of_memory {
                    Evidence::Kernel => "by the kernel for want of memory",
                    Evidence::Unknown => "probably by the kernel for want of memory",
                    _ => "and not by the kernel for want of memory",
                };
                write!(f, "{who} was killed (SIGKILL), {by}")
            }
            ExitHow::Signal(signal) => match SIGNALS.iter().find(|(number, _)| *number == signal) {
                Some((_, name)) => write!(f, "{who} crashed with {name} ({signal})"),
                None => write!(f, "{who} was ended by signal {signal}"),
            },
            ExitHow::Code(PYTHON_EXIT_CODE) => {
                write!(f, "the worker in {who} failed: its log says why")
            }
            ExitHow::Code(code) => write!(f, "{who} ended by itself (exit code {code})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn exit(raw_status: i32, log: &str) -> Exit {
        judged(raw_status, log, Some(false))
    }

    fn judged(raw_status: i32, log: &str, kernel_killed: Option<bool>) -> Exit {
        let how = ExitHow::from_status(ExitStatus::from_raw(raw_status));
        Exit::new(how, "Blender 3.4.1".into(), log, kernel_killed)
    }

    #[test]
    fn every_end_is_a_sentence_and_a_kind() {
        let code = |code: i32| code << 8;
        let ends = [
            exit(11, ""),
            exit(code(139), "Writing: /tmp/blender.crash.txt"),
            exit(code(134), "Couldn't open libEGL.so.1"),
            exit(6, "terminate called after throwing an instance of 'std::bad_alloc'"),
            exit(code(137), ""),
            judged(9, "", Some(true)),
            judged(code(137), "", None),
            exit(9, "Malloc returns null: len=99 in MEdge, total 4096"),
            judged(11, "", Some(true)),
            exit(64, ""),
            exit(code(66), ""),
            exit(code(1), ""),
        ];
        let told: Vec<String> =
            ends.iter().map(|end| format!("{:?}: {end}", end.failure().kind)).collect();
        insta::assert_snapshot!(told.join("\n"), @r"
        Crash: Blender 3.4.1 crashed with SIGSEGV (11)
        Crash: Blender 3.4.1 crashed with SIGSEGV (11)
        Crash: Blender 3.4.1 crashed with SIGABRT (6)
        OutOfMemory: Blender 3.4.1 died for want of memory
        Crash: Blender 3.4.1 was killed (SIGKILL), and not by the kernel for want of memory
        OutOfMemory: Blender 3.4.1 was killed (SIGKILL), by the kernel for want of memory
        OutOfMemory: Blender 3.4.1 was killed (SIGKILL), probably by the kernel for want of memory
        OutOfMemory: Blender 3.4.1 died for want of memory
        Crash: Blender 3.4.1 crashed with SIGSEGV (11)
        Crash: Blender 3.4.1 was ended by signal 64
        Crash: the worker in Blender 3.4.1 failed: its log says why
        Crash: Blender 3.4.1 ended by itself (exit code 1)
        ");
    }
}
