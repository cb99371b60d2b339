//! How many instances run, what each may have, and who gives way.

use super::session::assign_session;
use super::*;
use crate::gpu::Reading;
use grange_protocol::footprint::{Expected, MeasuredEnd, Measurement, Memory};

const TOTAL_MIB: u64 = 24_000;

impl Story {
    fn auto(kind: DeviceKind, cores: u16) -> Self {
        Self::on(Setup {
            name: label("d"),
            kind,
            memory_mib: TOTAL_MIB,
            slots: 1,
            instances: Instances::Auto,
            cores,
        })
    }

    /// A GPU with one instance of scene `x` that takes so much, in its first frame; more to come.
    fn rendering(mib: u32) -> Self {
        let mut story = Self::auto(DeviceKind::Cuda, 0);
        for number in 1..=100 {
            story.after(many_more(assign(number, "x", "1")));
        }
        story.after(Event::SceneReady(scene("x")));
        story.after(up(1));
        assert_eq!(story.after(opened(1)), ["render 1 of task 1 in 1"]);
        story.uses(1, mib);
        story
    }

    /// The driver says what instances take, and what others do.
    fn reads(&mut self, ours: &[(u32, u32)], others_mib: u64) -> Vec<String> {
        let used: u64 = ours.iter().map(|(_, mib)| u64::from(*mib)).sum();
        let processes = ours.iter().map(|(pid, mib)| (*pid, Some(*mib))).collect();
        let reading = Reading {
            total_mib: TOTAL_MIB,
            used_mib: used + others_mib,
            processes,
            ..Reading::default()
        };
        self.now = self.now + 1_000;
        self.after(Event::DevicesRead(vec![Ok(reading)]))
    }

    fn uses(&mut self, instance: u32, mib: u32) {
        self.reads(&[(instance, mib)], 0);
    }

    /// Each instance that renders ends its frame after so many milliseconds, the first one first.
    fn frame_ends(&mut self, millis: u64) -> Vec<String> {
        self.now = self.now + millis;
        let rendering = |(_, one): &(&InstanceId, &Instance)| {
            matches!(one.activity, Activity::Rendering { .. })
        };
        let oldest = self.core.instances.iter().filter(rendering);
        let (id, _) = oldest.min_by_key(|(_, one)| one.frame_began).expect("one renders");
        let id = id.0;
        self.after(rendered(id, 1))
    }

    fn starts_whatever_it_wants(&mut self, told: &[String]) {
        for line in told {
            if let Some(rest) = line.strip_prefix("start ") {
                let number = rest.split(' ').next().unwrap().parse().unwrap();
                self.after(up(number));
                self.after(opened(number));
            }
        }
    }

    fn count(&self) -> u16 {
        self.core.devices[0].count()
    }

    fn reserved(&self) -> Vec<u32> {
        self.core.instances.values().map(|one| one.reserved.device_mib).collect()
    }
}

/// The coordinator says that much more of the same waits.
fn many_more(event: Event) -> Event {
    match event {
        Event::Assigned(mut assignment) => {
            assignment.more = 1_000;
            Event::Assigned(assignment)
        }
        other => other,
    }
}

fn expecting(event: Event, plain_mib: u32) -> Event {
    match event {
        Event::Assigned(mut assignment) => {
            let plain = Memory { device_mib: plain_mib, ram_mib: 100 };
            assignment.expected = Expected { plain: Some(plain), ..Expected::default() };
            Event::Assigned(assignment)
        }
        other => other,
    }
}

fn gone_for_want_of_memory(instance: u32) -> Event {
    let failure = Failure::new(FailureKind::OutOfMemory, "killed");
    Event::InstanceGone { instance: InstanceId(instance), failure, log: String::new() }
}

fn told_of_memory(core: &mut Core) -> Vec<Measurement> {
    let mut measured = Vec::new();
    while let Some(command) = core.next_command() {
        if let Command::Tell(FromAgent::Measured(measurement)) = command {
            measured.push(measurement);
        }
    }
    measured
}

