//! What goes wrong, one thing at a time and often several at once.

use grange_protocol::file::{Blob, Output, OutputRole};
use grange_protocol::{AgentId, BlobHash, LeaseId, TaskRef};
use grange_scheduler::{Event, RequestId};
use uuid::Uuid;

use super::coordinator::Death;
use super::plan::label;
use super::{Ask, Next, World};

/// Somebody who may submit jobs, and tries to commit outputs.
pub(super) const SUBMITTER: u128 = 1 << 64;

impl World {
    pub(super) fn fault(&mut self) {
        if self.calm {
            return;
        }
        let pause_ms = self.plan.fault_every_ms;
        let pause_ms = self.random.between(pause_ms / 4, pause_ms * 2);
        self.at(pause_ms, Next::Fault);
        match self.random.below(100) {
            0..16 => self.hurt_coordinator(),
            16..30 => self.part_host(),
            30..38 => self.kill_host(),
            38..44 => self.drain_host(),
            44..50 => self.replace_link(),
            50..66 => self.change_devices(),
            66..72 => self.slow_host(),
            72..80 => self.return_tasks(),
            80..94 => self.forge_output(),
            _ => self.repeat_an_end(),
        }
    }

    /// Everything is as it should be from now on.
    pub(super) fn heal(&mut self) {
        self.calm = true;
        self.trace(|| "== nothing goes wrong any more".into());
        self.coordinator.death = None;
        self.coordinator.stalled_until_ms = 0;
        self.start_coordinator();
        for at in 0..self.hosts.len() {
            let info = self.hosts[at].hello.devices.clone();
            let host = &mut self.hosts[at];
            host.slowness_percent = 100;
            host.parted_until_ms = host.parted_until_ms.min(self.now_ms + 60_000);
            for (device, info) in host.devices.iter_mut().zip(info) {
                device.memory_mib = info.memory_mib;
                device.others_mib = 0;
                device.slots = info.slots;
                device.lost = false;
            }
            if host.draining {
                self.stop_host(at);
            }
            let life = self.hosts[at].life;
            if self.hosts[at].is_up {
                self.tell_devices(at);
            } else {
                let delay_ms = self.random.between(100, 30_000);
                self.at(delay_ms, Next::HostStarts { host: at, life });
            }
        }
        self.finish_what_clients_began();
    }

    fn hurt_coordinator(&mut self) {
        if !self.coordinator.is_up() {
            return;
        }
        match self.random.below(8) {
            0 => self.die_now(),
            1 => self.coordinator.death = Some(Death::BeforeFacts),
            2 => self.coordinator.death = Some(Death::BeforeCommands),
            3 => {
                let at = self.random.index(6);
                self.coordinator.death = Some(Death::AmongCommands(at));
            }
            4 => {
                self.count("coordinator: its disk does not write for a while");
                self.coordinator.stalled_until_ms =
                    self.now_ms + self.random.magnitude(100, 45_000);
            }
            5 => {
                self.count("coordinator: the wall clock jumps");
                let hours = self.random.between(1, 7_200_000) as i64;
                self.coordinator.clock_ms = hours - 3_600_000;
            }
            _ => {
                self.trace(|| "a snapshot".into());
                self.coordinator.take_snapshot();
            }
        }
    }

    fn some_host(&mut self) -> Option<usize> {
        let at = self.random.index(self.hosts.len());
        self.hosts[at].is_up.then_some(at)
    }

    /// The network: shorter than a connection's patience, or longer.
    fn part_host(&mut self) {
        let Some(at) = self.some_host() else { return };
        let away_ms = self.random.magnitude(100, 300_000);
        self.hosts[at].parted_until_ms = self.now_ms + away_ms;
        if away_ms < 8_000 {
            return self.count("network: messages are late");
        }
        self.count("network: a host is cut off");
        if let Some(link) = self.hosts[at].link {
            self.break_link(at, link);
        }
    }

    fn kill_host(&mut self) {
        let Some(at) = self.some_host() else { return };
        self.count("agent: killed");
        self.stop_host(at);
        let life = self.hosts[at].life;
        let away_ms = self.random.magnitude(1_000, 200_000);
        self.at(away_ms, Next::HostStarts { host: at, life });
    }

    fn drain_host(&mut self) {
        let Some(at) = self.some_host() else { return };
        self.count("agent: drains and starts again");
        self.hosts[at].draining = true;
        let (agent, life) = (self.hosts[at].id, self.hosts[at].life);
        self.tell(at, Event::AgentDraining { agent });
        self.give_back_the_rest(at);
        let patience_ms = self.random.between(1_000, 120_000);
        self.at(patience_ms, Next::Leave { host: at, life });
    }

