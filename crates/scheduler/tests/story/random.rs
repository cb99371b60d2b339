//! Farms that do anything at all in any order. Whatever happens, the invariants hold, replay gives
//! the same state, and when the trouble stops every job ends.

use grange_protocol::agent::FailureKind;
use grange_protocol::agent::Outcome;
use grange_protocol::client::JobAction;
use grange_protocol::footprint::{DeviceState, MeasuredEnd, Measurement, Memory};
use grange_protocol::{LeaseId, TaskRef};
use grange_scheduler::Event;
use proptest::prelude::*;

use crate::farm::{Farm, agent, animation, frames, hello, label, noops};

const AGENTS: [char; 4] = ['A', 'B', 'C', 'D'];

#[derive(Clone, Debug)]
enum Deed {
    Join(usize, u16, u8),
    Gone(usize),
    Drain(usize),
    Submit(u8, u32, u8),
    Act(u32, u8),
    /// End the n-th lease somehow.
    End(usize, u8),
    Return(usize),
    /// Tell of all devices: total, others, slots.
    Devices(usize, u64, u64, u16),
    /// The n-th lease was measured; or ran out of memory.
    Measure(usize, u32, bool),
    Restart,
    Wait(u64),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0..4usize, 1..4u16, 0..3u8).prop_map(|(a, s, h)| Deed::Join(a, s, h)),
        1 => (0..4usize).prop_map(Deed::Gone),
        1 => (0..4usize).prop_map(Deed::Drain),
        3 => (0..3u8, 1..12u32, 40..60u8).prop_map(|(k, n, p)| Deed::Submit(k, n, p)),
        2 => (1..6u32, 0..5u8).prop_map(|(j, a)| Deed::Act(j, a)),
        20 => (0..16usize, 0..11u8).prop_map(|(l, o)| Deed::End(l, o)),
        2 => (0..16usize).prop_map(Deed::Return),
        2 => (0..4usize, 500..3_000u64, 0..3_000u64, 0..5u16)
            .prop_map(|(a, t, o, s)| Deed::Devices(a, t, o, s)),
        4 => (0..16usize, 1..3_000u32, any::<bool>()).prop_map(|(l, m, o)| Deed::Measure(l, m, o)),
        1 => Just(Deed::Restart),
        3 => (0..40_000u64).prop_map(Deed::Wait),
    ]
}

/// Leases that agents believe they hold, which a restart of the coordinator does not change.
type Held = Vec<(LeaseId, TaskRef, char)>;

fn leases(farm: &Farm) -> Held {
    let letter = |id| AGENTS.into_iter().find(|name| agent(*name) == id).unwrap();
    farm.core.leases().iter().map(|(id, lease)| (id, lease.task, letter(lease.agent))).collect()
}

fn end(farm: &mut Farm, (lease, task, name): (LeaseId, TaskRef, char), how: u8) {
    let at = task.to_string();
    let good = farm.core.check_lease(agent(name), lease, task).is_ok();
    match how {
        0..6 if good => drop(farm.completes(name, &at).whatever()),
        6 if good => drop(farm.fails(name, &at, FailureKind::Crash).whatever()),
        7 if good => drop(farm.fails(name, &at, FailureKind::Scene).whatever()),
        8 if good => drop(farm.fails(name, &at, FailureKind::Host).whatever()),
        9 if good => drop(farm.fails(name, &at, FailureKind::OutOfMemory).whatever()),
        _ => drop(farm.ends_lease(name, lease, &at, Outcome::Canceled).whatever()),
    }
}