#[test]
fn an_unmeasured_shot_gets_all_of_the_device_and_then_what_it_takes() {
    let mut story = Story::rendering(3_000);
    assert_eq!(story.count(), 1);
    let all = (TOTAL_MIB - TOTAL_MIB / 64) as u32;
    assert_eq!(story.reserved(), [all]);
    assert_eq!(story.frame_ends(2_000), ["store 1 file of task 1", "render 1 of task 2 in 1"]);
    // 3,300 without keeping data, and surely not more than 2.5 times that with it.
    assert_eq!(story.reserved(), [8_250]);
}

#[test]
fn a_frame_that_is_over_before_anybody_looks_measures_nothing() {
    let mut story = Story::auto(DeviceKind::Cuda, 0);
    for number in 1..=100 {
        story.after(many_more(assign(number, "x", "1")));
    }
    story.after(Event::SceneReady(scene("x")));
    story.after(up(1));
    story.after(opened(1));
    for _ in 0..20 {
        story.frame_ends(100);
    }
    assert_eq!((story.count(), story.core.instances.len()), (1, 1));
    story.uses(1, 3_000);
    for _ in 0..3 {
        story.frame_ends(100);
    }
    assert_eq!(story.count(), 2);
}

#[test]
fn more_are_started_while_that_brings_more_frames() {
    let mut story = Story::rendering(3_000);
    let mut told = Vec::new();
    for _ in 0..60 {
        // Half of a frame needs the GPU alone.
        let busy = story.core.instances.len() as u64;
        told = story.frame_ends(1_000.max(500 * busy) / busy);
        story.starts_whatever_it_wants(&told);
        let uses: Vec<(u32, u32)> = story.core.instances.keys().map(|id| (id.0, 3_000)).collect();
        let told = story.reads(&uses, 0);
        story.starts_whatever_it_wants(&told);
    }
    assert!((2..=3).contains(&story.count()), "{} instances, {told:?}", story.count());
    let staying = story.core.instances.values().filter(|one| !one.is_stopping()).count();
    assert_eq!(staying, usize::from(story.count()));
}

#[test]
fn what_others_use_is_not_given_and_idle_instances_give_way() {
    let mut story = Story::warm(2);
    story.after(stored(1));
    for _ in 0..3 {
        assert_eq!(story.reads(&[(1, 5_000)], 10_000), [""; 0]);
    }
    story.after(expecting(assign(2, "y", "1"), 20_000));
    // Not enough even without the idle one, which goes all the same.
    assert_eq!(story.after(Event::SceneReady(scene("y"))), ["quit 1"]);
    assert_eq!(story.after(gone(1)), ["release x"]);
    assert_eq!(story.reads(&[], 0), ["start 2 for y"]);
}

#[test]
fn what_cannot_start_here_is_given_back() {
    let mut story = Story::new(1);
    for _ in 0..3 {
        story.reads(&[], 20_000);
    }
    story.after(expecting(assign(1, "x", "1"), 10_000));
    assert_eq!(story.after(Event::SceneReady(scene("x"))), [""; 0]);
    let told: Vec<String> = (0..25).flat_map(|_| story.reads(&[], 20_000)).collect();
    assert_eq!(told, ["give back task 1", "release x"]);
}

#[test]
fn the_youngest_gives_way_and_its_task_begins_anew() {
    let mut story = Story::new(2);
    story.after(expecting(assign(1, "x", "1"), 10_000));
    story.after(expecting(assign(2, "x", "2"), 10_000));
    assert_eq!(story.after(Event::SceneReady(scene("x"))), ["start 1 for x", "start 2 for x"]);
    for number in [1, 2] {
        story.after(up(number));
        story.after(opened(number));
    }
    let ours = [(1, 9_000), (2, 9_000)];
    let told: Vec<String> = (0..8).flat_map(|_| story.reads(&ours, 10_000)).collect();
    assert_eq!(told, ["kill 2"]);
    assert_eq!(story.after(gone(2)), [""; 0], "there is no room for it");
    let told: Vec<String> = (0..4).flat_map(|_| story.reads(&[(1, 9_000)], 0)).collect();
    assert_eq!(told, ["start 3 for x"]);
}

