//! A frame's files on their way to the coordinator: looked at, hashed, committed, removed.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use grange_blender::instance::RenderedFile as SplitFile;
use grange_blender::truths::{PASSES, split};
use grange_blender::verify::verify;
use grange_blocking as blocking;
use grange_faults::point;
use grange_protocol::agent::{Assignment, Failure, FailureKind};
use grange_protocol::file::{Blob, Output, OutputRole, PutOutput};
use grange_protocol::{OutputName, RefusalCode};
use grange_transport::{StreamError, exchange};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::core::{Frame, RenderedFile};
use crate::pictures::Pictures;
use crate::supply::Supply;

/// Files that are sent at once; more wait. While some are being synced others keep the link busy.
const SENDS: usize = 32;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Bytes sent that turn out to be others are sent so often before it is the host's fault.
const TRIES: u32 = 3;
/// Below so much free space a file that is not whole is the disk's fault. Bytes.
const DISK_FULL: u64 = 1 << 20;

/// Commits files of attempts.
#[derive(Clone)]
pub(crate) struct Delivery {
    supply: Supply,
    scratch: PathBuf,
    pictures: Pictures,
    sends: Arc<Semaphore>,
    verifications: Arc<Semaphore>,
}

/// Why files were not committed.
pub(crate) enum NotDelivered {
    /// The lease is not, or no longer, the agent's.
    Stale,
    Failed(Failure),
}

impl Delivery {
    pub(crate) fn new(supply: Supply, scratch: PathBuf, pictures: Pictures) -> Self {
        Self {
            supply,
            scratch,
            pictures,
            sends: Arc::new(Semaphore::new(SENDS)),
            // Looking at a picture costs a core; rendering wants it too.
            verifications: Arc::new(Semaphore::new(crate::host::cores().div_ceil(2))),
        }
    }

    /// Commits all files of a frame and removes them. Returns what was committed. The picture itself
    /// goes last: whoever sees it can rely on the rest.
    pub(crate) async fn deliver(
        &self,
        assignment: &Assignment,
        frame: &Frame,
    ) -> Result<Vec<Output>, NotDelivered> {
        let mut outputs = Vec::new();
        let truths = self.make_truths(frame).await.map_err(NotDelivered::Failed)?;
        for file in frame.files.iter().chain(&truths) {
            outputs.push(self.inspect(frame.number, file).await.map_err(NotDelivered::Failed)?);
        }
        let committed = outputs.iter().map(|(output, _)| output.clone()).collect();
        let (extras, pictures): (Vec<_>, Vec<_>) =
            outputs.into_iter().partition(|(output, _)| output.role == OutputRole::Extra);
        for group in [extras, pictures] {
            let mut sending = JoinSet::new();
            for (output, source) in group {
                let (delivery, assignment) = (self.clone(), assignment.clone());
                sending.spawn(async move {
                    delivery.send(&assignment, &output, &source).await?;
                    delivery.pictures.make(&output, source);
                    Ok(())
                });
            }
            while let Some(sent) = sending.join_next().await {
                sent.unwrap_or_else(|error| Err(failed(FailureKind::Other, error.to_string())))?;
            }
        }
        self.discard(frame);
        Ok(committed)
    }

    /// Removes a frame's files.
    pub(crate) fn discard(&self, frame: &Frame) {
        let mut dirs = vec![self.scratch.join(&frame.dir)];
        if !frame.truths.is_empty() {
            dirs.push(self.scratch.join(truths_dir(frame)));
        }
        blocking::run(move || {
            for dir in dirs {
                if let Err(error) = std::fs::remove_dir_all(&dir) {
                    tracing::debug!("{} stays: {error}", dir.display());
                }
            }
        });
    }

    /// Makes the files that a frame's passes are for.
    async fn make_truths(&self, frame: &Frame) -> Result<Vec<RenderedFile>, Failure> {
        if frame.truths.is_empty() {
            return Ok(Vec::new());
        }
        let _permit = self.verifications.acquire().await;
        let (scratch, dir, truths) =
            (self.scratch.clone(), truths_dir(frame), frame.truths.clone());
        let passes = frame.dir.join(PASSES);
        let made = blocking::run(move || -> Result<_, Failure> {
            let passes = open(&scratch, &passes).map_err(|error| {
                let reason = format!("the passes of its ground truths cannot be read: {error}");
                Failure::new(FailureKind::Output, reason)
            })?;
            let files = split(passes, &truths, &scratch.join(&dir))?;
            let below_scratch = |file: SplitFile| RenderedFile {
                path: dir.join(file.name.as_str()),
                name: file.name,
                role: file.role,
            };
            Ok(files.into_iter().map(below_scratch).collect())
        });
        let made =
            made.await.map_err(|error| Failure::new(FailureKind::Other, error.to_string()))?;
        made.map_err(|failure: Failure| match failure.kind {
            FailureKind::Scene => failure,
            _ => self.full_disk("a ground truth").unwrap_or(failure),
        })
    }

