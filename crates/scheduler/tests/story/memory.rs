//! Shots that need memory, devices that have some.

use grange_protocol::agent::{DeviceInfo, DeviceKind, FailureKind};
use grange_protocol::footprint::{DeviceState, MeasuredEnd, Measurement, Memory};
use grange_protocol::job::{DeviceRequest, Work};
use grange_protocol::view::{JobState, TaskState};
use grange_protocol::{AgentId, JobId, JobSpec, Millis};
use grange_scheduler::Event;

use crate::farm::{Farm, Told, agent, frames, hello, label, noops, task};

const PIXELS: u64 = 1920 * 1080;

/// A host with GPUs of these sizes in MiB, each for so many instances, and its CPU.
fn gpus(name: char, sizes_mib: &[u64], slots: u16) -> grange_protocol::agent::AgentHello {
    let mut hello = hello(name, 1);
    let gpu = |mib: &u64| DeviceInfo {
        id: label(&format!("GPU-{name}{mib}")),
        name: label("GPU"),
        kind: DeviceKind::Cuda,
        memory_mib: *mib,
        slots,
        driver: label("550"),
    };
    let cpu = DeviceInfo { memory_mib: 100_000, ..hello.devices.remove(0) };
    hello.devices = sizes_mib.iter().map(gpu).chain([cpu]).collect();
    hello
}

fn state(total_mib: u64, others_mib: u64, slots: u16) -> DeviceState {
    DeviceState { total_mib, others_mib, slots, ..DeviceState::default() }
}

fn on(device: DeviceRequest, mut spec: JobSpec) -> JobSpec {
    if let Work::Render(render) = &mut spec.steps[0].work {
        render.settings.device = device;
    }
    spec
}

impl Farm {
    fn tells(&mut self, name: char, devices: &[DeviceState]) -> Told {
        self.after(Event::DevicesTold { agent: agent(name), devices: devices.to_vec() })
    }

    fn measures(&mut self, name: char, at: &str, mib: u32) -> Told {
        let end = MeasuredEnd::Rendered { frame_ms: 1000, beside: 1 };
        self.reports(name, at, mib, end)
    }

    fn reports(&mut self, name: char, at: &str, mib: u32, end: MeasuredEnd) -> Told {
        self.reports_all(name, at, memory(mib), end)
    }

    fn reports_all(&mut self, name: char, at: &str, peak: Memory, end: MeasuredEnd) -> Told {
        let lease = self.lease(at);
        let device = self.core.leases().get(lease).unwrap().device;
        let measurement = Measurement {
            lease,
            task: task(at),
            device,
            kept: false,
            pixels: PIXELS,
            peak,
            load_ms: Some(500),
            end,
        };
        self.after(Event::Measured { agent: agent(name), measurement })
    }

    /// The frame took so much of the host's memory beside that of its GPU.
    fn measures_ram(&mut self, name: char, at: &str, ram_mib: u32) -> Told {
        let end = MeasuredEnd::Rendered { frame_ms: 1000, beside: 1 };
        self.reports_all(name, at, Memory { device_mib: 5_000, ram_mib }, end)
    }

    /// Renders frame 0 of a job alone and measures it, so that the farm knows its shots.
    fn knows(&mut self, name: char, job: u32, mib: u32) {
        let at = format!("{job}/0");
        self.measures(name, &at, mib).whatever();
        self.completes(name, &at).whatever();
    }

    /// The device that a task runs on.
    fn place(&self, at: &str) -> (AgentId, u16) {
        let lease = self.core.leases().get(self.lease(at)).unwrap();
        (lease.agent, lease.device)
    }
}

fn memory(mib: u32) -> Memory {
    Memory { device_mib: mib, ram_mib: 100 }
}

#[test]
fn a_shot_that_nobody_has_measured_gets_a_device_for_itself() {
    let mut farm = Farm::new();
    farm.join_as(gpus('A', &[24_000], 1)).whatever();
    farm.submit(frames("x", 9)).expects(["Submitted(JobId(1))", "A gets 1/0/0"]);
    farm.measures('A', "1/0", 5_000).expects_nothing();
    // The agent found that more are faster: 5.5 GiB each with the margin.
    farm.tells('A', &[state(24_000, 0, 8), state(100_000, 0, 1)]).expects([
        "A gets 1/0/1",
        "A gets 1/0/2",
        "A gets 1/0/3",
    ]);
}

