//! Mounts that lie inside one another.
//!
//! A scene may have files anywhere, also where the system's own directories are mounted read-only
//! and no place for another mount can be made. Such a directory is taken apart: what is in it is
//! mounted entry by entry, and the foreign path beside it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// What a cell shows at its paths.
#[derive(Debug, Default)]
pub(super) struct Tree {
    children: BTreeMap<OsString, Tree>,
    what: Option<What>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Show(PathBuf),
    Write(PathBuf),
    Link(PathBuf),
}

/// One argument group of bubblewrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    what: What,
    target: PathBuf,
}

impl Mount {
    pub(super) fn arguments(self) -> [OsString; 3] {
        let (flag, source) = match self.what {
            What::Show(source) => ("--ro-bind", source),
            What::Write(source) => ("--bind", source),
            What::Link(points_to) => ("--symlink", points_to),
        };
        [flag.into(), source.into(), self.target.into()]
    }
}

impl Tree {
    /// Shows `source`, read-only, at `target`.
    pub(super) fn show(&mut self, source: &Path, target: &Path) {
        self.node(target).what = Some(What::Show(source.into()));
    }

    /// Shows `source` at `target`, to be written to.
    pub(super) fn write(&mut self, source: &Path, target: &Path) {
        self.node(target).what = Some(What::Write(source.into()));
    }

    /// Shows a path of the host as it is: nothing if it is not there, a link as a link.
    pub(super) fn show_system(&mut self, path: &Path) {
        if let Ok(points_to) = fs::read_link(path) {
            self.node(path).what = Some(What::Link(points_to));
        } else if path.exists() {
            self.show(path, path);
        }
    }

    /// All mounts, outer ones first.
    pub(super) fn mounts(&self) -> Vec<Mount> {
        let mut mounts = Vec::new();
        self.collect(Path::new("/"), &mut mounts);
        mounts
    }

    fn node(&mut self, path: &Path) -> &mut Self {
        path.components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(name.to_owned()),
                _ => None,
            })
            .fold(self, |node, name| node.children.entry(name).or_default())
    }

    fn collect(&self, target: &Path, mounts: &mut Vec<Mount>) {
        if let Some(what) = &self.what {
            match what {
                What::Show(source) if !self.has_places_in(source) => {
                    return self.take_apart(source, target, mounts);
                }
                _ => mounts.push(Mount { what: what.clone(), target: target.into() }),
            }
        }
        for (name, child) in &self.children {
            child.collect(&target.join(name), mounts);
        }
    }

    /// Whether everything below this node can be mounted inside `source` as it is.
    fn has_places_in(&self, source: &Path) -> bool {
        self.children.iter().all(|(name, child)| {
            let place = source.join(name);
            let fits = match (&child.what, fs::metadata(&place)) {
                (_, Err(_)) => false,
                (None, Ok(metadata)) => metadata.is_dir(),
                (Some(What::Show(inner) | What::Write(inner)), Ok(metadata)) => {
                    fs::metadata(inner).is_ok_and(|inner| inner.is_dir() == metadata.is_dir())
                }
                (Some(What::Link(_)), Ok(_)) => false,
            };
            fits && child.has_places_in(&place)
        })
    }

    /// Mounts the entries of `source` one by one, and this node's own beside them.
    fn take_apart(&self, source: &Path, target: &Path, mounts: &mut Vec<Mount>) {
        for entry in fs::read_dir(source).into_iter().flatten().flatten() {
            let place = target.join(entry.file_name());
            if let Some(child) = self.children.get(&entry.file_name()) {
                child.collect_over(&entry.path(), &place, mounts);
            } else if let Ok(points_to) = fs::read_link(entry.path()) {
                mounts.push(Mount { what: What::Link(points_to), target: place });
            } else {
                mounts.push(Mount { what: What::Show(entry.path()), target: place });
            }
        }
        let has_entry = |name: &OsStr| fs::symlink_metadata(source.join(name)).is_ok();
        for (name, child) in self.children.iter().filter(|(name, _)| !has_entry(name)) {
            child.collect(&target.join(name), mounts);
        }
    }

    /// The same for a node that lies over an entry of a directory that was taken apart.
    fn collect_over(&self, under: &Path, target: &Path, mounts: &mut Vec<Mount>) {
        if self.what.is_some() || !under.is_dir() {
            self.collect(target, mounts)
        } else if self.has_places_in(under) {
            mounts.push(Mount { what: What::Show(under.into()), target: target.into() });
            self.collect(target, mounts)
        } else {
            self.take_apart(under, target, mounts)
        }
    }
}
