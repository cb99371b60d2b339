//! The Rust API to a farm: connect, submit, watch, fetch.

pub mod download;
pub mod farm;
pub mod package;
mod part;
pub mod request;

pub use download::{Folder, Saved};
pub use farm::{ClientError, Farm, MayBeLost, Watch};
pub use package::{Package, PackageError, Uploaded};