#[test]
fn a_number_that_was_typed_is_the_first_guess() {
    let mut farm = Farm::new();
    farm.join_as(gpus('A', &[24_000], 3)).whatever();
    farm.submit(frames("x", 9)).expects([
        "Submitted(JobId(1))",
        "A gets 1/0/0",
        "A gets 1/0/1",
        "A gets 1/0/2",
    ]);
}

#[test]
fn a_small_shot_leaves_the_large_device_to_a_large_one() {
    let mut farm = Farm::new();
    farm.join_as(gpus('A', &[48_000], 1)).whatever();
    farm.submit(frames("small", 2)).whatever();
    farm.knows('A', 1, 4_000);
    farm.completes('A', "1/1").whatever();
    farm.submit(frames("large", 2)).whatever();
    farm.knows('A', 2, 30_000);
    farm.completes('A', "2/1").whatever();
    farm.join_as(gpus('B', &[8_000, 24_000], 1)).whatever();
    farm.submit(frames("small", 2)).expects([
        "Submitted(JobId(3))",
        "B gets 3/0/0",
        "B gets 3/0/1",
    ]);
    assert_eq!([farm.place("3/0").1, farm.place("3/1").1], [0, 1]);
    farm.submit(frames("large", 1)).expects(["Submitted(JobId(4))", "A gets 4/0/0"]);
}

#[test]
fn what_others_use_is_not_given_away() {
    let mut farm = Farm::new();
    farm.join_as(gpus('A', &[24_000], 4)).whatever();
    farm.submit(frames("x", 9)).whatever();
    farm.knows('A', 1, 5_000);
    for at in ["1/1", "1/2", "1/3"] {
        farm.completes('A', at).whatever();
    }
    // Four more have taken their places by now.
    farm.tells('A', &[state(24_000, 13_000, 4), state(100_000, 0, 1)]).expects_nothing();
    farm.completes('A', "1/4").expects(["A may forget"]);
    farm.completes('A', "1/5").expects(["A may forget"]);
    farm.completes('A', "1/6").expects(["A may forget", "A gets 1/0/8"]);
    farm.tells('A', &[state(24_000, 24_000, 4), state(100_000, 0, 1)]).expects_nothing();
    farm.completes('A', "1/7").expects(["A may forget"]);
    farm.completes('A', "1/8").expects(["A may forget"]);
    farm.submit(frames("x", 1)).expects(["Submitted(JobId(2))"]);
    assert_eq!(
        farm.core.why_waiting(JobId(2)).unwrap(),
        "it needs 5.4 GiB of memory, and other programs leave at most 0.0 GiB on the devices that \
         could render it"
    );
}

#[test]
fn running_out_of_memory_is_a_lesson_and_no_failure() {
    let mut farm = Farm::new();
    farm.join_as(gpus('A', &[8_000], 1)).whatever();
    farm.join_as(gpus('B', &[24_000], 1)).whatever();
    let mut spec = frames("x", 2);
    spec.policy.attempts_max = 1;
    // Nobody knows it, so it begins where most is free.
    farm.submit(spec).expects(["Submitted(JobId(1))", "B gets 1/0/0", "A gets 1/0/1"]);
    let end = MeasuredEnd::OutOfMemory { reserved: memory(8_000) };
    farm.reports('A', "1/1", 7_900, end).expects_nothing();
    // 8,000 and a quarter, and the margin: only B has that, and B is busy.
    farm.fails('A', "1/1", FailureKind::OutOfMemory).expects(["A may forget"]);
    assert_eq!(farm.task_state("1/1"), TaskState::Ready);
    farm.measures('B', "1/0", 11_000).expects_nothing();
    farm.completes('B', "1/0").expects(["B may forget", "B gets 1/0/1"]);
    farm.completes('B', "1/1").expects(["B may forget"]);
    assert_eq!(farm.job_state(1), JobState::Completed);
    farm.restart();
}