#[test]
fn running_out_is_told_with_what_it_had_and_fewer_run() {
    let mut story = Story::new(2);
    story.after(expecting(assign(1, "x", "1"), 10_000));
    story.after(expecting(assign(2, "x", "2"), 10_000));
    story.after(Event::SceneReady(scene("x")));
    for number in [1, 2] {
        story.after(up(number));
        story.after(opened(number));
    }
    let failure = Failure::new(FailureKind::OutOfMemory, "System is out of GPU memory");
    story.core.handle(
        story.now,
        Event::RenderFailed { instance: InstanceId(2), failure, log: String::new() },
    );
    assert_eq!(told_of_memory(&mut story.core), [], "it is not known yet how much there was");
    let reading = Reading { total_mib: TOTAL_MIB, ..Reading::default() };
    story.core.handle(story.now + 1_000, Event::DevicesRead(vec![Ok(reading)]));
    let measured = told_of_memory(&mut story.core);
    let reserved = Memory { device_mib: 10_000, ram_mib: 100 };
    assert_eq!(measured.len(), 1);
    assert_eq!(measured[0].end, MeasuredEnd::OutOfMemory { reserved });
    assert_eq!(story.count(), 1);
    // The next one is given more than the one that failed had.
    let told = Expected { plain: Some(reserved), ..Expected::default() };
    let expected = story.core.devices[0].expects(scene("x"), &told);
    assert_eq!(expected.plain, Some(Memory { device_mib: 12_100, ram_mib: 121 }));
}

#[test]
fn data_is_kept_where_it_fits_beside_all_that_shall_run() {
    let mut story = Story::rendering(3_000);
    story.frame_ends(2_000);
    let kept =
        |story: &Story| story.core.instances.values().map(|one| one.kept).collect::<Vec<_>>();
    assert_eq!(kept(&story), [true]);
    let mut large = Story::rendering(15_000);
    large.frame_ends(2_000);
    assert_eq!(kept(&large), [false], "37 GiB would not fit");
    assert_eq!(large.reserved(), [16_500]);
}

#[test]
fn instances_on_the_cpu_share_its_cores() {
    let instances = Instances::Fixed(3.try_into().unwrap());
    let mut story = Story::on(Setup {
        name: label("d"),
        kind: DeviceKind::Cpu,
        memory_mib: TOTAL_MIB,
        slots: 3,
        instances,
        cores: 8,
    });
    for number in 1..=3 {
        story.after(expecting(assign(number, "x", "1"), 100));
    }
    story.after(Event::SceneReady(scene("x")));
    let shares: Vec<Vec<u16>> =
        (1..=3).map(|id| story.core.share_of_cores(InstanceId(id)).unwrap()).collect();
    assert_eq!(shares, [vec![0, 1], vec![2, 3, 4], vec![5, 6, 7]]);
}

#[test]
fn an_instance_is_replaced_when_it_has_served_its_time() {
    let mut story = Story::warm(1);
    story.core.patience.frames_per_instance = 3;
    story.after(assign(2, "x", "1-2"));
    assert_eq!(story.after(rendered(1, 1)), ["render 2 of task 2 in 1", "store 1 file of task 2"]);
    assert_eq!(story.after(rendered(1, 2)), ["quit 1", "store 1 file of task 2"]);
    story.after(assign(3, "x", "1"));
    assert_eq!(story.after(gone(1)), ["start 2 for x"]);
}

#[test]
fn instances_are_not_shared_between_submitters() {
    let mut story = Story::warm(1);
    story.after(stored(1));
    let of_another = match assign(2, "x", "2") {
        Event::Assigned(assignment) => Event::Assigned(Box::new(Assignment {
            submitter: "bob".parse().unwrap(),
            ..*assignment
        })),
        other => other,
    };
    assert_eq!(story.after(of_another), ["quit 1"]);
    assert_eq!(story.after(gone(1)), ["start 2 for x"]);
}

