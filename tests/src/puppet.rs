//! An agent that does what a test or a benchmark tells it, and nothing by itself.

use std::collections::BTreeSet;

use std::time::Duration;

use anyhow::Context;
use grange_client::Farm;
use grange_protocol::agent::{AgentHello, DeviceInfo, DeviceKind, ToAgent, Welcome};
use grange_protocol::client::Role;
use grange_protocol::file::{Blob, Output, OutputRole, PutOutput};
use grange_protocol::job::{Engine, Policy, RenderSettings, SceneNeeds};
use grange_protocol::join::JoinString;
use grange_protocol::kinds::{Animation, Noop, Submission};
use grange_protocol::limits::FRAME_MAX;
use grange_protocol::stream::Open;
use grange_protocol::{
    BlenderVersion, BlobHash, FrameSet, JobId, JobKind, LeaseId, Priority, Shot, TaskRef, codec,
};
use grange_transport::{Connection, Endpoint, Identity, Receiver, SendStream, enrol, exchange};

pub struct Puppet {
    pub connection: Connection,
    pub identity: Identity,
    /// Nothing is said on it by itself, but its end would be the agent's.
    control: SendStream,
    receiver: Receiver<ToAgent>,
}

impl Puppet {
    /// Joins the farm with a token of its own, as a host without a Blender that takes one task.
    pub async fn join(farm: &Farm) -> anyhow::Result<Self> {
        let token = farm.create_token(Role::Agent, Duration::from_secs(60)).await?;
        let join: JoinString = token.join.parse()?;
        Self::connect(enrol::join(&join, "puppet".parse()?).await?).await
    }

    /// Comes back as who it was, and holds nothing.
    pub async fn connect(identity: Identity) -> anyhow::Result<Self> {
        let connection = Endpoint::new(&identity)?.connect().await?;
        let device = DeviceInfo {
            id: "cpu".parse()?,
            name: "cpu".parse()?,
            kind: DeviceKind::Cpu,
            memory_mib: 0,
            slots: 1,
            driver: Default::default(),
        };
        let hello = AgentHello {
            name: "puppet".parse()?,
            software: String::new(),
            runtimes: Vec::new(),
            devices: vec![device],
            ffmpeg: false,
            ahead: 0,
            holding: Vec::new(),
        };
        let (control, mut receiver) =
            exchange::listen::<Welcome>(&connection, &Open::Control(Box::new(hello))).await?;
        receiver.expect().await?;
        let control = control.into_inner();
        Ok(Self { connection, identity, control, receiver: receiver.retype() })
    }

    /// Says something on the control stream, whatever it is.
    pub async fn say(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.control.write_all(bytes).await?)
    }

    /// Waits until the coordinator has nothing more to say to this agent.
    pub async fn is_over(&mut self) {
        while self.receiver.expect().await.is_ok() {}
    }

    /// The next task that it is given; its lease allows to commit outputs.
    pub async fn assigned(&mut self) -> anyhow::Result<(LeaseId, TaskRef)> {
        loop {
            if let ToAgent::Assign(assignment) = self.receiver.expect().await? {
                return Ok((assignment.lease, assignment.task));
            }
        }
    }

    /// Sends a message that no honest program can build: `from` in its bytes becomes `to`, which
    /// is as long. Returns what the coordinator answers.
    pub async fn put_forged(
        &self,
        put: PutOutput,
        bytes: &[u8],
        [from, to]: [&str; 2],
    ) -> anyhow::Result<Vec<u8>> {
        anyhow::ensure!(from.len() == to.len(), "the frame's length would be wrong");
        let mut frame = Vec::new();
        codec::encode_frame(&Open::PutOutput(put), FRAME_MAX, &mut frame)?;
        let at = frame
            .windows(from.len())
            .position(|window| window == from.as_bytes())
            .context("the message does not have that text")?;
        frame[at..at + to.len()].copy_from_slice(to.as_bytes());
        let (mut send, mut recv) = self.connection.open_bi().await?;
        send.write_all(&frame).await?;
        // The coordinator may have stopped listening already.
        let _ = send.write_all(bytes).await;
        let _ = send.finish();
        Ok(recv.read_to_end(FRAME_MAX).await.unwrap_or_default())
    }
}

/// An output that is sent at once with its bytes.
pub fn small_output(lease: LeaseId, task: TaskRef, name: &str, bytes: &[u8]) -> PutOutput {
    let blob = Blob { hash: BlobHash::of(bytes), len: bytes.len() as u64 };
    let name = name.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
    PutOutput {
        lease,
        task,
        output: Output { name, role: OutputRole::Frame, frame: 1, blob },
        eager: true,
    }
}

/// Submits a job of tasks that do nothing, even if nobody can do them yet.
pub async fn submit_noop(farm: &Farm, tasks: u32) -> anyhow::Result<JobId> {
    let submission = Submission {
        name: "noop".parse()?,
        priority: Priority::DEFAULT,
        policy: Policy::default(),
        manifest: None,
        queue_anyway: true,
        tags: BTreeSet::new(),
        kind: JobKind::Noop(Noop { tasks, millis: 0 }),
    };
    Ok(farm.submit(submission).await?)
}

/// Submits a frame of `/p/a.blend`, with that manifest.
pub async fn submit_manifest(farm: &Farm, manifest: BlobHash) -> anyhow::Result<JobId> {
    let animation = Animation {
        blend: "/p/a.blend".parse()?,
        needs: SceneNeeds {
            saved_by: BlenderVersion::new(4, 2),
            engines: [Engine::Cycles].into(),
            denoiser: false,
        },
        settings: RenderSettings::default(),
        chunk: 1,
        shot: Shot {
            name: Default::default(),
            scene: None,
            view_layer: None,
            camera: None,
            frames: FrameSet::range(1, 1, 1)?,
            resolution: None,
            samples: None,
            output: "####".parse()?,
            extras: None,
        },
        preview: None,
    };
    let submission = Submission {
        name: "a".parse()?,
        priority: Priority::default(),
        policy: Policy::default(),
        manifest: Some(manifest),
        queue_anyway: true,
        tags: BTreeSet::new(),
        kind: JobKind::Animation(animation),
    };
    Ok(farm.submit(submission).await?)
}
