//! The Blender add-on as one zip: a legacy add-on for 3.4 to 4.1, an extension from 4.2 on.
//!
//! The same tree gives the same bytes. Blender wants a folder in the zip for an add-on, and takes one
//! for an extension; the `grange` package is put inside it, for Blender has no pip.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

use crate::process::{root, target};

#[derive(clap::Args)]
pub(crate) struct Addon {}

/// The folder in the zip: the module's name in Blenders that know no extensions.
const FOLDER: &str = "grange_addon";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Of the package: a program for terminals, which needs more than Blender has.
const LEFT_OUT: &str = "__main__.py";

impl Addon {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let zip = write()?;
        println!("{}", zip.display());
        Ok(())
    }
}

/// Writes `target/addon/grange-VERSION.zip` and returns its path.
pub(crate) fn write() -> anyhow::Result<PathBuf> {
    let dir = target().join("addon");
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let zip = dir.join(format!("grange-{VERSION}.zip"));
    fs::write(&zip, packed(&entries(&root())?)?)
        .with_context(|| format!("{} cannot be written", zip.display()))?;
    Ok(zip)
}

/// A file of the zip: its name there, and what is in it.
type Entry = (String, Vec<u8>);

fn entries(root: &Path) -> anyhow::Result<Vec<Entry>> {
    let mut found = Vec::new();
    let addon = root.join("addon");
    check_version(&addon)?;
    collect(&addon, FOLDER, &mut found)?;
    let vendored = format!("{FOLDER}/vendored/grange");
    collect(&root.join("python/src/grange"), &vendored, &mut found)?;
    found.retain(|(name, _)| *name != format!("{vendored}/{LEFT_OUT}"));
    for license in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let text = read(&root.join("python").join(license))?;
        found.push((format!("{vendored}/{license}"), text));
    }
    found.sort();
    Ok(found)
}

/// Blender shows the version of the manifest, and the zip is named after that of the workspace.
fn check_version(addon: &Path) -> anyhow::Result<()> {
    let manifest = fs::read_to_string(addon.join("blender_manifest.toml"))?;
    let line = format!("version = \"{VERSION}\"");
    ensure!(
        manifest.lines().any(|one| one == line),
        "addon/blender_manifest.toml has another version than {VERSION}: set it there and in \
         `bl_info` of addon/__init__.py"
    );
    Ok(())
}

fn collect(dir: &Path, name: &str, found: &mut Vec<Entry>) -> anyhow::Result<()> {
    let listed = fs::read_dir(dir).with_context(|| format!("{} cannot be read", dir.display()))?;
    for entry in listed {
        let entry = entry?;
        let own = entry.file_name();
        let Some(own) = own.to_str() else {
            bail!("{} has a name that is no text", entry.path().display());
        };
        if own == "__pycache__" || own.starts_with('.') {
            continue;
        }
        let name = format!("{name}/{own}");
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &name, found)?;
        } else {
            found.push((name, read(&entry.path())?));
        }
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// A zip as APPNOTE.TXT 6.3.3 of PKWARE describes it, without what depends on the day or the host.
fn packed(entries: &[Entry]) -> anyhow::Result<Vec<u8>> {
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let offset = u32::try_from(zip.len())?;
        let deflated = deflated(data)?;
        let common = described(name, data, deflated.len())?;
        zip.extend(b"PK\x03\x04");
        zip.extend(&common);
        zip.extend(name.as_bytes());
        zip.extend(&deflated);
        directory.extend(b"PK\x01\x02");
        directory.extend(MADE_BY_UNIX);
        directory.extend(&common);
        // No comment, on the first disk, no internal attributes.
        directory.extend([0; 6]);
        directory.extend((REGULAR_FILE_0644 << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let begin = u32::try_from(zip.len())?;
    let count = u16::try_from(entries.len())?.to_le_bytes();
    zip.extend(&directory);
    zip.extend(b"PK\x05\x06");
    zip.extend([0; 4]);
    zip.extend(count);
    zip.extend(count);
    zip.extend(u32::try_from(directory.len())?.to_le_bytes());
    zip.extend(begin.to_le_bytes());
    zip.extend([0; 2]);
    Ok(zip)
}

const MADE_BY_UNIX: [u8; 2] = [20, 3];
const REGULAR_FILE_0644: u32 = 0o100_644;
const NAME_IS_UTF8: u16 = 1 << 11;
const DEFLATE: u16 = 8;
/// 1 January 1980, the first day that a zip knows.
const DATE: u16 = 1 << 5 | 1;

/// What the file's header and the directory both say of it, but for the signature.
fn described(name: &str, data: &[u8], deflated_len: usize) -> anyhow::Result<Vec<u8>> {
    let mut crc = Crc::new();
    crc.update(data);
    let mut common = Vec::new();
    for word in [20, NAME_IS_UTF8, DEFLATE, 0, DATE] {
        common.extend(word.to_le_bytes());
    }
    common.extend(crc.sum().to_le_bytes());
    common.extend(u32::try_from(deflated_len)?.to_le_bytes());
    common.extend(u32::try_from(data.len())?.to_le_bytes());
    common.extend(u16::try_from(name.len())?.to_le_bytes());
    common.extend([0; 2]);
    Ok(common)
}

fn deflated(data: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zip_is_the_same_again_and_has_one_folder() {
        let entries = entries(&root()).unwrap();
        assert_eq!(packed(&entries).unwrap(), packed(&entries).unwrap());
        let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.iter().all(|name| name.starts_with("grange_addon/")));
        for expected in ["__init__.py", "blender_manifest.toml", "vendored/grange/farm.py"] {
            assert!(names.contains(&format!("{FOLDER}/{expected}").as_str()), "{expected}");
        }
        assert!(!names.iter().any(|name| name.ends_with(LEFT_OUT)));
    }
}
