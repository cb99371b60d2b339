//! What a Blender can really do, found out in processes that may die of it.
//!
//! Without a graphics driver EEVEE and Workbench do not fail but abort the process. So each engine
//! renders a tiny picture, Cycles first, and after a death the rest is asked of a new process.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use grange_protocol::BlenderVersion;
use grange_protocol::agent::RuntimeInfo;
use grange_protocol::job::Engine;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::find::Candidate;
use super::identify::{NotABlender, identify};
use super::launch::{Launch, Program, Runtime};
use crate::instance::{Hello, Instance, InstanceEvent, Limits, Order, StartError};
use crate::verify::verify;

/// EEVEE compiles its shaders for its first picture, which takes seconds on a CPU.
const PICTURE_MAX: Duration = Duration::from_secs(120);

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(transparent)]
    NotABlender(#[from] NotABlender),
    #[error("`{program}` does not work: {source}")]
    Start { program: PathBuf, source: StartError },
    #[error("`{run_dir}` cannot be written: {source}")]
    RunDir { run_dir: PathBuf, source: io::Error },
}

/// Starts a candidate, in the jail that instances will have, and tries `engines`, of which the
/// runtime offers those that render. `run_dir` is a directory for this alone, which the caller
/// removes. Takes seconds, most of them for EEVEE on a host without a GPU.
pub async fn probe(
    candidate: &Candidate,
    engines: &[Engine],
    run_dir: &Path,
    jail: impl Fn(&Launch) -> Command,
) -> Result<Runtime, ProbeError> {
    let program = identify(&candidate.program).await?;
    let mut untried: VecDeque<Engine> = engines.iter().cloned().collect();
    let (hello, mut engines) = {
        let (instance, events) = start(&program, run_dir, &jail).await?;
        let engines = try_engines(&instance, events, run_dir, &mut untried).await;
        (instance.hello().clone(), engines)
    };
    while !untried.is_empty() {
        let Ok((instance, events)) = start(&program, run_dir, &jail).await else { break };
        engines.extend(try_engines(&instance, events, run_dir, &mut untried).await);
    }
    Ok(runtime(program, hello, engines))
}

async fn start(
    program: &Program,
    run_dir: &Path,
    jail: impl Fn(&Launch) -> Command,
) -> Result<(Instance, mpsc::Receiver<InstanceEvent>), ProbeError> {
    let launch = program
        .launch(run_dir, None)
        .map_err(|source| ProbeError::RunDir { run_dir: run_dir.into(), source })?;
    Instance::start(jail(&launch), &launch.run_dir, Limits::default())
        .await
        .map_err(|source| ProbeError::Start { program: program.path.clone(), source })
}

/// Takes engines off the list until it is empty or the process dies of one; gives those that
/// rendered.
async fn try_engines(
    instance: &Instance,
    mut events: mpsc::Receiver<InstanceEvent>,
    run_dir: &Path,
    untried: &mut VecDeque<Engine>,
) -> BTreeSet<Engine> {
    let mut good = BTreeSet::new();
    let picture = run_dir.join("tmp/probe.png");
    while let Some(engine) = untried.pop_front() {
        let _ = std::fs::remove_file(&picture);
        if instance.send(Order::Probe(engine.clone(), picture.clone())).is_err() {
            break;
        }
        match timeout(PICTURE_MAX, events.recv()).await {
            Ok(Some(InstanceEvent::Probed { error: None, .. })) if verify(&picture).is_ok() => {
                good.insert(engine);
            }
            Ok(Some(InstanceEvent::Probed { error, .. })) => {
                tracing::debug!(%engine, ?error, "does not render");
            }
            other => {
                tracing::debug!(%engine, ?other, "kills Blender, or hangs");
                break;
            }
        }
    }
    good
}

fn runtime(program: Program, hello: Hello, engines: BTreeSet<Engine>) -> Runtime {
    Runtime {
        info: RuntimeInfo {
            version: BlenderVersion::new(hello.version.0, hello.version.1),
            full_version: hello.full_version,
            path: program.path.display().to_string(),
            engines,
            denoiser: hello.denoiser,
        },
        devices: hello.devices,
        can_stop: hello.can_stop,
        program,
    }
}
