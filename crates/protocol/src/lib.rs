//! What a farm says to itself: ids, the job model, every message on the wire, and their limits.
//!
//! Owns the words of Grange as types, their validation and their encoding (postcard). Never does
//! IO, never reads a clock, never decides: `grange-scheduler` decides, `grange-transport` moves.
//!
//! Rules that keep old and new programs talking:
//! - enums are append-only, struct fields are never reordered: `tests/golden.rs` pins the bytes;
//! - everything from outside is validated while it is decoded (names, frame sets, priorities), so
//!   a value of one of these types is always a good one;
//! - every frame has a size limit ([`limits`]) that is checked before memory is taken.

pub mod agent;
pub mod client;
pub mod codec;
pub mod connect;
pub mod file;
pub mod footprint;
pub mod frames;
pub mod history;
pub mod ids;
pub mod job;
pub mod join;
pub mod kinds;
pub mod limits;
pub mod manifest;
pub mod name;
pub mod quantity;
pub mod refusal;
pub mod schedule;
pub mod session;
pub mod shot;
pub mod stream;
pub mod version;
pub mod view;

pub use frames::FrameSet;
pub use ids::{AgentId, BlobHash, Epoch, JobId, LeaseId, StepIndex, TaskIndex, TaskRef};
pub use job::{JobSpec, StepSpec, Work};
pub use kinds::{JobKind, Submission};
pub use manifest::{LayoutPath, Manifest};
pub use name::OutputName;
pub use quantity::{Millis, Priority};
pub use refusal::{Refusal, RefusalCode};
pub use schedule::Schedule;
pub use shot::Shot;
pub use version::BlenderVersion;
