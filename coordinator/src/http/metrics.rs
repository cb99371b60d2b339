//! The farm in numbers, as Prometheus reads them.
//!
//! Made anew from what people see ([`crate::views`]) whenever somebody asks. Names follow Prometheus'
//! conventions: base units, the unit last, `_total` for what only rises, from 0 at the coordinator's
//! start.

use std::fmt;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{HeaderName, header};
use grange_protocol::agent::DeviceInfo;
use grange_protocol::footprint::DeviceState;
use grange_protocol::view::{AgentState, AgentView, FarmView, JobState, JobView, TaskCounts};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::openapi::Problems;
use super::{Api, Problem};
use crate::farm::Farm;
use crate::keeping::Kept;
use crate::pictures::Pictures;
use crate::rate::Done;
use crate::sessions::{SessionState, SessionView};
use crate::webhooks::Figures;

/// OpenMetrics, which Prometheus asks for first.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const MIB: f64 = (1 << 20) as f64;

/// Of one value: its label's names and what they say.
type Labels = Vec<(&'static str, String)>;
type Values = Family<Labels, Gauge<f64, std::sync::atomic::AtomicU64>>;

/// The farm in numbers, for Prometheus
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "farm",
    responses(
        (status = 200, body = String, content_type = "application/openmetrics-text"),
        Problems,
    ),
)]
pub(super) async fn metrics(
    State(api): State<Api>,
) -> Result<([(HeaderName, &'static str); 1], String), Problem> {
    let sessions: Vec<SessionView> =
        api.shared.sessions.all().iter().map(|session| session.view()).collect();
    let seen = api.shared.farm.look(Seen::of).await?;
    let mut book = seen.book(&sessions, api.shared.keeping.kept());
    book.of_pictures(&api.shared.pictures);
    if let Some(webhooks) = &api.shared.webhooks {
        book.of_webhooks(&webhooks.figures());
    }
    let mut text = String::new();
    let written = encode(&mut text, &book.0);
    written.map_err(|fmt::Error| Problem::unexpected())?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}

/// All that is told of, of one moment.
struct Seen {
    farm: FarmView,
    jobs: Vec<JobView>,
    done: Done,
    agents: Vec<AgentView>,
    out_of_memory: u64,
}

impl Seen {
    fn of(farm: &mut Farm) -> Self {
        let footprints = farm.footprint_views();
        Self {
            farm: farm.farm_view(),
            jobs: farm.job_views(),
            done: farm.done,
            agents: farm.agent_views(),
            out_of_memory: footprints.iter().map(|one| u64::from(one.out_of_memory)).sum(),
        }
    }

    fn book(&self, sessions: &[SessionView], kept: Kept) -> Book {
        let mut book = Book(Registry::with_prefix("grange"));
        book.of_farm(&self.farm);
        book.of_jobs(&self.jobs);
        book.of_what_is_done(self.done);
        let states = [SessionState::Waiting, SessionState::Ready, SessionState::Ended];
        book.count("sessions", "Sessions", &states, sessions.iter().map(|one| one.state));
        let help = "Renders that ran out of memory";
        book.risen("out_of_memory", help, None, self.out_of_memory);
        let states =
            [AgentState::Online, AgentState::Draining, AgentState::Asleep, AgentState::Offline];
        book.count("agents", "Agents", &states, self.agents.iter().map(|one| one.state));
        book.of_hosts(&self.agents);
        book.of_devices(&self.agents);
        book.of_files(kept);
        book
    }
}

/// Writes families down.
struct Book(Registry);

impl Book {
    fn family(&mut self, name: &str, help: &str, unit: Option<Unit>) -> Values {
        let values = Values::default();
        match unit {
            Some(unit) => self.0.register_with_unit(name, help, unit, values.clone()),
            None => self.0.register(name, help, values.clone()),
        }
        values
    }

    fn one(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, help, None).get_or_create(&Labels::new()).set(value);
    }

    /// What only rises.
    fn risen(&mut self, name: &str, help: &str, unit: Option<Unit>, value: u64) {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        match unit {
            Some(unit) => self.0.register_with_unit(name, help, unit, counter),
            None => self.0.register(name, help, counter),
        }
    }

    /// How many there are of each state, also where there is none.
    fn count<S: fmt::Display>(
        &mut self,
        name: &str,
        help: &str,
        all: &[S],
        those: impl Iterator<Item = S>,
    ) {
        let values = self.family(name, help, None);
        let of = |state: &S| vec![("state", state.to_string())];
        for state in all {
            values.get_or_create(&of(state)).set(0.0);
        }
        for state in those {
            values.get_or_create(&of(&state)).inc();
        }
    }

    fn of_files(&mut self, kept: Kept) {
        let help = "Assets and outputs, as of the latest collection";
        let stored = self.family("stored", help, Some(Unit::Bytes));
        stored.get_or_create(&Labels::new()).set(kept.stored_bytes as f64);
        let help = "Jobs that were collected since the start";
        self.risen("collected_jobs", help, None, kept.collected_jobs);
        let help = "Files that were collected since the start";
        self.risen("collected_files", help, None, kept.collected_files);
        self.risen("collected", help, Some(Unit::Bytes), kept.collected_bytes);
    }

    fn of_pictures(&mut self, pictures: &Pictures) {
        let help = "Small pictures of files";
        let stored = self.family("pictures_stored", help, Some(Unit::Bytes));
        stored.get_or_create(&Labels::new()).set(pictures.bytes() as f64);
        let help = "Files since the start whose small pictures were `sent` by agents, `made` because \
                    somebody looked, and `skipped` by agents that did not keep up";
        let files = Family::<Labels, Counter>::default();
        self.0.register("pictures", help, files.clone());
        let counts = &pictures.counts;
        let outcomes =
            [("sent", &counts.sent), ("made", &counts.made), ("skipped", &counts.skipped)];
        for (outcome, count) in outcomes {
            let labels: Labels = vec![("outcome", outcome.into())];
            files.get_or_create(&labels).inc_by(count.load(Ordering::Relaxed));
        }
    }

    fn of_webhooks(&mut self, webhooks: &[Figures]) {
        let waiting =
            self.family("webhook_waiting", "Events that a webhook is still to take", None);
        let deliveries = Family::<Labels, Counter>::default();
        let help = "Since the start: events `delivered`, `given_up` and `dropped`, and attempts that \
                    `failed`";
        self.0.register("webhook_deliveries", help, deliveries.clone());
        for one in webhooks {
            let labels: Labels = vec![("webhook", one.name.clone())];
            waiting.get_or_create(&labels).inc_by(one.waiting as f64);
            let outcomes = [
                ("delivered", one.counts.delivered),
                ("failed", one.counts.failed),
                ("given_up", one.counts.given_up),
                ("dropped", one.counts.dropped),
            ];
            for (outcome, count) in outcomes {
                let labels = [labels.clone(), vec![("outcome", outcome.into())]].concat();
                deliveries.get_or_create(&labels).inc_by(count);
            }
        }
    }

    fn of_farm(&mut self, farm: &FarmView) {
        let about = vec![("farm", farm.farm.to_string()), ("version", farm.software.clone())];
        self.family("build_info", "What runs, always 1", None).get_or_create(&about).set(1.0);
        self.one("epoch", "Starts of the coordinator", farm.epoch.0 as f64);
        let full = if farm.storage_full.is_some() { 1.0 } else { 0.0 };
        self.one("storage_full", "1 while the farm has no room for files", full);
        let help = "Frames that the farm renders in a minute";
        self.one("frames_per_minute", help, farm.frames_per_minute.into());
        let help = "To the end of all open jobs at that rate; not there while nobody knows";
        let left = self.family("left", help, Some(Unit::Seconds));
        if let Some(seconds) = farm.seconds_left {
            left.get_or_create(&Labels::new()).set(seconds.into());
        }
    }

    fn of_jobs(&mut self, jobs: &[JobView]) {
        let states = [
            JobState::Queued,
            JobState::Active,
            JobState::Paused,
            JobState::Completed,
            JobState::Canceled,
            JobState::Failed,
        ];
        self.count("jobs", "Jobs", &states, jobs.iter().map(|job| job.state));
        let tasks = self.family("tasks", "Tasks of all jobs that are remembered", None);
        for job in jobs {
            let TaskCounts { waiting, ready, running, completed, failed, canceled, total: _ } =
                job.progress.tasks;
            let by_state = [
                ("waiting", waiting),
                ("ready", ready),
                ("running", running),
                ("completed", completed),
                ("failed", failed),
                ("canceled", canceled),
            ];
            for (state, count) in by_state {
                tasks.get_or_create(&vec![("state", state.into())]).inc_by(count as f64);
            }
        }
    }

    fn of_what_is_done(&mut self, done: Done) {
        self.risen("frames_completed", "Frames since the start", None, done.frames);
        self.risen("outputs", "Files committed since the start", None, done.outputs);
        let help = "Of these files together";
        self.risen("outputs", help, Some(Unit::Bytes), done.output_bytes);
    }

    fn of_hosts(&mut self, agents: &[AgentView]) {
        let cpu =
            self.family("host_cpu", "Of a host's cores, in use", Some(Unit::Other("ratio".into())));
        let help = "RAM that a host has left";
        let memory = self.family("host_memory_available", help, Some(Unit::Bytes));
        let tasks = self.family("agent_tasks", "Tasks that an agent holds", None);
        for agent in agents {
            let labels = vec![("agent", agent.name.to_string())];
            cpu.get_or_create(&labels).set(f64::from(agent.load.cpu_percent) / 100.0);
            let available = agent.load.memory_available_mib as f64 * MIB;
            memory.get_or_create(&labels).set(available);
            tasks.get_or_create(&labels).set(agent.tasks.into());
        }
    }

    fn of_devices(&mut self, agents: &[AgentView]) {
        let help = "Of a device: `total`, `used` by everybody, by `others`, and `reserved`";
        let memory = self.family("device_memory", help, Some(Unit::Bytes));
        let instances = self.family("device_instances", "Blenders that live on it", None);
        let slots = self.family("device_slots", "Blenders that it runs at once for now", None);
        let lost = self.family("device_lost", "1 while nothing can render on it", None);
        let help = "Of its computing units, in use";
        let busy = self.family("device_utilisation", help, Some(Unit::Other("ratio".into())));
        let heat = self.family("device_temperature", "How hot it is", Some(Unit::Celsius));
        let watts = self.family("device_power", "What it draws", Some(Unit::Other("watts".into())));
        for (agent, device, state) in devices(agents) {
            let labels: Labels = vec![
                ("agent", agent.name.to_string()),
                ("device", device.id.to_string()),
                ("name", device.name.to_string()),
            ];
            let uses = [
                ("total", state.total_mib),
                ("used", state.used_mib),
                ("others", state.others_mib),
                ("reserved", state.reserved_mib),
            ];
            for (what, mib) in uses {
                let labels = [labels.clone(), vec![("use", what.into())]].concat();
                memory.get_or_create(&labels).set(mib as f64 * MIB);
            }
            instances.get_or_create(&labels).set(state.instances.into());
            slots.get_or_create(&labels).set(state.slots.into());
            lost.get_or_create(&labels).set(if state.problem.is_some() { 1.0 } else { 0.0 });
            if let Some(percent) = state.utilisation_percent {
                busy.get_or_create(&labels).set(f64::from(percent) / 100.0);
            }
            if let Some(celsius) = state.temperature_c {
                heat.get_or_create(&labels).set(celsius.into());
            }
            if let Some(power) = state.power_w {
                watts.get_or_create(&labels).set(power.into());
            }
        }
    }
}

/// Devices that have told how they are.
fn devices(agents: &[AgentView]) -> impl Iterator<Item = (&AgentView, &DeviceInfo, &DeviceState)> {
    agents.iter().flat_map(|agent| {
        let told = agent.devices.iter().zip(&agent.device_states);
        told.map(move |(device, state)| (agent, device, state))
    })
}