#[test]
fn a_session_gives_way_for_memory_that_is_taken_and_not_for_what_was_set_aside() {
    let mut story = Story::auto(DeviceKind::Cuda, 0);
    for (number, name) in [(1, "x"), (2, "y")] {
        story.after(assign_session(number, name));
        story.after(Event::SceneReady(scene(name)));
        story.after(up(number as u32));
        story.after(opened(number as u32));
    }
    assert_eq!(story.core.instances.len(), 2);
    assert!(story.reserved().iter().sum::<u32>() > 14_000, "half of the device for each");
    let small = [(1, 1_000), (2, 1_000)];
    let told: Vec<String> = (0..12).flat_map(|_| story.reads(&small, 10_000)).collect();
    assert_eq!(told, [""; 0], "both have what they need");
    let large = [(1, 9_000), (2, 9_000)];
    let told: Vec<String> = (0..12).flat_map(|_| story.reads(&large, 10_000)).collect();
    assert!(told[0].starts_with("tell session 2: over: the instance had to give way"), "{told:?}");
    assert!(!told.iter().any(|line| line.contains("session 1")), "{told:?}");
}

#[test]
fn instances_that_take_more_than_there_is_give_way_to_each_other() {
    let mut story = Story::new(2);
    story.after(expecting(assign(1, "x", "1"), 8_000));
    story.after(expecting(assign(2, "x", "2"), 8_000));
    story.after(Event::SceneReady(scene("x")));
    for number in [1, 2] {
        story.after(up(number));
        story.after(opened(number));
    }
    let told: Vec<String> =
        (0..5).flat_map(|_| story.reads(&[(1, 13_000), (2, 12_000)], 0)).collect();
    assert_eq!(told, ["kill 2"]);
}

#[test]
fn a_lost_device_says_so_and_gives_back_what_waits_for_it() {
    let mut story = Story::new(1);
    let lost = || Event::DevicesRead(vec![Err("GPU 0 has fallen off the bus".into())]);
    story.core.handle(story.now, lost());
    let mut said = Vec::new();
    while let Some(command) = story.core.next_command() {
        if let Command::Tell(FromAgent::Devices(states)) = command {
            said.extend(states.into_iter().filter_map(|state| state.problem));
        }
    }
    assert_eq!(said, ["GPU 0 has fallen off the bus"]);
    assert_eq!(story.count(), 0);
    story.after(assign(1, "x", "1"));
    assert_eq!(story.after(Event::SceneReady(scene("x"))), [""; 0]);
    assert_eq!(story.after(lost()), ["give back task 1", "release x"]);
    story.reads(&[], 0);
    assert_eq!(story.count(), 1);
}

#[test]
fn a_failure_of_the_host_holds_up_the_device_until_it_is_read_anew() {
    let mut story = Story::warm(1);
    story.after(assign(2, "x", "1"));
    story.after(assign(3, "x", "1"));
    let failed = Event::RenderFailed {
        instance: InstanceId(1),
        failure: Failure::new(FailureKind::Host, "no CUDA context"),
        log: String::new(),
    };
    assert_eq!(story.after(failed), ["task 2 failed: no CUDA context", "quit 1"]);
    assert_eq!(story.after(gone(1)), [""; 0], "it may be lost");
    assert_eq!(story.reads(&[], 0), ["start 2 for x"]);
}

#[test]
fn after_memory_ran_out_nothing_starts_until_it_is_known_who_has_it() {
    let mut story = Story::on(Setup {
        name: label("d"),
        kind: DeviceKind::Cuda,
        memory_mib: TOTAL_MIB,
        slots: 2,
        instances: Instances::Fixed(2.try_into().unwrap()),
        cores: 0,
    });
    for number in 1..=4 {
        story.after(expecting(assign(number, "x", "1"), 9_000));
    }
    story.after(Event::SceneReady(scene("x")));
    story.after(up(1));
    story.after(opened(1));
    story.after(up(2));
    story.reads(&[(1, 9_000)], 0);
    // Somebody took what the second one was to have.
    let failed = Event::RenderFailed {
        instance: InstanceId(2),
        failure: Failure::new(FailureKind::OutOfMemory, "System is out of GPU memory"),
        log: String::new(),
    };
    assert_eq!(story.after(failed), ["quit 2"]);
    assert_eq!(story.after(gone(2)), [""; 0]);
    assert_eq!(
        story.reads(&[(1, 9_000)], 14_000),
        ["task 2 failed: System is out of GPU memory"],
        "and nothing starts: one look is enough"
    );
    assert_eq!(story.frame_ends(2_000), ["store 1 file of task 1", "render 1 of task 3 in 1"]);
}