    pub(super) fn leave(&mut self, at: usize, life: u32) {
        if self.hosts[at].life != life || !self.hosts[at].is_up {
            return;
        }
        self.stop_host(at);
        let life = self.hosts[at].life;
        let away_ms = self.random.magnitude(1_000, 60_000);
        self.at(away_ms, Next::HostStarts { host: at, life });
    }

    /// The agent connects anew before anybody has noticed that its connection is dead.
    fn replace_link(&mut self) {
        let Some(at) = self.some_host() else { return };
        let Some(link) = self.hosts[at].link else { return };
        self.count("network: an agent connects again at once");
        self.cut.insert(link);
        self.link_lost(at, link);
        self.at(20_000, Next::LinkDied { host: at, link });
    }

    fn change_devices(&mut self) {
        let Some(at) = self.some_host() else { return };
        self.count("device: others use it, it shrinks, it is lost");
        let device = self.random.index(self.hosts[at].devices.len());
        let info = &self.hosts[at].hello.devices[device];
        let (full_mib, all_slots) = (info.memory_mib, info.slots);
        let what = self.random.below(5);
        let amount = self.random.below(full_mib);
        let slots = self.random.below(4) as u16;
        let book = &mut self.hosts[at].devices[device];
        match what {
            0 => book.others_mib = amount,
            1 => book.lost = !book.lost,
            2 => book.slots = slots,
            3 => book.memory_mib = full_mib - amount / 2,
            _ => {
                book.memory_mib = full_mib;
                book.others_mib = 0;
                book.slots = all_slots;
                book.lost = false;
            }
        }
        self.tell_devices(at);
    }

    fn slow_host(&mut self) {
        let Some(at) = self.some_host() else { return };
        self.count("agent: slow, or fast again");
        self.hosts[at].slowness_percent = self.random.magnitude(50, 800);
    }

    fn return_tasks(&mut self) {
        let Some(at) = self.some_host() else { return };
        self.count("agent: returns what it has not begun");
        self.give_back_the_rest(at);
        // And what it never had.
        let lease = LeaseId { epoch: grange_protocol::Epoch(1), number: self.random.below(50) };
        self.give_back(at, vec![lease]);
    }

    /// An output that must not be committed, or must not be committed twice.
    fn forge_output(&mut self) {
        let held = self.oracle.some_lease(&mut self.random);
        let dead = self.oracle.some_dead_lease(&mut self.random);
        let other = self.random.index(self.hosts.len());
        let other = self.hosts[other].id;
        let hash = self.random.hash();
        let mut forge =
            |what: &'static str, agent, (lease, task): (LeaseId, TaskRef), name: String| {
                self.count(what);
                let output = Output {
                    name: label(&name),
                    role: OutputRole::Frame,
                    frame: 0,
                    blob: Blob { hash, len: 1 },
                };
                let event =
                    Event::OutputReceived { request: RequestId(0), agent, lease, task, output };
                self.ask(5, Ask::Forgery, event);
            };
        let nobody = AgentId(Uuid::from_u128(SUBMITTER));
        match (hash.as_bytes()[0] % 6, held, dead) {
            (0, Some((lease, task, holder)), _) if holder != other => {
                forge(
                    "output: by an agent that has no lease",
                    other,
                    (lease, task),
                    "forged".into(),
                );
            }
            (1, Some((lease, task, _)), _) => {
                forge(
                    "output: by somebody who is no agent",
                    nobody,
                    (lease, task),
                    "forged".into(),
                );
            }
            (2, Some((lease, task, holder)), _) => {
                let other_task =
                    TaskRef { task: grange_protocol::TaskIndex(task.task.0 + 1), ..task };
                let what = "output: for another task than its lease's";
                forge(what, holder, (lease, other_task), "forged".into());
            }
            (3, Some((lease, task, holder)), _) => {
                let Some(name) = self.oracle.some_name(task.job, hash.as_bytes()[1]) else {
                    return;
                };
                self.count("output: other bytes under a committed name");
                let output = Output {
                    name,
                    role: OutputRole::Frame,
                    frame: 0,
                    blob: Blob { hash: BlobHash::of(b"other"), len: 5 },
                };
                let request = RequestId(0);
                let agent = holder;
                let event = Event::OutputReceived { request, agent, lease, task, output };
                self.ask(5, Ask::Forgery, event);
            }
            (_, _, Some((lease, task, agent))) => {
                forge("output: under a stale lease", agent, (lease, task), "forged".into());
            }
            _ => {}
        }
    }

    /// Tells the end of an attempt that ended long ago, or that somebody else has.
    fn repeat_an_end(&mut self) {
        let Some(at) = self.some_host() else { return };
        let Some((lease, task, _)) = self.oracle.some_dead_lease(&mut self.random) else { return };
        self.count("agent: tells an end that is settled");
        let agent = self.hosts[at].id;
        let outcome = grange_protocol::agent::Outcome::Canceled;
        self.tell(at, Event::Ended { agent, lease, task, outcome });
    }
}
