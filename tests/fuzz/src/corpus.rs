//! Inputs that are kept: `corpus/TARGET.zst`, which coverage has chosen, and `found/TARGET`, which
//! showed a bug and are never thrown away.
//!
//! The chosen ones are thousands of small files, so a target's are one: each has its length before it,
//! a little-endian `u32`, and all of them are compressed together.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Target;

/// Bytes of an input that is kept for its coverage, and of all those of a target.
const INPUT_MAX: usize = 32 << 10;
const ALL_MAX: usize = 1 << 20;

/// All of them, each with a name for people, in the same order every time.
pub fn kept(target: &Target) -> Vec<(String, Vec<u8>)> {
    let numbered = |what: &str, inputs: Vec<Vec<u8>>| -> Vec<_> {
        let inputs = inputs.into_iter().enumerate();
        inputs.map(|(at, input)| (format!("{what} {at}"), input)).collect()
    };
    let mut kept = numbered("seed", target.seeds());
    for path in files(&here("found").join(target.name)) {
        let bytes = fs::read(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        kept.push((path.display().to_string(), bytes));
    }
    kept.extend(numbered("chosen", chosen(target)));
    kept
}

/// What coverage has chosen, none if nothing was yet.
pub fn chosen(target: &Target) -> Vec<Vec<u8>> {
    let path = path_of(target);
    let Ok(packed) = fs::File::open(&path) else { return Vec::new() };
    let bytes = zstd::decode_all(packed).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    let mut inputs = Vec::new();
    let mut rest = &bytes[..];
    while let Some((len, more)) = rest.split_first_chunk() {
        let (input, more) = more.split_at(u32::from_le_bytes(*len) as usize);
        inputs.push(input.to_vec());
        rest = more;
    }
    inputs
}

/// Keeps the files in a folder instead of those that were chosen before, the smallest first. Returns
/// how many.
pub fn choose(target: &Target, folder: &Path) -> io::Result<usize> {
    let mut inputs: Vec<Vec<u8>> = files(folder).iter().map(fs::read).collect::<Result<_, _>>()?;
    inputs.retain(|input| input.len() <= INPUT_MAX);
    inputs.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    let (mut bytes, mut count) = (Vec::new(), 0);
    for input in inputs {
        if bytes.len() + input.len() > ALL_MAX {
            break;
        }
        bytes.extend((input.len() as u32).to_le_bytes());
        bytes.extend(input);
        count += 1;
    }
    let path = path_of(target);
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(path, zstd::encode_all(&bytes[..], 19)?)?;
    Ok(count)
}

fn path_of(target: &Target) -> PathBuf {
    here("corpus").join(format!("{}.zst", target.name))
}

fn here(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// The files in a folder, sorted; none if it is not there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
