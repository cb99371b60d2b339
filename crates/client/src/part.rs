//! What has come of an output so far: kept where it broke off, whoever goes on with it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bytes::Bytes;
use cap_std::fs::{Dir, MetadataExt as _, OpenOptions};
use grange_faults::point;
use grange_protocol::file::{Blob, Output};
use grange_transport::file::PIECE_BYTES;
use tokio::sync::mpsc;

/// What a file is called until it is whole.
const PART_SUFFIX: &str = ".grange-part";

/// A file that is not whole yet. Nobody else writes it while this lives.
pub(crate) struct Part<'a> {
    dir: &'a Dir,
    output: &'a Output,
    name: String,
    file: File,
    hasher: blake3::Hasher,
    len: u64,
}

/// How a part ended.
pub(crate) enum Ended {
    /// It is whole and has its name.
    Named,
    /// All bytes are there and they are others than were announced. They are gone.
    Wrong,
    /// Bytes are missing. What has come is kept.
    Short,
}

impl<'a> Part<'a> {
    /// Goes on with what has come of an output, or begins with nothing. Waits while somebody else
    /// writes it.
    pub(crate) fn open(dir: &'a Dir, output: &'a Output) -> io::Result<Self> {
        let path = Path::new(output.name.as_str());
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            dir.create_dir_all(parent)?;
        }
        let name = format!("{}{PART_SUFFIX}", output.name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true);
        loop {
            remove_what_is_no_file(dir, &name)?;
            let file = dir.open_with(&name, &options)?.into_std();
            file.lock()?;
            if is_still(dir, &name, &file)? {
                let (hasher, len) = hash_of_what_is_there(&file, output.blob)?;
                return Ok(Self { dir, output, name, file, hasher, len });
            }
        }
    }

    /// Bytes that are there already.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Writes what comes, until nothing comes any more.
    pub(crate) fn write(&mut self, pieces: &mut mpsc::Receiver<Vec<Bytes>>) -> io::Result<()> {
        while let Some(piece) = pieces.blocking_recv() {
            for bytes in piece {
                let written = point("download.write").and_then(|()| self.file.write_all(&bytes));
                if let Err(error) = written {
                    // What is there now is of no known length, and may be what fills the disk.
                    let _ = self.dir.remove_file(&self.name);
                    return Err(error);
                }
                self.hasher.update(&bytes);
                self.len += bytes.len() as u64;
            }
        }
        Ok(())
    }

    /// Gives the file its name, if it is whole.
    pub(crate) fn finish(self) -> io::Result<Ended> {
        let Blob { hash, len } = self.output.blob;
        if self.len < len {
            return Ok(Ended::Short);
        }
        if *self.hasher.finalize().as_bytes() != *hash.as_bytes() {
            self.dir.remove_file(&self.name)?;
            return Ok(Ended::Wrong);
        }
        point("download.rename")?;
        self.dir.rename(&self.name, self.dir, self.output.name.as_str())?;
        point("download.named")?;
        Ok(Ended::Named)
    }
}

/// A link that somebody laid there is not followed, and a pipe has no end.
fn remove_what_is_no_file(dir: &Dir, name: &str) -> io::Result<()> {
    match dir.symlink_metadata(name) {
        Ok(there) if there.is_file() => Ok(()),
        Ok(_) => dir.remove_file(name),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether a file has not been given another name, or removed, while its lock was waited for.
fn is_still(dir: &Dir, name: &str, file: &File) -> io::Result<bool> {
    let own = file.metadata()?;
    match dir.metadata(name) {
        Ok(named) => Ok((named.dev(), named.ino()) == (own.dev(), own.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The hash of what is there, and its length; the file stands at its end. More than there should
/// be is of something else.
fn hash_of_what_is_there(mut file: &File, blob: Blob) -> io::Result<(blake3::Hasher, u64)> {
    let mut hasher = blake3::Hasher::new();
    if file.metadata()?.len() > blob.len {
        file.set_len(0)?;
    }
    file.seek(SeekFrom::Start(0))?;
    let (mut piece, mut len) = (vec![0; PIECE_BYTES], 0);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((hasher, len)),
            got => {
                hasher.update(&piece[..got]);
                len += got as u64;
            }
        }
    }
}
