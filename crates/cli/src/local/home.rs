//! Where a farm of this machine keeps everything: a folder among a user's caches, which goes with the
//! farm. One that was killed cannot take its folder along; the next one does.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

const PREFIX: &str = "render-";
/// A file in each folder, which is locked for as long as its owner lives.
const LOCK: &str = "lock";

pub(super) struct Home {
    // Removed before it is let go.
    dir: TempDir,
    _lock: Option<File>,
}

impl Home {
    /// Makes one, and removes those that nobody has any more.
    pub(super) fn make() -> anyhow::Result<Self> {
        let base = caches().join("grange");
        fs::create_dir_all(&base).with_context(|| format!("{} cannot be made", base.display()))?;
        Self::make_in(&base)
    }

    fn make_in(base: &Path) -> anyhow::Result<Self> {
        let one_at_a_time = File::open(base).and_then(|base| base.lock().map(|()| base));
        // A folder that has no lock yet cannot be told from one that is left.
        let left = if one_at_a_time.is_ok() { left_in(base) } else { Vec::new() };
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(base)
            .with_context(|| format!("{} cannot be written to", base.display()))?;
        // Where files cannot be locked nobody removes what others have.
        let lock = File::create(dir.path().join(LOCK)).and_then(|lock| lock.lock().map(|()| lock));
        drop(one_at_a_time);
        for (dir, _lock) in left {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_dir_all(dir);
        }
        Ok(Self { dir, _lock: lock.ok() })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Folders whose owners do not live any more, and their locks, so that nobody else removes them.
fn left_in(base: &Path) -> Vec<(PathBuf, File)> {
    let Ok(entries) = fs::read_dir(base) else { return Vec::new() };
    let homes = entries.flatten().filter(|entry| is_home(&entry.file_name().to_string_lossy()));
    let left = |dir: PathBuf| match lock_of(&dir) {
        Ok(lock) => lock.try_lock().is_ok().then_some((dir, lock)),
        Err(error) => {
            // Its owner was killed before there was anything in it.
            if error.kind() == io::ErrorKind::NotFound {
                let _ = fs::remove_dir(dir);
            }
            None
        }
    };
    homes.filter_map(|entry| left(entry.path())).collect()
}

fn is_home(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// To lock for oneself alone it has to be open for writing, on some file systems.
fn lock_of(dir: &Path) -> io::Result<File> {
    File::options().write(true).open(dir.join(LOCK))
}

/// As <https://specifications.freedesktop.org/basedir-spec> has it: a path from somewhere is none.
fn caches() -> PathBuf {
    let told = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::home_dir().map(|home| home.join(".cache"));
    let told = told.filter(|path| path.is_absolute());
    told.or_else(home).unwrap_or_else(std::env::temp_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(base: &Path) -> Vec<String> {
        let entries = fs::read_dir(base).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn folders_of_the_living_stay_and_others_go() {
        let base = TempDir::new().unwrap();
        let name = |home: &Home| home.path().file_name().unwrap().to_str().unwrap().to_owned();
        let living = Home::make_in(base.path()).unwrap();
        // As killed ones leave them: with all that they had, and with nothing.
        let killed = base.path().join("render-killed");
        fs::create_dir_all(killed.join("coordinator/store")).unwrap();
        fs::write(killed.join(LOCK), "").unwrap();
        fs::create_dir(base.path().join("render-empty")).unwrap();
        // Nobody knows whose this is.
        fs::create_dir_all(base.path().join("render-other/something")).unwrap();
        fs::write(base.path().join("hashes.sqlite"), "").unwrap();
        let next = Home::make_in(base.path()).unwrap();
        let mut expected = vec![name(&living), name(&next)];
        expected.extend(["hashes.sqlite", "render-other"].map(str::to_owned));
        expected.sort();
        assert_eq!(folders(base.path()), expected);
        drop(living);
        drop(next);
        assert_eq!(folders(base.path()), ["hashes.sqlite", "render-other"]);
    }
}
