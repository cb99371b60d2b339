//! What a job reads: paths on the submitter's machine and the blobs that stand for them.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::ids::BlobHash;
use crate::limits::{BLOB_MAX, MANIFEST_ENTRIES_MAX, PATH_MAX};

/// An absolute path as the submitter's machine knows it, `/` between its parts, without `.`, `..`
/// or empty parts. Agents lay assets out below a root of their own so that it means the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LayoutPath(String);

impl LayoutPath {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path below some root: without its leading `/`.
    pub fn relative(&self) -> &str {
        &self.0[1..]
    }

    /// The part after the last `/`.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The directory that holds it; `/` for what lies at the root.
    pub fn parent(&self) -> &str {
        match self.0.rfind('/') {
            Some(0) | None => "/",
            Some(at) => &self.0[..at],
        }
    }
}

impl FromStr for LayoutPath {
    type Err = BadLayoutPath;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let good = text.len() <= PATH_MAX
            && text.len() > 1
            && text.starts_with('/')
            && !text.chars().any(char::is_control)
            && text[1..].split('/').all(|part| !matches!(part, "" | "." | ".."));
        if good {
            Ok(Self(text.into()))
        } else {
            Err(BadLayoutPath(text.chars().take(200).collect()))
        }
    }
}

impl fmt::Display for LayoutPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LayoutPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl<'de> Deserialize<'de> for LayoutPath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an absolute path of plain parts")]
pub struct BadLayoutPath(String);

/// The path→asset map of a job, sorted by path. Kept in the stores as a blob of its own, so that
/// the same scene submitted twice has the same manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Manifest {
    entries: Vec<ManifestEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ManifestEntry {
    pub path: LayoutPath,
    pub blob: BlobHash,
    /// Length in bytes.
    pub len: u64,
}

impl Manifest {
    /// Sorts the entries; two that name one path, or a file where another entry needs a
    /// directory, are refused.
    pub fn new(mut entries: Vec<ManifestEntry>) -> Result<Self, BadManifest> {
        if entries.len() > MANIFEST_ENTRIES_MAX {
            return Err(BadManifest::TooMany(entries.len()));
        }
        if let Some(entry) = entries.iter().find(|entry| entry.len > BLOB_MAX) {
            return Err(BadManifest::TooLong(entry.path.to_string(), entry.len));
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries.dedup();
        for pair in entries.windows(2) {
            if pair[0].path == pair[1].path {
                return Err(BadManifest::Twice(pair[0].path.to_string()));
            }
        }
        match file_and_directory(&entries) {
            Some(path) => Err(BadManifest::FileAndDirectory(path.to_string())),
            None => Ok(Self { entries }),
        }
    }

    pub fn entries(&self) -> &[ManifestEntry] {
        &self.entries
    }

    pub fn get(&self, path: &LayoutPath) -> Option<&ManifestEntry> {
        let at = self.entries.binary_search_by(|entry| entry.path.cmp(path)).ok()?;
        Some(&self.entries[at])
    }

    /// Bytes of all entries together.
    pub fn total_len(&self) -> u64 {
        self.entries.iter().fold(0, |total, entry| total.saturating_add(entry.len))
    }
}

/// A path of which others lie inside. In an order in which nothing comes before `/`, what is inside of a
/// path follows it at once; looking for the parents of each takes half a minute for 60,000 deep ones.
fn file_and_directory(entries: &[ManifestEntry]) -> Option<&LayoutPath> {
    let mut paths: Vec<&LayoutPath> = entries.iter().map(|entry| &entry.path).collect();
    paths.sort_unstable_by(|a, b| in_order(a).cmp(in_order(b)));
    let is_inside = |outer: &LayoutPath, inner: &LayoutPath| {
        inner.0.strip_prefix(&outer.0).is_some_and(|rest| rest.starts_with('/'))
    };
    paths.windows(2).find(|pair| is_inside(pair[0], pair[1])).map(|pair| pair[0])
}

/// The bytes with nothing before `/`: a path has no control characters.
fn in_order(path: &LayoutPath) -> impl Iterator<Item = u8> + '_ {
    path.0.bytes().map(|byte| if byte == b'/' { 0 } else { byte })
}