    /// Opens a file where it lies, sees that it is whole, and names and hashes it.
    async fn inspect(&self, number: i32, file: &RenderedFile) -> Result<(Output, File), Failure> {
        let _permit = self.verifications.acquire().await;
        let (scratch, path) = (self.scratch.clone(), file.path.clone());
        let inspected = blocking::run(move || open_and_verify(&scratch, &path)).await;
        let (source, blob) = inspected
            .map_err(|error| Failure::new(FailureKind::Other, error.to_string()))?
            .map_err(|why| self.not_whole(&file.name, &why))?;
        let output = Output { name: file.name.clone(), role: file.role, frame: number, blob };
        Ok((output, source))
    }

    fn not_whole(&self, name: &OutputName, why: &str) -> Failure {
        self.full_disk(name.as_str()).unwrap_or_else(|| {
            Failure::new(FailureKind::Output, format!("{name} is not a whole picture: {why}"))
        })
    }

    /// If that is why something is not whole.
    fn full_disk(&self, what: &str) -> Option<Failure> {
        let free = free_space(&self.scratch)?;
        let place = self.scratch.display();
        (free < DISK_FULL).then(|| {
            let reason =
                format!("this host's disk is full, so {what} is not whole: make room at {place}");
            Failure::new(FailureKind::Storage, reason)
        })
    }

    /// Sends until it is committed or refused; while the coordinator is away, waits for it.
    async fn send(
        &self,
        assignment: &Assignment,
        output: &Output,
        source: &File,
    ) -> Result<(), NotDelivered> {
        let _permit = self.sends.acquire().await;
        let (mut pause, mut tries) = (FIRST_PAUSE, 0);
        loop {
            let connection = match self.supply.connected().await {
                Ok(connection) => connection,
                Err(error) => return Err(failed(FailureKind::Other, error.to_string())),
            };
            let put = PutOutput {
                lease: assignment.lease,
                task: assignment.task,
                output: output.clone(),
                eager: false,
            };
            let again = source.try_clone().and_then(|mut again| again.rewind().map(|()| again));
            let again = again.map_err(|error| failed(FailureKind::Host, error.to_string()))?;
            let sent = match point("delivery.send") {
                Ok(()) => exchange::put_output(&connection, put, again).await,
                Err(error) => Err(StreamError::Io(error)),
            };
            match sent {
                Ok(()) => {
                    let passed = point("delivery.sent");
                    return passed.map_err(|error| failed(FailureKind::Host, error.to_string()));
                }
                Err(StreamError::Refused(refusal)) => match refusal.code {
                    RefusalCode::StaleLease => return Err(NotDelivered::Stale),
                    RefusalCode::NotNow => tracing::warn!("{}: {refusal}", output.name),
                    RefusalCode::NameTaken => {
                        return Err(failed(FailureKind::Scene, refusal.message));
                    }
                    _ => {
                        tries += 1;
                        if tries >= TRIES {
                            return Err(failed(FailureKind::Output, refusal.message));
                        }
                    }
                },
                Err(StreamError::Io(error)) => {
                    return Err(failed(FailureKind::Host, error.to_string()));
                }
                Err(error) => tracing::debug!("{} is sent again: {error}", output.name),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// The file is opened once, without leaving the scratch directory, and everything after looks at
/// that one handle: whatever Blender does to names meanwhile changes nothing.
fn open_and_verify(scratch: &Path, path: &Path) -> Result<(File, Blob), String> {
    let file = open(scratch, path).map_err(|error| error.to_string())?;
    let verified = verify(&reopened(&file)).map_err(|error| error.to_string())?;
    Ok((file, Blob { hash: verified.hash, len: verified.len }))
}

/// A path by which this program opens the very file again that it has open, whatever became of its name.
pub(crate) fn reopened(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// A file below the scratch directory, whatever links lie there.
fn open(scratch: &Path, path: &Path) -> io::Result<File> {
    let dir = Dir::open_ambient_dir(scratch, ambient_authority())?;
    let file = dir.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    Ok(file.into_std())
}

/// Where a frame's ground truths are made, relative to the scratch directory: beside what the
/// instance can write to, so that it cannot lead us elsewhere with a link.
fn truths_dir(frame: &Frame) -> PathBuf {
    Path::new("truths").join(&frame.dir)
}

/// Free bytes for us on the file system of a path.
pub(crate) fn free_space(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}

fn failed(kind: FailureKind, reason: impl Into<String>) -> NotDelivered {
    NotDelivered::Failed(Failure::new(kind, reason))
}
