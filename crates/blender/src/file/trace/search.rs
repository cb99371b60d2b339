//! Names of files against what is there: sequences, tiles, directories.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use grange_protocol::limits::MANIFEST_ENTRIES_MAX;

use crate::file::place::Place;

/// Directories below a cache's directory: Blender makes two levels.
const DEPTH_MAX: usize = 8;

/// Which files a path stands for.
pub(super) enum Spread {
    /// The file itself.
    One,
    /// Every file whose name differs from it in the last number only.
    Numbered,
    /// The tiles with these numbers: `<UDIM>` and `<UVTILE>` in the name stand for them.
    Tiles(Vec<u32>),
    /// The files in that directory whose names start and end so.
    Directory { prefix: String, extensions: &'static [&'static str] },
    /// The same, with the directories in it, whatever the files' names start with.
    Tree { extensions: &'static [&'static str] },
}

#[derive(Default)]
pub(super) struct Found {
    pub(super) there: Vec<PathBuf>,
    pub(super) absent: Vec<PathBuf>,
}

/// Looks for files in a place, of which it lists each directory once.
pub(super) struct Search<'a> {
    place: &'a Place,
    listings: HashMap<PathBuf, Arc<Vec<String>>>,
}

impl<'a> Search<'a> {
    pub(super) fn of(place: &'a Place) -> Self {
        Self { place, listings: HashMap::new() }
    }

    pub(super) fn find(&mut self, path: &Path, spread: &Spread) -> Found {
        let mut there = Vec::new();
        match spread {
            Spread::One => there.extend(self.place.is_file(path).then(|| path.into())),
            Spread::Numbered => there = self.numbered(path),
            Spread::Tiles(tiles) => return self.tiled(path, tiles),
            Spread::Directory { prefix, extensions } => {
                self.gather(path, 0, prefix, extensions, &mut there);
            }
            Spread::Tree { extensions } => {
                self.gather(path, DEPTH_MAX, "", extensions, &mut there);
            }
        }
        let absent = if there.is_empty() { vec![path.into()] } else { Vec::new() };
        Found { there, absent }
    }

    fn numbered(&mut self, path: &Path) -> Vec<PathBuf> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some((directory, name)) = path.parent().zip(name) else { return Vec::new() };
        let Some(sequence) = Sequence::of(&name) else {
            return self.place.is_file(path).then(|| path.into()).into_iter().collect();
        };
        let listing = self.listing(directory);
        let names = listing.iter().filter(|name| sequence.contains(name));
        names.map(|name| directory.join(name)).filter(|path| self.place.is_file(path)).collect()
    }

    fn gather(
        &mut self,
        directory: &Path,
        depth: usize,
        prefix: &str,
        extensions: &[&str],
        into: &mut Vec<PathBuf>,
    ) {
        for name in self.listing(directory).iter() {
            let path = directory.join(name);
            let has_extension =
                name.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension));
            if into.len() > MANIFEST_ENTRIES_MAX {
                return;
            }
            if has_extension && name.starts_with(prefix) && self.place.is_file(&path) {
                into.push(path);
            } else if depth > 0 && self.place.is_folder(&path) {
                self.gather(&path, depth - 1, prefix, extensions, into);
            }
        }
    }

    fn listing(&mut self, directory: &Path) -> Arc<Vec<String>> {
        let list = || Arc::new(self.place.names(directory));
        self.listings.entry(directory.into()).or_insert_with(list).clone()
    }

    /// The tiles of a set: U counts from 1 to 10, V up from 1, and 1001 is both at 1.
    fn tiled(&self, path: &Path, tiles: &[u32]) -> Found {
        let mut found = Found::default();
        let pattern = path.to_string_lossy();
        for tile in tiles {
            let place = tile.saturating_sub(1001);
            let uv = format!("u{}_v{}", place % 10 + 1, place / 10 + 1);
            let name = pattern.replace("<UDIM>", &tile.to_string()).replace("<UVTILE>", &uv);
            let path = PathBuf::from(name);
            let is_there = self.place.is_file(&path);
            if is_there { &mut found.there } else { &mut found.absent }.push(path);
        }
        found
    }
}

/// A name with a frame number: the last digits before its extension.
struct Sequence<'a> {
    head: &'a str,
    digits: usize,
    tail: &'a str,
}

impl<'a> Sequence<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let stem = name.rfind('.').filter(|dot| *dot > 0).unwrap_or(name.len());
        let end = name[..stem].rfind(|c: char| c.is_ascii_digit())? + 1;
        let head = name[..end].trim_end_matches(|c: char| c.is_ascii_digit());
        Some(Self { head, digits: end - head.len(), tail: &name[end..] })
    }

    /// Numbers are padded with zeros to the same length; larger ones are longer.
    fn contains(&self, name: &str) -> bool {
        let number = name.strip_prefix(self.head).and_then(|rest| rest.strip_suffix(self.tail));
        number.is_some_and(|number| {
            number.bytes().all(|byte| byte.is_ascii_digit())
                && (number.len() == self.digits
                    || number.len() > self.digits && !number.starts_with('0'))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_before_the_extension_counts() {
        let sequence = Sequence::of("v2_shot_0010_final.mp4").unwrap();
        assert!(sequence.contains("v2_shot_0999_final.mp4"));
        assert!(sequence.contains("v2_shot_12345_final.mp4"));
        for other in ["v2_shot_010_final.mp4", "v2_shot_00010_final.mp4", "v2_shot_0010_final.mov"]
        {
            assert!(!sequence.contains(other), "{other}");
        }
        assert!(Sequence::of("plain.png").is_none());
        assert!(Sequence::of("7").is_some_and(|sequence| sequence.contains("12")));
        assert!(!Sequence::of("a1a.png").unwrap().contains("a.png"));
    }

    #[test]
    fn tiles_have_two_namings() {
        let names = |pattern: &str| {
            let absent = Search::of(&Place::Disk).tiled(Path::new(pattern), &[1001, 1012]).absent;
            absent.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names("/nowhere/a.<UDIM>.png"), ["/nowhere/a.1001.png", "/nowhere/a.1012.png"]);
        assert_eq!(names("/nowhere/<UVTILE>.png"), ["/nowhere/u1_v1.png", "/nowhere/u2_v2.png"]);
    }
}
