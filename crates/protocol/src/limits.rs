//! One limit for everything that an outsider could make large. Bytes unless the name says so.

/// A frame on a stream that an enrolled peer opened.
pub const FRAME_MAX: usize = 4 << 20;
/// A frame before the peer has shown who it is.
pub const ENROL_FRAME_MAX: usize = 16 << 10;
/// A manifest blob, decoded in memory by coordinator and agent.
pub const MANIFEST_MAX: u64 = 64 << 20;
/// A single asset or output.
pub const BLOB_MAX: u64 = 1 << 40;
/// A small picture with so many pixels on its longer side: as JPEG even noise has less.
pub const fn picture_max(side: u32) -> u32 {
    2 * side * side
}
/// Entries of a manifest.
pub const MANIFEST_ENTRIES_MAX: usize = 1_000_000;
/// Steps of one job.
pub const STEPS_MAX: usize = 64;
/// Tasks of one step.
pub const TASKS_MAX: u64 = 16_000_000;
/// Shots of one job.
pub const SHOTS_MAX: usize = 10_000;
/// Frames of one frame set.
pub const FRAMES_MAX: u64 = 10_000_000;
/// A job's name, a scene's, a camera's …
pub const LABEL_MAX: usize = 255;
/// A path of a manifest or the name of an output.
pub const PATH_MAX: usize = 1024;
/// Outputs of one task.
pub const OUTPUTS_PER_TASK_MAX: u32 = 10_000;
/// The log of one attempt, as kept by the coordinator. The middle is cut out of a longer one.
pub const LOG_MAX: usize = 64 << 10;
/// A reason that is shown to people.
pub const REASON_MAX: usize = 2_000;
/// Rows in one answer to a question about many things.
pub const PAGE_ROWS_MAX: u32 = 1_000;
/// Seconds that a session may be idle.
pub const SESSION_IDLE_S: std::ops::RangeInclusive<u32> = 10..=86_400;
/// The arguments or the result of one call of a session, as JSON.
pub const CALL_MAX: usize = 3 << 20;
/// Calls of one session that are under way, or whose answers are kept.
pub const CALLS_MAX: usize = 64;
/// Answers of one session that are kept for those whose connection broke, all together.
pub const ANSWERS_MAX: usize = 16 << 20;
/// The name of an operation of a session.
pub const OPERATION_MAX: usize = 128;
