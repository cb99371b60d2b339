//! Disks that are full when a test wants them to be.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory, unmounted with the value. To mount one takes root.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// One of `size`, such as `8m`. `None`, with a sentence, for those who may not mount.
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    pub(crate) fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root mounts file systems, and this test fills one");
            return None;
        }
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .status()
            .expect("there is a mount");
        assert!(mounted.success(), "a tmpfs cannot be mounted");
        Some(Self(at.into()))
    }

    /// Writes until only so many bytes are left.
    pub(crate) fn fill_but(&self, left: u64) {
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        let free = stat.f_bavail * stat.f_frsize;
        let len = usize::try_from(free.saturating_sub(left)).unwrap();
        let mut filler = fs::File::options().append(true).create(true).open(self.filler()).unwrap();
        // Others may write meanwhile: then it is full a little earlier.
        let _ = filler.write_all(&vec![1; len]);
    }

    /// Gives the room back.
    pub(crate) fn empty(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    /// Makes it another size.
    pub(crate) fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        let done = Command::new("mount").args(["-o", &options]).arg(&self.0).status();
        assert!(done.unwrap().success());
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