impl<'de> Deserialize<'de> for Manifest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Entries)
    }
}

/// Takes in no more entries than there may be: a list that says that it has more is not begun.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Manifest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of paths and their files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Manifest, A::Error> {
        let too_many = |count| A::Error::custom(BadManifest::TooMany(count));
        if let Some(count) = list.size_hint().filter(|count| *count > MANIFEST_ENTRIES_MAX) {
            return Err(too_many(count));
        }
        let mut entries = Vec::new();
        while let Some(entry) = list.next_element()? {
            if entries.len() == MANIFEST_ENTRIES_MAX {
                return Err(too_many(MANIFEST_ENTRIES_MAX + 1));
            }
            entries.push(entry);
        }
        Manifest::new(entries).map_err(A::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for Manifest {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        <Vec<ManifestEntry> as utoipa::PartialSchema>::schema()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for Manifest {
    fn schemas(schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>) {
        schemas.push((
            ManifestEntry::name().into_owned(),
            <ManifestEntry as utoipa::PartialSchema>::schema(),
        ));
        ManifestEntry::schemas(schemas);
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadManifest {
    #[error("the manifest has {0} entries, more than {MANIFEST_ENTRIES_MAX}")]
    TooMany(usize),
    #[error("the manifest has `{0}` with {1} bytes, and a file has at most {BLOB_MAX}")]
    TooLong(String, u64),
    #[error("the manifest names `{0}` twice, with different contents")]
    Twice(String),
    #[error("the manifest has `{0}` as a file and as a directory")]
    FileAndDirectory(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, bytes: &[u8]) -> ManifestEntry {
        ManifestEntry {
            path: path.parse().unwrap(),
            blob: BlobHash::of(bytes),
            len: bytes.len() as u64,
        }
    }

    #[test]
    fn a_manifest_is_sorted_and_consistent() {
        let manifest =
            Manifest::new(vec![entry("/p/b", b"2"), entry("/p/a", b"1"), entry("/p/a", b"1")]);
        let manifest = manifest.unwrap();
        assert_eq!(manifest.entries(), [entry("/p/a", b"1"), entry("/p/b", b"2")]);
        assert_eq!(manifest.total_len(), 2);
        assert_eq!(
            Manifest::new(vec![entry("/p/a", b"1"), entry("/p/a", b"2")]),
            Err(BadManifest::Twice("/p/a".into()))
        );
        assert_eq!(
            Manifest::new(vec![entry("/p/a", b"1"), entry("/p/a/b/c", b"2")]),
            Err(BadManifest::FileAndDirectory("/p/a".into()))
        );
        // Others come between the two in the order of the entries.
        let between = ["/p/a", "/p/a b", "/p/a-b/c", "/p/a/b"].map(|path| entry(path, b"1"));
        assert_eq!(
            Manifest::new(between.into()),
            Err(BadManifest::FileAndDirectory("/p/a".into()))
        );
        let beside = ["/p/a", "/p/a b/a", "/p/ab", "/p/a-b/c"].map(|path| entry(path, b"1"));
        assert!(Manifest::new(beside.into()).is_ok());
        let long = ManifestEntry { len: u64::MAX, ..entry("/p/a", b"1") };
        assert_eq!(Manifest::new(vec![long]), Err(BadManifest::TooLong("/p/a".into(), u64::MAX)));
    }

    #[test]
    fn a_manifest_of_the_deepest_paths_is_checked_in_little_time() {
        let deep = "/a".repeat(500);
        let entries = (0..20_000).map(|number| entry(&format!("{deep}/{number}"), b"1"));
        assert_eq!(Manifest::new(entries.collect()).unwrap().total_len(), 20_000);
    }

    #[test]
    fn paths_are_absolute_and_plain() {
        for bad in ["", "/", "a", "/a/../b", "/a//b", "/a/", "/./a", "/a\nb"] {
            assert!(bad.parse::<LayoutPath>().is_err(), "{bad:?} passed");
        }
        let path: LayoutPath = "/home/ada/shot.blend".parse().unwrap();
        assert_eq!((path.parent(), path.file_name()), ("/home/ada", "shot.blend"));
    }
}
