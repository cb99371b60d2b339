//! Places where a test can make a program fail: before and after every step that makes something
//! durable. In a release build [`point`] is nothing.
//!
//! `GRANGE_FAULT=POINT:KIND:K` makes the K-th pass of a point (the first is 1) fail, once. The kinds
//! are `abort` (the process ends there and then), `io` (an I/O error) and `enospc` (a full disk).

/// A step, and whether what comes right after it still may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub name: &'static str,
    pub of: Program,
    /// Before the step, errors can be had too; after it, only an end of the process.
    pub before: bool,
}

/// Whose step it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Coordinator,
    Agent,
    Client,
}

const fn before(name: &'static str, of: Program) -> Point {
    Point { name, of, before: true }
}

const fn after(name: &'static str, of: Program) -> Point {
    Point { name, of, before: false }
}

/// All of them.
pub const POINTS: &[Point] = &[
    before("journal.begin", Program::Coordinator),
    before("journal.commit", Program::Coordinator),
    after("journal.committed", Program::Coordinator),
    before("journal.snapshot", Program::Coordinator),
    after("journal.snapshotted", Program::Coordinator),
    before("store.write", Program::Coordinator),
    before("store.sync", Program::Coordinator),
    before("store.rename", Program::Coordinator),
    before("store.dirsync", Program::Coordinator),
    after("store.named", Program::Coordinator),
    before("layout.rename", Program::Agent),
    after("layout.named", Program::Agent),
    before("delivery.send", Program::Agent),
    after("delivery.sent", Program::Agent),
    before("download.write", Program::Client),
    before("download.rename", Program::Client),
    after("download.named", Program::Client),
];

/// Passes a point: an error, or an end of the process, if the environment says so.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_name: &'static str) -> std::io::Result<()> {
    Ok(())
}

/// Passes a point: an error, or an end of the process, if the environment says so.
#[cfg(debug_assertions)]
pub fn point(name: &'static str) -> std::io::Result<()> {
    chosen::pass(name)
}

#[cfg(debug_assertions)]
mod chosen {
    use std::io;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Chosen {
        name: String,
        kind: String,
        at: u64,
    }

    static CHOSEN: OnceLock<Option<Chosen>> = OnceLock::new();
    static PASSES: AtomicU64 = AtomicU64::new(0);

    fn parse() -> Option<Chosen> {
        let text = std::env::var("GRANGE_FAULT").ok()?;
        let mut parts = text.split(':');
        let (name, kind, at) = (parts.next()?, parts.next()?, parts.next()?.parse().ok()?);
        Some(Chosen { name: name.into(), kind: kind.into(), at })
    }

    #[expect(clippy::print_stderr, reason = "a test reads it in the log of what it made fail")]
    pub(super) fn pass(name: &'static str) -> io::Result<()> {
        debug_assert!(super::POINTS.iter().any(|point| point.name == name), "{name} is not listed");
        let Some(chosen) = CHOSEN.get_or_init(parse) else { return Ok(()) };
        if chosen.name != name || PASSES.fetch_add(1, Ordering::Relaxed) + 1 != chosen.at {
            return Ok(());
        }
        eprintln!("fault at {name}: {}", chosen.kind);
        match chosen.kind.as_str() {
            "abort" => std::process::abort(),
            "enospc" => Err(io::ErrorKind::StorageFull.into()),
            _ => Err(io::Error::other("a fault of a test")),
        }
    }
}