#[test]
fn a_shot_that_fits_nowhere_fails_with_the_numbers() {
    let mut farm = Farm::new();
    farm.join_as(gpus('A', &[24_576], 1)).whatever();
    farm.submit(frames("x", 1)).expects(["Submitted(JobId(1))", "A gets 1/0/0"]);
    let end = MeasuredEnd::OutOfMemory { reserved: memory(24_576) };
    farm.reports('A', "1/0", 24_000, end).expects_nothing();
    // Somebody else may have taken some of it unseen: once more.
    farm.fails('A', "1/0", FailureKind::OutOfMemory).expects(["A may forget", "A gets 1/0/0"]);
    farm.reports('A', "1/0", 24_000, end).expects_nothing();
    farm.fails('A', "1/0", FailureKind::OutOfMemory).expects(["A may forget"]);
    assert_eq!(farm.job_state(1), JobState::Failed);
    assert_eq!(
        farm.reason(1),
        "1 of 1 task failed (frame 1: it needs 29.9 GiB of memory, and the largest device \
         that could render it has 24.0 GiB: make the scene or the picture smaller, or add a larger \
         device)"
    );
    farm.restart();
}

#[test]
fn a_shot_that_was_rendered_is_not_given_up_because_somebody_took_its_memory() {
    let mut farm = Farm::new();
    farm.join_as(gpus('A', &[24_000], 1)).whatever();
    farm.submit(frames("x", 4)).expects(["Submitted(JobId(1))", "A gets 1/0/0"]);
    farm.measures('A', "1/0", 20_000).expects_nothing();
    farm.completes('A', "1/0").expects(["A may forget", "A gets 1/0/1"]);
    let end = MeasuredEnd::OutOfMemory { reserved: memory(22_000) };
    farm.reports('A', "1/1", 20_000, end).expects_nothing();
    // 27,500 is more than there is, but not proven: it gets all that there is.
    farm.fails('A', "1/1", FailureKind::OutOfMemory).expects(["A may forget", "A gets 1/0/1"]);
    for at in ["1/1", "1/2", "1/3"] {
        farm.measures('A', at, 20_000).expects_nothing();
        farm.completes('A', at).whatever();
    }
    assert_eq!(farm.job_state(1), JobState::Completed);
    farm.restart();
}

/// It ran out of less than other frames of it are known to take: nothing new.
#[test]
fn running_out_of_too_little_does_not_raise_what_is_known() {
    let mut farm = Farm::new();
    farm.join_as(gpus('A', &[4_000], 1)).whatever();
    farm.join_as(gpus('B', &[8_000], 1)).whatever();
    farm.submit(frames("x", 3)).expects(["Submitted(JobId(1))", "B gets 1/0/0", "A gets 1/0/1"]);
    farm.measures('B', "1/0", 7_000).expects_nothing();
    let end = MeasuredEnd::OutOfMemory { reserved: memory(4_000) };
    farm.reports('A', "1/1", 3_900, end).expects_nothing();
    farm.fails('A', "1/1", FailureKind::OutOfMemory).expects(["A may forget"]);
    for at in ["1/0", "1/1", "1/2"] {
        farm.completes('B', at).whatever();
    }
    assert_eq!(farm.job_state(1), JobState::Completed);
}

#[test]
fn running_out_without_a_measurement_is_bounded_too() {
    let mut farm = Farm::new();
    farm.join_as(gpus('A', &[24_000], 1)).whatever();
    farm.submit(frames("x", 1)).whatever();
    let mut times = 0;
    while farm.job_state(1) != JobState::Failed {
        farm.fails('A', "1/0", FailureKind::OutOfMemory).whatever();
        times += 1;
        assert!(times < 5);
    }
}

#[test]
fn small_shots_do_not_starve_a_large_one() {
    let mut farm = Farm::new();
    farm.join_as(gpus('A', &[24_000], 4)).whatever();
    farm.submit(frames("large", 1)).whatever();
    farm.knows('A', 1, 20_000);
    farm.submit(frames("small", 100)).whatever();
    farm.knows('A', 2, 4_000);
    farm.submit(frames("large", 1)).expects(["Submitted(JobId(3))"]);
    let mut ended = 0;
    let mut small_ends = |farm: &mut Farm| {
        ended += 1;
        farm.now = farm.now + 3_000;
        farm.completes('A', &format!("2/{ended}")).whatever()
    };
    assert_eq!(small_ends(&mut farm), ["A may forget", "A gets 2/0/5"], "only a small one fits");
    let told: Vec<String> = (0..7).flat_map(|_| small_ends(&mut farm)).collect();
    let assigned: Vec<&str> =
        told.iter().map(String::as_str).filter(|line| *line != "A may forget").collect();
    assert_eq!(assigned, ["A gets 2/0/6", "A gets 2/0/7", "A gets 2/0/8", "A gets 3/0/0"]);
}

