//! Outputs on their way to a folder of the user's: whole under their names, or not there.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use grange_protocol::file::{Blob, Output};
use grange_transport::{StreamError, exchange, file};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::farm::{ClientError, Farm, MayBeLost};
use crate::part::{Ended, Part};

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

    /// Fetches an output, unless the same file is there already, and puts it under its name. What
    /// had come of it before is not fetched again.
    pub async fn save(&self, farm: &Farm, output: &Output) -> Result<Saved, DownloadError> {
        loop {
            if self.has(output).await? {
                return Ok(Saved::Kept);
            }
            let (went_on, ended) = self.fetch(farm, output).await?;
            match ended {
                Ended::Named => return Ok(Saved::Fetched),
                // What was there was of another file; what comes from the farm is verified there.
                Ended::Wrong if went_on => {}
                Ended::Wrong => {
                    let error = io::Error::other("its bytes changed on the way: fetch it again");
                    return Err(self.failure(output, error));
                }
                Ended::Short => return Err(ClientError::Stream(StreamError::Truncated).into()),
            }
        }
    }

    /// One transfer: whether it went on with what was there, and how it ended.
    async fn fetch(&self, farm: &Farm, output: &Output) -> Result<(bool, Ended), DownloadError> {
        let (begins, begun) = oneshot::channel();
        let (pieces, mut incoming) = file::incoming();
        let writing = {
            let (dir, output) = (self.dir.clone(), output.clone());
            spawn_blocking(move || {
                let mut part = Part::open(&dir, &output)?;
                let _ = begins.send(part.len());
                part.write(&mut incoming)?;
                part.finish()
            })
        };
        let offset = begun.await;
        let fetched = match offset {
            Ok(offset) => {
                exchange::get_blob(farm.connection(), output.blob.hash, offset, &pieces).await
            }
            // The file cannot be opened, which the writer says.
            Err(_) => Ok(0),
        };
        drop(pieces);
        let written = writing.await.map_err(io::Error::other)?;
        fetched.map_err(ClientError::from)?;
        let ended = written.map_err(|error| self.failure(output, error))?;
        Ok((offset.is_ok_and(|offset| offset > 0), ended))
    }

    /// Whether the very same file is there.
    async fn has(&self, output: &Output) -> Result<bool, DownloadError> {
        let (dir, name, blob) = (self.dir.clone(), output.name.clone(), output.blob);
        let same = spawn_blocking(move || is_same(&dir, name.as_str(), blob)).await;
        same.map_err(io::Error::other)?.map_err(|error| self.failure(output, error))
    }

    fn failure(&self, output: &Output, error: io::Error) -> DownloadError {
        let path = self.path.join(output.name.as_str());
        match self.way_out(output.name.as_str()) {
            Some(link) => DownloadError::LeavesFolder { path, link, folder: self.path.clone() },
            None => DownloadError::Output(path, error),
        }
    }

    /// The link among the folders of a name that leads out of this one.
    fn way_out(&self, name: &str) -> Option<PathBuf> {
        let folders = name.match_indices('/').map(|(end, _)| &name[..end]);
        let is_link = |folder: &&str| {
            self.dir.symlink_metadata(folder).is_ok_and(|there| there.is_symlink())
                && self.dir.metadata(folder).is_err()
        };
        folders.into_iter().find(is_link).map(|folder| self.path.join(folder))
    }
}

fn is_same(dir: &Dir, name: &str, blob: Blob) -> io::Result<bool> {
    // What is no plain file is not read: a link may lead anywhere, and a pipe has no end.
    match dir.symlink_metadata(name) {
        Ok(there) if there.is_file() && there.len() == blob.len => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    let mut file = dir.open(name)?;
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
    #[error(
        "{path} cannot be saved: {link} is a link that leads out of {folder}: remove the link, or save \
         to another folder"
    )]
    LeavesFolder { path: PathBuf, link: PathBuf, folder: PathBuf },
    #[error(transparent)]
    Farm(#[from] ClientError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl MayBeLost for DownloadError {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Farm(error) if error.is_lost())
    }
}
