//! Somebody who makes tokens, submits jobs, and looks what becomes of them, again and again over a
//! network on which nothing is sure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use grange_client::farm::{ClientError, Farm, new_key};
use grange_protocol::client::{OutputsQuery, Role};
use grange_protocol::file::{Blob, Output};
use grange_protocol::job::{Engine, Policy, RenderSettings, SceneNeeds};
use grange_protocol::kinds::{Animation, Submission};
use grange_protocol::shot::Label;
use grange_protocol::view::{JobState, JobView};
use grange_protocol::{
    BlenderVersion, BlobHash, FrameSet, JobId, JobKind, OutputName, Priority, Shot,
};
use grange_transport::{Endpoint, Identity};

use crate::blender::now;
use crate::hosts::{BLEND, Ground, PORT, Scene};
use crate::plan::{AGENTS, Job, Plan};

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Whoever hears nothing for so long asks anew.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the client was told, over the farm's whole life.
#[derive(Default)]
pub(crate) struct Told {
    /// Jobs whose number it heard, with their names and frames.
    pub(crate) submitted: BTreeMap<JobId, (Label, i32)>,
    /// The latest look at all jobs.
    pub(crate) jobs: Vec<JobView>,
    /// Outputs that were ever listed, and when they were first.
    pub(crate) outputs: BTreeMap<(JobId, OutputName), (BlobHash, Duration)>,
    /// What cannot be: an acknowledged job that is gone, an output that has changed.
    pub(crate) contradictions: Vec<String>,
    /// When it last saw that every job had ended, also those of which it had heard no number.
    pub(crate) all_ended_at: Option<Duration>,
    pub(crate) connections: u64,
}