#[test]
fn footprints_survive_a_restart() {
    let mut farm = Farm::new();
    farm.join_as(gpus('A', &[24_000], 1)).whatever();
    farm.submit(frames("x", 1)).whatever();
    farm.knows('A', 1, 5_000);
    farm.restart();
    farm.now = farm.now + 20_000;
    farm.join_as(gpus('A', &[24_000], 8)).whatever();
    farm.submit(frames("x", 9)).expects([
        "Submitted(JobId(2))",
        "A gets 2/0/0",
        "A gets 2/0/1",
        "A gets 2/0/2",
        "A gets 2/0/3",
    ]);
}

#[test]
fn a_hosts_ram_bounds_the_instances_of_its_gpus() {
    let mut farm = Farm::new();
    farm.join_as(gpus('A', &[24_000, 24_000], 8)).whatever();
    farm.submit(frames("x", 9)).whatever();
    farm.tells('A', &[state(24_000, 0, 1), state(24_000, 0, 0), state(250, 0, 1)]).whatever();
    farm.knows('A', 1, 1_000);
    let told = farm.tells('A', &[state(24_000, 0, 8), state(24_000, 0, 8), state(250, 0, 1)]);
    // 110 MiB of RAM each: two of them.
    assert_eq!(told.whatever().len(), 0, "those that were assigned before still hold it");
}

#[test]
fn the_cpu_of_a_host_with_gpus_renders_only_what_asks_for_it() {
    let mut farm = Farm::new();
    farm.join_as(gpus('A', &[24_000], 1)).whatever();
    farm.submit(frames("x", 2)).expects(["Submitted(JobId(1))", "A gets 1/0/0"]);
    assert_eq!(farm.place("1/0").1, 0);
    let told = farm.submit(on(DeviceRequest::Cpu, frames("x", 2)));
    told.expects(["Submitted(JobId(2))", "A gets 2/0/0"]);
    assert_eq!(farm.place("2/0").1, 1);
    farm.completes('A', "2/0").whatever();
    farm.completes('A', "2/1").whatever();
    farm.submit(noops(1)).expects(["Submitted(JobId(3))", "A gets 3/0/0"]);
    assert_eq!(farm.place("3/0").1, 1, "what does not render leaves the GPU alone");
    farm.submit(on(DeviceRequest::Hip, frames("x", 2))).expects([
        "no: `shot.blend` cannot be rendered: no agent that is online has a HIP device: start an \
         agent on a host that has one, or ask for another device",
    ]);
}

#[test]
fn a_lost_device_gets_nothing_and_the_others_go_on() {
    let mut farm = Farm::new();
    farm.join_as(gpus('A', &[24_000, 24_000], 1)).whatever();
    let lost = DeviceState { problem: Some("gone".into()), ..state(24_000, 0, 1) };
    farm.tells('A', &[lost, state(24_000, 0, 1), state(9_000, 0, 1)]).expects_nothing();
    farm.submit(frames("x", 5)).expects(["Submitted(JobId(1))", "A gets 1/0/0"]);
    assert_eq!(farm.place("1/0").1, 1);
    assert_eq!(farm.now, Millis(1_000_000));
}

#[test]
fn a_job_whose_devices_are_all_lost_says_so() {
    let mut farm = Farm::new();
    farm.join_as(gpus('A', &[24_000], 1)).whatever();
    let lost = DeviceState { problem: Some("gone".into()), ..state(24_000, 0, 0) };
    farm.tells('A', &[lost, state(9_000, 0, 1)]).expects_nothing();
    farm.submit(frames("x", 5)).expects(["Submitted(JobId(1))"]);
    assert_eq!(
        farm.core.why_waiting(JobId(1)).unwrap(),
        "no device that could render it works now: `grange agents --json` says why"
    );
}

#[test]
fn a_large_device_that_cannot_open_the_scene_keeps_no_shot_waiting() {
    let mut farm = Farm::new();
    farm.join_as(gpus('A', &[24_576], 1)).whatever();
    let mut useless = gpus('B', &[80_000], 1);
    useless.runtimes.iter_mut().for_each(|runtime| runtime.denoiser = false);
    farm.join_as(useless).whatever();
    let mut spec = frames("x", 1);
    if let Work::Render(render) = &mut spec.steps[0].work {
        render.needs.denoiser = true;
    }
    farm.submit(spec).expects(["Submitted(JobId(1))", "A gets 1/0/0"]);
    let end = MeasuredEnd::OutOfMemory { reserved: memory(24_576) };
    farm.reports('A', "1/0", 24_000, end).expects_nothing();
    farm.fails('A', "1/0", FailureKind::OutOfMemory).expects(["A may forget", "A gets 1/0/0"]);
    farm.reports('A', "1/0", 24_000, end).expects_nothing();
    farm.fails('A', "1/0", FailureKind::OutOfMemory).expects(["A may forget"]);
    assert_eq!(
        farm.reason(1),
        "1 of 1 task failed (frame 1: it needs 29.9 GiB of memory, and the largest device \
         that could render it has 24.0 GiB: make the scene or the picture smaller, or add a larger \
         device)"
    );
}

