//! Outputs on their way to a folder of the user's: whole under their names, or not there.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use grange_faults::point;
use grange_protocol::file::{Blob, Output};
use grange_transport::{exchange, file};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::farm::{ClientError, Farm};

/// What a half-written file is called until it is whole.
const PART_SUFFIX: &str = ".grange-part";

/// A folder that outputs are saved to. Names never lead out of it.
#[derive(Clone, Debug)]
pub struct Folder {
    dir: Arc<Dir>,
    path: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// It was fetched.
    Fetched,
    /// The very same file was there.
    Kept,
}

impl Folder {
    /// Opens the folder, made if it is not there.
    pub fn open(path: &Path) -> Result<Self, DownloadError> {
        let open = || {
            std::fs::create_dir_all(path)?;
            Dir::open_ambient_dir(path, ambient_authority())
        };
        let dir = open().map_err(|error| DownloadError::Folder(path.into(), error))?;
        Ok(Self { dir: Arc::new(dir), path: path.into() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fetches an output, unless the same file is there already, and puts it under its name.
    pub async fn save(&self, farm: &Farm, output: &Output) -> Result<Saved, DownloadError> {
        if self.has(output).await? {
            return Ok(Saved::Kept);
        }
        let (pieces, incoming) = file::incoming();
        let writing = {
            let (folder, output) = (self.clone(), output.clone());
            spawn_blocking(move || folder.write(&output, incoming))
        };
        let fetched = exchange::get_blob(farm.connection(), output.blob.hash, 0, &pieces).await;
        drop(pieces);
        let written = writing.await.map_err(io::Error::other)?;
        fetched.map_err(ClientError::from)?;
        written.map_err(|error| self.failure(output, error))?;
        Ok(Saved::Fetched)
    }

    /// Whether the very same file is there.
    async fn has(&self, output: &Output) -> Result<bool, DownloadError> {
        let (dir, name, blob) = (self.dir.clone(), output.name.clone(), output.blob);
        let same = spawn_blocking(move || is_same(&dir, name.as_str(), blob)).await;
        same.map_err(io::Error::other)?.map_err(|error| self.failure(output, error))
    }

    fn write(&self, output: &Output, mut pieces: mpsc::Receiver<Vec<Bytes>>) -> io::Result<()> {
        let name = Path::new(output.name.as_str());
        if let Some(parent) = name.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.dir.create_dir_all(parent)?;
        }
        let part = format!("{}{PART_SUFFIX}", output.name);
        let written = self.write_part(&part, output.blob, &mut pieces);
        if written.is_err() {
            // What is left of it is of no use, and its name would only puzzle people.
            let _ = self.dir.remove_file(&part);
        }
        written?;
        point("download.rename")?;
        self.dir.rename(&part, &self.dir, name)?;
        point("download.named")
    }

    fn write_part(
        &self,
        part: &str,
        blob: Blob,
        pieces: &mut mpsc::Receiver<Vec<Bytes>>,
    ) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = self.dir.open_with(part, options.write(true).create(true).truncate(true))?;
        let mut hasher = blake3::Hasher::new();
        while let Some(piece) = pieces.blocking_recv() {
            for bytes in piece {
                point("download.write")?;
                hasher.update(&bytes);
                file.write_all(&bytes)?;
            }
        }
        if *hasher.finalize().as_bytes() != *blob.hash.as_bytes() {
            return Err(io::Error::other("the transfer broke off"));
        }
        Ok(())
    }

    fn failure(&self, output: &Output, error: io::Error) -> DownloadError {
        DownloadError::Output(self.path.join(output.name.as_str()), error)
    }
}

fn is_same(dir: &Dir, name: &str, blob: Blob) -> io::Result<bool> {
    let mut file = match dir.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() != blob.len {
        return Ok(false);
    }
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; file::PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(*hasher.finalize().as_bytes() == *blob.hash.as_bytes()),
            got => drop(hasher.update(&piece[..got])),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    #[error("the folder {0} cannot be used: {1}")]
    Folder(PathBuf, io::Error),
    #[error("{0} cannot be saved: {1}")]
    Output(PathBuf, io::Error),
    #[error(transparent)]
    Farm(#[from] ClientError),
    #[error("{0}")]
    Io(#[from] io::Error),
}
