//! From a command to a Blender that has said hello.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::process::{Child, Command};

use super::exit::{Exit, ExitHow};
use super::group::Group;
use super::log::Lines;
use super::wire::{FromWorker, Hello, LineReader};
use super::{Limits, Shared};
use crate::runtime::SOCKET;

/// Unix sockets have short names: this many bytes on the systems that Grange runs on.
const SOCKET_PATH_MAX: usize = 100;
/// Last lines of a log that go into an error.
const LOG_LINES: usize = 6;
/// How long a process may take from falling silent to its end, and its output to drain.
const DYING: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("`{program}` cannot be started: {source}")]
    Spawn { program: String, source: io::Error },
    #[error("the path `{0}` is too long for a socket: choose a shorter directory")]
    PathTooLong(PathBuf),
    #[error("`{path}` cannot be made: {source}")]
    Socket { path: PathBuf, source: io::Error },
    #[error("{exit} before it was ready; it printed last:\n{log}")]
    Died { exit: Exit, log: String },
    #[error("it was not ready after {} seconds; it printed last:\n{log}", after.as_secs())]
    TooSlow { after: Duration, log: String },
    #[error("it did not say hello, but something else: is another program using `{0}`?")]
    NoHello(PathBuf),
}

/// A Blender that waits for orders.
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) shared: Arc<Shared>,
    pub(super) hello: Hello,
    pub(super) from_worker: LineReader<OwnedReadHalf>,
    pub(super) to_worker: OwnedWriteHalf,
    pub(super) output: Output,
}

/// What the process prints, as lines.
#[derive(Debug)]
pub(super) struct Output {
    pipe: pipe::Receiver,
    lines: Lines,
    chunk: Vec<u8>,
}

impl Output {
    fn new(pipe: pipe::Receiver) -> Self {
        Self { pipe, lines: Lines::default(), chunk: Vec::with_capacity(16 << 10) }
    }

    /// Passes the next lines on; false at the end. Nothing is lost if the future is dropped.
    pub(super) async fn read(&mut self, mut line: impl FnMut(&str)) -> bool {
        self.chunk.clear();
        let more = matches!(self.pipe.read_buf(&mut self.chunk).await, Ok(1..));
        self.lines.feed(&self.chunk, &mut line);
        if !more {
            self.lines.flush(&mut line);
        }
        more
    }
}

/// Spawns and waits for the hello. On failure nothing of the process group is left.
pub(super) async fn start(
    command: Command,
    run_dir: &Path,
    limits: Limits,
) -> Result<Started, StartError> {
    let socket = run_dir.join(SOCKET);
    let listener = listen(&socket)?;
    let (child, output) = spawn(command)?;
    let shared = Arc::new(Shared::new(Group::of_child(child.id())));
    let mut starting = Starting { child, output, shared };
    let greeted = tokio::time::timeout(limits.start, starting.greet(&listener, &socket)).await;
    // One worker is enough: nobody else gets in.
    drop(listener);
    let _ = std::fs::remove_file(&socket);
    let greeting = match greeted {
        Ok(greeting) => greeting?,
        Err(_) => {
            let log = starting.shared.log().last_lines(LOG_LINES);
            return Err(StartError::TooSlow { after: limits.start, log });
        }
    };
    let Starting { child, output, shared } = starting;
    let _ = shared.pid.set(greeting.pid);
    Ok(Started {
        child,
        shared,
        hello: greeting.hello,
        from_worker: greeting.from_worker,
        to_worker: greeting.to_worker,
        output,
    })
}

fn listen(socket: &Path) -> Result<UnixListener, StartError> {
    if socket.as_os_str().len() > SOCKET_PATH_MAX {
        return Err(StartError::PathTooLong(socket.into()));
    }
    let failed = |source| StartError::Socket { path: socket.into(), source };
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => UnixListener::bind(socket).map_err(failed),
    }
}

/// Both streams of the process go to one pipe, so that their lines keep their order.
fn spawn(mut command: Command) -> Result<(Child, Output), StartError> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let mut run = || {
        let (reader, writer) = io::pipe()?;
        let reader = pipe::Receiver::from_owned_fd(reader.into())?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        Ok((child, Output::new(reader)))
    };
    run().map_err(|source| StartError::Spawn { program, source })
}

/// A process that has not said hello.
struct Starting {
    child: Child,
    output: Output,
    shared: Arc<Shared>,
}

struct Greeting {
    hello: Hello,
    pid: Option<u32>,
    from_worker: LineReader<OwnedReadHalf>,
    to_worker: OwnedWriteHalf,
}

impl Starting {
    /// Waits for the hello while the output is drained, or for the end.
    async fn greet(
        &mut self,
        listener: &UnixListener,
        socket: &Path,
    ) -> Result<Greeting, StartError> {
        let greeting = accept(listener);
        tokio::pin!(greeting);
        let shared = self.shared.clone();
        let mut printing = true;
        loop {
            tokio::select! {
                greeting = &mut greeting => match greeting {
                    Some(greeting) => return Ok(greeting),
                    None => return Err(self.mute(socket).await),
                },
                more = self.output.read(|line| shared.log().push(line)), if printing => {
                    printing = more;
                }
                status = self.child.wait() => return Err(self.died(status).await),
            }
        }
    }

    /// The socket gave no hello: the process is about to be found dead, or talks nonsense.
    async fn mute(&mut self, socket: &Path) -> StartError {
        match tokio::time::timeout(DYING, self.child.wait()).await {
            Ok(status) => self.died(status).await,
            Err(_) => StartError::NoHello(socket.into()),
        }
    }

    async fn died(&mut self, status: io::Result<ExitStatus>) -> StartError {
        self.shared.group.reaped();
        let shared = &self.shared;
        let rest = async { while self.output.read(|line| shared.log().push(line)).await {} };
        let _ = tokio::time::timeout(DYING, rest).await;
        let how = status.map_or(ExitHow::Code(-1), ExitHow::from_status);
        let log = self.shared.log().last_lines(LOG_LINES);
        let killed = shared.kernel_killed();
        StartError::Died { exit: Exit::new(how, "the process".into(), &log, killed), log }
    }
}

async fn accept(listener: &UnixListener) -> Option<Greeting> {
    let (stream, _) = listener.accept().await.ok()?;
    let pid = stream.peer_cred().ok()?.pid().and_then(|pid| u32::try_from(pid).ok());
    let (reader, to_worker) = stream.into_split();
    let mut from_worker = LineReader::new(reader);
    let line = from_worker.next().await.ok()??;
    match FromWorker::parse(&line).ok()? {
        FromWorker::Hello(hello) => Some(Greeting { hello, pid, from_worker, to_worker }),
        _ => None,
    }
}