#[test]
fn an_agent_that_fails_a_job_still_gets_what_nobody_else_has_the_memory_for() {
    let mut farm = Farm::new();
    farm.join_as(gpus('A', &[80_000], 1)).whatever();
    let mut spec = frames("x", 3);
    spec.policy.agent_failures_max = 1;
    farm.submit(spec).whatever();
    farm.knows('A', 1, 50_000);
    farm.join_as(gpus('B', &[10_000], 1)).expects(["B is welcome"]);
    farm.fails('A', "1/1", FailureKind::Crash).expects(["A may forget", "A gets 1/0/1"]);
    farm.completes('A', "1/1").expects(["A may forget", "A gets 1/0/2"]);
    farm.completes('A', "1/2").expects(["A may forget"]);
    assert_eq!(farm.job_state(1), JobState::Completed);
}

fn with_ram(name: char, ram_mib: u64) -> grange_protocol::agent::AgentHello {
    let mut hello = gpus(name, &[24_000], 1);
    hello.devices.iter_mut().filter(|device| device.kind == DeviceKind::Cpu).for_each(|cpu| {
        cpu.memory_mib = ram_mib;
    });
    hello
}

#[test]
fn a_shot_that_no_host_has_the_ram_for_fails_with_the_numbers() {
    let mut farm = Farm::new();
    farm.join_as(with_ram('A', 131_072)).whatever();
    farm.submit(frames("x", 3)).expects(["Submitted(JobId(1))", "A gets 1/0/0"]);
    farm.measures_ram('A', "1/0", 61_440).expects_nothing();
    farm.completes('A', "1/0").expects(["A may forget", "A gets 1/0/1"]);
    farm.join_as(with_ram('B', 32_768)).expects(["B is welcome"]);
    farm.after(Event::AgentDraining { agent: agent('A') }).expects_nothing();
    farm.completes('A', "1/1").expects(["A may forget"]);
    assert_eq!(farm.job_state(1), JobState::Failed);
    assert_eq!(
        farm.reason(1),
        "1 of 3 tasks failed (frame 3: it needs 60.0 GiB of the host's memory beside that of a GPU, \
         and the largest host that could render it has 32.0 GiB: make the scene smaller, or add a \
         host with more)"
    );
    farm.restart();
}

#[test]
fn a_shot_that_takes_nearly_all_ram_of_a_host_is_not_kept_waiting_by_its_margin() {
    let mut farm = Farm::new();
    farm.join_as(with_ram('A', 64_000)).whatever();
    farm.submit(frames("x", 2)).expects(["Submitted(JobId(1))", "A gets 1/0/0"]);
    // 66,000 with the margin.
    farm.measures_ram('A', "1/0", 60_000).expects_nothing();
    farm.completes('A', "1/0").expects(["A may forget", "A gets 1/0/1"]);
    farm.completes('A', "1/1").expects(["A may forget"]);
    assert_eq!(farm.job_state(1), JobState::Completed);
}

#[test]
fn running_out_where_there_was_nothing_is_bounded_too() {
    let mut farm = Farm::new();
    farm.join_as(gpus('A', &[8_000], 2)).whatever();
    farm.submit(frames("x", 2)).expects(["Submitted(JobId(1))", "A gets 1/0/0", "A gets 1/0/1"]);
    let nothing = Memory { device_mib: 0, ram_mib: 100 };
    let mut times = 0;
    while farm.job_state(1) != JobState::Failed {
        for at in ["1/0", "1/1"] {
            if farm.task_state(at) == TaskState::Running {
                let end = MeasuredEnd::OutOfMemory { reserved: nothing };
                farm.reports_all('A', at, nothing, end).whatever();
                farm.fails('A', at, FailureKind::OutOfMemory).whatever();
            }
        }
        times += 1;
        assert!(times < 8, "it goes on for ever");
    }
}
