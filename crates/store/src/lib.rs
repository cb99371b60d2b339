//! Files named by their BLAKE3 hash: put, get, pin, collect.
//!
//! A file under its final name is whole, has the hash that its name says, and is durable. What
//! arrives is written beside it under another name, verified, synced, renamed, and the directory
//! synced; only then does anybody hear of it. Everything here blocks: async callers use a thread
//! for it. Never knows what a file is for.

mod dirsync;
mod receiving;
mod store;
mod upload;

pub use receiving::{ReceiveError, Receiving};
pub use store::{Collected, Copied, Pin, Store};
pub use upload::{Announced, Upload};