pub(crate) async fn client(
    ground: Ground,
    plan: Arc<Plan>,
    told: Arc<Mutex<Told>>,
) -> anyhow::Result<()> {
    let mut client = Client { ground, told, farm: None };
    let mut waiting = plan.jobs.iter().copied().enumerate().peekable();
    loop {
        client.make_a_join_string().await;
        while let Some((at, job)) = waiting.next_if(|(_, job)| after(job.at_ms)) {
            client.submit(at, job).await;
        }
        let looked_at = now();
        if client.look().await && waiting.peek().is_none() {
            client.told.lock().unwrap().all_ended_at = Some(looked_at);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn after(ms: u64) -> bool {
    now() >= Duration::from_millis(ms)
}

struct Client {
    ground: Ground,
    told: Arc<Mutex<Told>>,
    farm: Option<Farm>,
}

impl Client {
    /// The connection, made anew if need be; `None` if there is none to be had now.
    async fn connected(&mut self) -> Option<Farm> {
        if self.farm.is_none() {
            let mut identity =
                Identity::load(&self.ground.coordinator_home().join("admin")).ok()?;
            identity.farm.addresses = vec![format!("{}:{PORT}", self.ground.coordinator)];
            let socket = self.ground.network.bind(0).await.ok()?;
            let endpoint = Endpoint::on(socket, &identity).ok()?;
            self.farm = Farm::connect_through(endpoint).await.ok();
            self.told.lock().unwrap().connections += 1;
        }
        self.farm.clone()
    }

    /// Asks once; `None` if no answer came.
    async fn ask<T>(
        &mut self,
        what: impl AsyncFnOnce(Farm) -> Result<T, ClientError>,
    ) -> Option<T> {
        let farm = self.connected().await?;
        match tokio::time::timeout(PATIENCE, what(farm)).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(ClientError::Refused(refusal))) => {
                tracing::info!("refused: {refusal}");
                None
            }
            Ok(Err(_)) | Err(_) => {
                self.farm = None;
                None
            }
        }
    }

    /// If somebody still needs one.
    async fn make_a_join_string(&mut self) {
        let needed = self.ground.joined.load(Ordering::Relaxed) < AGENTS;
        if needed && self.ground.join.lock().unwrap().is_none() {
            let ttl = Duration::from_secs(600);
            let made = self.ask(async |farm| farm.create_token(Role::Agent, ttl).await).await;
            *self.ground.join.lock().unwrap() = made.map(|token| token.join);
        }
    }

    /// Says it again until it hears a number.
    async fn submit(&mut self, number: usize, job: Job) {
        let name: Label = format!("job{number}").parse().expect("a good name");
        let key = new_key().expect("random numbers");
        loop {
            let submitted = self
                .ask(async |farm| {
                    let scene = Scene::of(job.scene);
                    for bytes in [&scene.blend, &scene.manifest] {
                        let blob = Blob { hash: BlobHash::of(bytes), len: bytes.len() as u64 };
                        if !farm.missing(vec![blob.hash]).await?.is_empty() {
                            farm.put_bytes(blob, bytes.clone()).await?;
                        }
                    }
                    let submission = submission(&name, job, BlobHash::of(&scene.manifest));
                    farm.submit_once(submission, key).await
                })
                .await;
            if let Some(id) = submitted {
                self.told.lock().unwrap().submitted.insert(id, (name, job.frames));
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Whether every job has ended.
    async fn look(&mut self) -> bool {
        let Some(jobs) = self.ask(async |farm| farm.jobs().await).await else { return false };
        for job in &jobs {
            let Some(outputs) = self.ask(async |farm| outputs(&farm, job.id).await).await else {
                return false;
            };
            let mut told = self.told.lock().unwrap();
            told.take_outputs(job.id, &outputs);
        }
        let ended = |job: &JobView| {
            matches!(job.state, JobState::Completed | JobState::Canceled | JobState::Failed)
        };
        let all_ended = jobs.iter().all(ended);
        self.told.lock().unwrap().take_jobs(jobs);
        all_ended
    }
}

impl Told {
    fn take_jobs(&mut self, jobs: Vec<JobView>) {
        for id in self.submitted.keys() {
            if jobs.iter().all(|job| job.id != *id) {
                self.contradictions.push(format!("job {id} was acknowledged and is gone"));
            }
        }
        let names: BTreeSet<&Label> = jobs.iter().map(|job| &job.name).collect();
        if names.len() < jobs.len() {
            self.contradictions.push("a submission has become two jobs".into());
        }
        self.jobs = jobs;
    }

    fn take_outputs(&mut self, job: JobId, outputs: &[Output]) {
        let mut listed = BTreeMap::new();
        for output in outputs {
            if listed.insert(&output.name, output.blob.hash).is_some() {
                self.contradictions
                    .push(format!("{} of job {job} is committed twice", output.name));
            }
            let first = (output.blob.hash, now());
            let known = self.outputs.entry((job, output.name.clone())).or_insert(first);
            if known.0 != output.blob.hash {
                self.contradictions.push(format!("{} of job {job} has changed", output.name));
            }
        }
        let gone: Vec<String> = (self.outputs.keys())
            .filter(|(of, name)| *of == job && !listed.contains_key(name))
            .map(|(_, name)| format!("{name} of job {job} was committed and is gone"))
            .collect();
        self.contradictions.extend(gone);
    }
}

async fn outputs(farm: &Farm, job: JobId) -> Result<Vec<Output>, ClientError> {
    let (mut outputs, mut after) = (Vec::new(), Some(0));
    while let Some(cursor) = after {
        let page = farm.outputs(OutputsQuery { job, step: None, after: cursor }).await?;
        outputs.extend(page.rows.into_iter().map(|row| row.output));
        after = page.next;
    }
    Ok(outputs)
}

fn submission(name: &Label, job: Job, manifest: BlobHash) -> Submission {
    let shot = Shot {
        name: Label::default(),
        scene: None,
        view_layer: None,
        camera: None,
        frames: FrameSet::range(1, job.frames, 1).expect("frames in order"),
        resolution: None,
        samples: None,
        output: format!("{name}/####").parse().expect("a good pattern"),
        extras: None,
    };
    Submission {
        name: name.clone(),
        priority: job.priority.to_string().parse::<Priority>().expect("a priority"),
        // Blenders crash, and no frame may fail for that.
        policy: Policy { attempts_max: 50, agent_failures_max: 50, ..Policy::default() },
        manifest: Some(manifest),
        queue_anyway: true,
        tags: Default::default(),
        kind: JobKind::Animation(Animation {
            blend: BLEND.parse().expect("a good path"),
            needs: SceneNeeds {
                saved_by: BlenderVersion::new(4, 2),
                engines: [Engine::Cycles].into(),
                denoiser: false,
            },
            settings: RenderSettings::default(),
            chunk: 1,
            shot,
            preview: None,
        }),
    }
}
