//! What happens to an agent, and what its core wants done.

use std::path::PathBuf;

use grange_blender::instance::SessionFrame;
use grange_blender::truths::Truth;
use grange_protocol::agent::{Assignment, Failure, FromAgent};
use grange_protocol::file::{Output, OutputRole};
use grange_protocol::job::{RenderSettings, SceneNeeds};
use grange_protocol::session::{CallNumber, FromSession, OpenSession, Raised};
use grange_protocol::{BlobHash, LayoutPath, LeaseId, OutputName, Shot};

use super::session::Wanted;
use super::storage::Space;
use crate::gpu::Read;

/// One Blender process of this life of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct InstanceId(pub(crate) u32);

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Tick,
    /// The coordinator greets, and names leases that are not the agent's any more.
    Welcomed {
        drop: Vec<LeaseId>,
    },
    Assigned(Box<Assignment>),
    Revoked(LeaseId),
    Recalled(LeaseId),
    Settled(LeaseId),
    /// Finish what has begun, take nothing new.
    Drain,
    /// Stop everything, now; others may have it.
    Abandon,
    SceneReady(BlobHash),
    SceneFailed(BlobHash, Failure),
    /// A process has started and said hello.
    InstanceUp {
        instance: InstanceId,
        /// As this host numbers it; `None` where the system does not say.
        pid: Option<u32>,
        /// As Blender says it: `4.2.23 LTS`.
        blender: String,
    },
    /// How every device is doing, in their order.
    DevicesRead(Vec<Read>),
    /// How much room there is where the agent writes.
    SpacesRead(Vec<Space>),
    Opened {
        instance: InstanceId,
        warnings: Vec<String>,
    },
    /// A sign of life: a sample, a change of memory.
    Sign {
        instance: InstanceId,
        sign: Sign,
    },
    Rendered {
        instance: InstanceId,
        frame: Box<Frame>,
    },
    /// The render, or the opening of the scene, failed and the process lives.
    RenderFailed {
        instance: InstanceId,
        failure: Failure,
        log: String,
    },
    RenderCanceled {
        instance: InstanceId,
        log: String,
    },
    /// The process has ended, or could not be started.
    InstanceGone {
        instance: InstanceId,
        failure: Failure,
        log: String,
    },
    /// A session's owner wants something.
    Called {
        lease: LeaseId,
        wanted: Wanted,
    },
    /// A session's owner is done.
    SessionClosed(LeaseId),
    /// The operation that was under way has ended.
    Answered {
        instance: InstanceId,
        answer: Box<Result<Reply, Raised>>,
        log: String,
    },
    /// Files of the attempt are committed.
    Stored {
        lease: LeaseId,
        /// What they are the answer to, in a session, and what else it gave.
        reply: Option<(CallNumber, Said)>,
        outputs: Vec<Output>,
    },
    /// They cannot be. `None`: because the lease is stale.
    NotStored {
        lease: LeaseId,
        call: Option<CallNumber>,
        failure: Option<Failure>,
    },
    /// Work that needs no instance has ended, with the files to store or the reason why not.
    WorkDone {
        lease: LeaseId,
        result: Result<Frame, Failure>,
        log: String,
    },
}

/// What shows that an instance is alive and where it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sign {
    Progress {
        fraction: f32,
        sample: u32,
        samples: u32,
        /// Memory that Cycles holds on its device, in MiB, if it says.
        device_mib: Option<u32>,
    },
    /// Resident memory of the process, in MiB.
    Memory(u32),
}

/// What came of one frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Frame {
    /// The frame's number; 0 where there is none.
    pub(crate) number: i32,
    /// The directory that is all its own, relative to the agent's scratch directory.
    pub(crate) dir: PathBuf,
    pub(crate) files: Vec<RenderedFile>,
    /// Files that are still to be made of the passes in its directory.
    pub(crate) truths: Vec<Truth>,
    pub(crate) render_ms: u32,
    /// The largest resident set of the process, in MiB.
    pub(crate) peak_mib: u32,
    /// The most that Cycles held on its device, in MiB, if it said so.
    pub(crate) device_peak_mib: Option<u32>,
    /// Width × height of the picture; 0 if nobody knows.
    pub(crate) pixels: u64,
    pub(crate) warnings: Vec<String>,
    pub(crate) log: String,
    /// What it is the answer to, in a session.
    pub(crate) call: Option<CallNumber>,
    /// What the caller is told besides the files.
    pub(crate) value: serde_json::Value,
}

/// A file in the directory of its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RenderedFile {
    /// Relative to the agent's scratch directory.
    pub(crate) path: PathBuf,
    /// What it is called in the job.
    pub(crate) name: OutputName,
    pub(crate) role: OutputRole,
}

/// What a call gave, besides files.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Said {
    pub(crate) value: serde_json::Value,
    /// Sentences for people.
    pub(crate) warnings: Vec<String>,
}

/// What an operation gave: a value, and what it wrote.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reply {
    pub(crate) said: Said,
    /// Its directory, relative to the agent's scratch directory.
    pub(crate) dir: PathBuf,
    pub(crate) files: Vec<RenderedFile>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    /// Fetch a scene's files and lay them out.
    PrepareScene(BlobHash),
    /// Remove the layout; the files stay in the store.
    ReleaseScene(BlobHash),
    StartInstance(Box<Start>),
    OpenScene {
        instance: InstanceId,
        manifest: BlobHash,
        blend: LayoutPath,
        allow_missing: bool,
    },
    Render(Box<RenderOrder>),
    Call {
        instance: InstanceId,
        operation: String,
        arguments: serde_json::Value,
    },
    /// The instance is ready for its owner.
    OpenSession(Box<OpenSession>),
    /// To the owner of a session.
    TellSession(LeaseId, FromSession),
    /// The session is over.
    CloseSession(LeaseId),
    CancelRender(InstanceId),
    /// End the process in good order.
    Quit(InstanceId),
    Kill(InstanceId),
    /// Verify the files, commit them, remove them.
    Store {
        lease: LeaseId,
        assignment: Box<Assignment>,
        frame: Box<Frame>,
    },
    /// Remove the files: nobody wants them any more.
    Discard(Box<Frame>),
    /// Give up storing files of the attempt.
    StopStoring(LeaseId),
    /// Do work that needs no instance.
    Work(Box<Assignment>),
    StopWork(LeaseId),
    Tell(FromAgent),
    /// For the log: what was decided about a device.
    Note {
        device: u16,
        text: String,
    },
}

/// A process to start. It serves one scene of one submitter on one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) instance: InstanceId,
    pub(crate) device: u16,
    pub(crate) manifest: BlobHash,
    pub(crate) needs: SceneNeeds,
    /// Cores to start with, if the device's instances share some.
    pub(crate) cores: Option<Vec<u16>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RenderOrder {
    pub(crate) instance: InstanceId,
    pub(crate) lease: LeaseId,
    pub(crate) frame: i32,
    pub(crate) shot: Shot,
    pub(crate) settings: RenderSettings,
    /// `None`: as the file has the scene.
    pub(crate) session: Option<SessionFrame>,
    /// Cores of its own, and as many threads; `None` on a device that computes by itself.
    pub(crate) cores: Option<Vec<u16>>,
}
