//! The Blenders of a host: found, and probed by starting them.
//!
//! [`find`] names candidates, [`probe`] starts one in a throw-away process and says what it can
//! really do, [`Runtime::launch`] says what to execute for an instance. Owns the files that are
//! laid into an instance's run directory. Never keeps a process, never decides which Blender
//! renders what.

mod find;
mod identify;
mod launch;
mod probe;

pub use find::{Candidate, NoBlender, find};
pub use identify::NotABlender;
pub use launch::{Launch, Runtime};
pub use probe::{ProbeError, probe};

pub(crate) use launch::SOCKET;
