//! The targets, by what they read.

mod identity;
mod pictures;
mod protocol;
mod requests;
mod scenes;
mod settings;

use crate::Target;

/// All of them. The names are those of their folders.
pub static TARGETS: [Target; 12] = [
    protocol::MESSAGE,
    protocol::MANIFEST,
    protocol::WORD,
    identity::CERTIFICATE,
    requests::REQUEST,
    settings::COORDINATOR,
    settings::AGENT,
    scenes::BLEND,
    scenes::BLOCKS,
    scenes::WORKER,
    pictures::PICTURE,
    pictures::PASSES,
];

/// A path of the repository.
fn tree(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}