#[test]
fn a_lesson_says_no_more_than_there_was() {
    let mut story = Story::new(1);
    story.after(expecting(assign(1, "x", "1"), 20_000));
    story.after(Event::SceneReady(scene("x")));
    story.after(up(1));
    story.after(gone_for_want_of_memory(1));
    let used = Reading { total_mib: TOTAL_MIB, used_mib: 15_000, ..Reading::default() };
    story.core.handle(story.now + 1_000, Event::DevicesRead(vec![Ok(used)]));
    let measured = told_of_memory(&mut story.core);
    let reserved = Memory { device_mib: 8_625, ram_mib: 100 };
    assert_eq!(measured[0].end, MeasuredEnd::OutOfMemory { reserved });
}

#[test]
fn a_lesson_is_judged_also_if_nobody_looks() {
    let mut story = Story::new(1);
    story.after(assign(1, "x", "1"));
    story.after(Event::SceneReady(scene("x")));
    story.after(up(1));
    assert_eq!(story.after(gone_for_want_of_memory(1)), [""; 0]);
    assert_eq!(story.wait(4_000), ["task 1 failed: killed", "release x"]);
}

#[test]
fn a_lesson_is_not_set_aside_for_those_that_do_without_where_it_is_not_free() {
    let mut story = Story::on(Setup {
        name: label("d"),
        kind: DeviceKind::Cuda,
        memory_mib: TOTAL_MIB,
        slots: 3,
        instances: Instances::Fixed(3.try_into().unwrap()),
        cores: 0,
    });
    for number in 1..=6 {
        story.after(expecting(assign(number, "x", "1"), 7_000));
    }
    story.after(Event::SceneReady(scene("x")));
    for instance in 1..=3 {
        story.after(up(instance));
        story.after(opened(instance));
    }
    let failed = Event::RenderFailed {
        instance: InstanceId(3),
        failure: Failure::new(FailureKind::OutOfMemory, "System is out of GPU memory"),
        log: String::new(),
    };
    story.after(failed);
    story.after(gone(3));
    story.reads(&[(1, 6_000), (2, 6_000)], 0);
    for _ in 0..3 {
        story.reads(&[(1, 6_000), (2, 6_000)], 7_000);
    }
    story.frame_ends(2_000);
    // 7,700 and the margin would be 8,470 for each, and others leave 16,625.
    assert_eq!(story.reserved(), [8_470, 7_000]);
    story.frame_ends(2_000);
    assert_eq!(story.reserved(), [8_470, 8_155]);
}

#[test]
fn what_is_expected_to_need_more_than_there_is_gets_all_that_there_is() {
    let mut story = Story::auto(DeviceKind::Cuda, 0);
    story.reads(&[], 1_000);
    story.after(expecting(assign(1, "x", "1"), 30_000));
    assert_eq!(story.after(Event::SceneReady(scene("x"))), ["start 1 for x"]);
    assert_eq!(story.reserved(), [22_625]);
}

#[test]
fn what_ran_out_here_is_not_tried_again_until_the_coordinator_sends_it_again() {
    let mut story = Story::auto(DeviceKind::Cuda, 0);
    story.after(assign(1, "x", "1"));
    story.after(assign(2, "x", "1"));
    story.after(Event::SceneReady(scene("x")));
    story.after(up(1));
    story.after(opened(1));
    let failed = Event::RenderFailed {
        instance: InstanceId(1),
        failure: Failure::new(FailureKind::OutOfMemory, "System is out of GPU memory"),
        log: String::new(),
    };
    story.after(failed);
    story.after(gone(1));
    let mut told = Vec::new();
    for _ in 0..25 {
        told.extend(story.reads(&[], 0));
    }
    let failed = "task 1 failed: System is out of GPU memory";
    assert_eq!(told, [failed, "give back task 2", "release x"]);
    story.after(expecting(assign(3, "x", "1"), 20_000));
    assert_eq!(story.after(Event::SceneReady(scene("x"))), ["start 2 for x"]);
}