fn perform(farm: &mut Farm, deed: Deed) {
    match deed {
        Deed::Join(at, slots, ahead) => {
            let mut hello = hello(AGENTS[at], slots);
            hello.ahead = ahead;
            drop(farm.join_as(hello).whatever());
        }
        Deed::Gone(at) => drop(farm.gone(AGENTS[at]).whatever()),
        Deed::Drain(at) => {
            let agent = agent(AGENTS[at]);
            drop(farm.after(Event::AgentDraining { agent }).whatever());
        }
        Deed::Submit(kind, tasks, priority) => {
            let mut spec = match kind {
                0 => noops(tasks),
                1 => frames(&format!("scene {tasks}"), tasks as i32),
                _ => animation("scene", tasks as i32),
            };
            spec.priority = label(&priority.to_string());
            drop(farm.submit(spec).whatever());
        }
        Deed::Act(job, action) => {
            let action = match action {
                0 => JobAction::Cancel,
                1 => JobAction::Pause,
                2 => JobAction::Resume,
                3 => JobAction::Retry,
                _ => JobAction::SetPriority(label("90")),
            };
            drop(farm.act(job, action).whatever());
        }
        Deed::End(at, how) => {
            let leases = leases(farm);
            if let Some(lease) = leases.get(at % leases.len().max(1)) {
                end(farm, *lease, how);
            }
        }
        Deed::Return(at) => {
            let leases = leases(farm);
            if let Some((lease, _, name)) = leases.get(at % leases.len().max(1)) {
                let event = Event::Returned { agent: agent(*name), leases: vec![*lease] };
                drop(farm.after(event).whatever());
            }
        }
        Deed::Devices(at, total_mib, others_mib, slots) => {
            let state = DeviceState { total_mib, others_mib, slots, ..DeviceState::default() };
            let agent = agent(AGENTS[at]);
            drop(farm.after(Event::DevicesTold { agent, devices: vec![state] }).whatever());
        }
        Deed::Measure(at, mib, ran_out) => {
            let leases = leases(farm);
            if let Some((lease, task, name)) = leases.get(at % leases.len().max(1)) {
                let peak = Memory { device_mib: mib, ram_mib: mib };
                let end = if ran_out {
                    MeasuredEnd::OutOfMemory { reserved: peak }
                } else {
                    MeasuredEnd::Rendered { frame_ms: 10, beside: 1 }
                };
                let measurement = Measurement {
                    lease: *lease,
                    task: *task,
                    device: 0,
                    kept: ran_out,
                    pixels: u64::from(mib),
                    peak,
                    load_ms: None,
                    end,
                };
                drop(farm.after(Event::Measured { agent: agent(*name), measurement }).whatever());
            }
        }
        Deed::Restart => {
            let held = leases(farm);
            farm.restart();
            for name in AGENTS {
                let mine: Vec<_> =
                    held.iter().filter(|(_, _, n)| *n == name).map(|(l, t, _)| (*l, *t)).collect();
                if !mine.is_empty() {
                    drop(farm.rejoin(name, &mine).whatever());
                }
            }
        }
        Deed::Wait(millis) => drop(farm.wait(millis).whatever()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens_the_farm_stays_sane_and_every_job_ends(
        deeds in proptest::collection::vec(deed(), 1..120),
    ) {
        let mut farm = Farm::new();
        for deed in deeds {
            perform(&mut farm, deed);
        }
        // The trouble stops: one good agent, nothing paused, every attempt completes.
        let mut large = hello('A', 2);
        large.devices[0].memory_mib = 1 << 40;
        drop(farm.join_as(large).whatever());
        drop(farm.wait(60_000).whatever());
        for job in 1..=farm.core.state().jobs.len() as u32 {
            drop(farm.act(job, JobAction::Resume).whatever());
            // Unblocks agents that failed it.
            drop(farm.act(job, JobAction::Retry).whatever());
        }
        for _ in 0..2_000 {
            match leases(&farm).first() {
                Some(lease) => end(&mut farm, *lease, 0),
                None => drop(farm.wait(1_000).whatever()),
            }
            if farm.core.state().jobs.values().all(|job| job.phase.is_final()) {
                break;
            }
        }
        for (id, job) in &farm.core.state().jobs {
            prop_assert!(
                job.phase.is_final(),
                "job {} never ends: {:?}, {:?}", id, job.phase, farm.core.why_waiting(*id)
            );
        }
        farm.restart();
    }
}
