//! A file for readers that want one.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

thread_local! {
    static SCRATCH: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// A folder of this thread's, where nothing stays.
pub(crate) fn folder() -> PathBuf {
    SCRATCH.with_borrow_mut(|scratch| {
        // In memory where there is such a place: an input is read once.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let made = || tempfile::tempdir_in(place).expect("a temporary directory can be made");
        scratch.get_or_insert_with(made).path().into()
    })
}

/// The bytes as a file of that name.
pub(crate) fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    fs::write(&path, bytes).expect("a temporary file can be written");
    path
}
