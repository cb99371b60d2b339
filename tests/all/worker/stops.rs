//! Renders that are stopped, or stop by themselves.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use grange_blender::instance::{ExitHow, InstanceEvent, Order};
use grange_blender::verify::verify;
use grange_protocol::agent::FailureKind;
use grange_protocol::job::RenderSettings;
use grange_protocol::shot::Shot;
use tempfile::TempDir;

use super::live::{Ended, Live, every_blender, shot};
use crate::runtimes::{blender, bpy_pythons};
use crate::support::scenes::scenes;
use crate::support::{eventually, signal};

/// A render that would take many seconds.
fn endless() -> Shot {
    Shot { samples: Some(50_000), ..shot("endless") }
}

impl Live {
    async fn slow(program: &Path) -> Self {
        Self::with(program, &scenes().join("slow.blend")).await
    }

    /// Waits until samples are taken.
    async fn under_way(&mut self) {
        loop {
            match self.event().await {
                InstanceEvent::Progress(progress) if progress.sample > 0 => return,
                InstanceEvent::Progress(_) => {}
                other => panic!("not expected now: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_render_is_stopped_in_its_middle_as_often_as_wished() {
    let mut live = Live::slow(&blender()).await;
    let settings = RenderSettings::default;
    let quick = Shot { samples: Some(2), ..shot("quick") };
    let before = live.picture(&quick, 1, settings()).await;
    for _ in 0..5 {
        let fine = RenderSettings { fine_progress: true, ..settings() };
        let render = live.order(&endless(), 1, fine);
        live.under_way().await;
        live.instance.send(Order::Cancel(render)).unwrap();
        let ended = live.end_of(render).await;
        assert!(matches!(ended, Ended::Canceled), "{ended:?}");
    }
    // One that waits for its turn never begins, and the one before it is none the worse.
    let first = live.order(&quick, 1, settings());
    let second = live.order(&endless(), 1, settings());
    live.instance.send(Order::Cancel(second)).unwrap();
    assert!(matches!(live.end_of(first).await, Ended::Rendered(_)));
    assert!(matches!(live.end_of(second).await, Ended::Canceled));
    assert!(live.picture(&quick, 1, settings()).await == before, "a stopped render left traces");
}

#[tokio::test]
async fn a_module_that_cannot_be_stopped_says_so_and_is_killed() {
    let (_, program) = bpy_pythons().pop().unwrap();
    let mut live = Live::slow(&program).await;
    let render = live.order(&endless(), 1, RenderSettings::default());
    live.under_way().await;
    live.instance.send(Order::Cancel(render)).unwrap();
    let ended = live.end_of(render).await;
    assert!(matches!(ended, Ended::CannotCancel), "{ended:?}");
    live.instance.kill();
    let Ended::Exited(exit) = live.end_of(render).await else { panic!("it lives on") };
    assert_eq!(exit.how, ExitHow::Asked);
}

#[tokio::test]
async fn a_crash_is_told_with_its_signal_and_a_hang_is_silence() {
    let mut live = Live::slow(&blender()).await;
    let fine = RenderSettings { fine_progress: true, ..RenderSettings::default() };
    let render = live.order(&endless(), 1, fine);
    live.under_way().await;
    let pid = live.instance.pid().unwrap();
    assert!(live.instance.memory_mib().unwrap() > 10);

    signal(pid, "STOP");
    eventually("it stands still", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().trim().starts_with('T').then_some(())
    });
    live.instance.send(Order::Ping).unwrap();
    let silent = tokio::time::timeout(Duration::from_secs(1), async {
        while live.event().await != InstanceEvent::Pong {}
    });
    assert!(silent.await.is_err(), "a stopped process answers");
    signal(pid, "CONT");
    while live.event().await != InstanceEvent::Pong {}

    signal(pid, "SEGV");
    let Ended::Exited(exit) = live.end_of(render).await else { panic!("it lives on") };
    assert_eq!(exit.to_string(), "Blender 3.4.1 crashed with SIGSEGV (11)");
    assert_eq!(exit.failure().kind, FailureKind::Crash);
}

#[tokio::test]
async fn a_blender_that_somebody_kills_has_not_run_out_of_memory() {
    let mut live = Live::slow(&blender()).await;
    let render = live.order(&endless(), 1, RenderSettings::default());
    signal(live.instance.pid().unwrap(), "KILL");
    let Ended::Exited(exit) = live.end_of(render).await else { panic!("it lives on") };
    assert_eq!(
        exit.to_string(),
        "Blender 3.4.1 was killed (SIGKILL), and not by the kernel for want of memory"
    );
    assert_eq!(exit.failure().kind, FailureKind::Crash);
    assert!(live.instance.pin_to_cores(&[0]).is_err(), "there is nothing left to pin");
}

#[tokio::test]
async fn a_blender_that_gets_no_memory_says_so_whatever_it_dies_of() {
    for program in every_blender() {
        let mut live = Live::with(&program, &scenes().join("huge.blend")).await;
        let pid = live.instance.pid().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
        let kib: u64 = size.split_whitespace().next().unwrap().parse().unwrap();
        let bytes = (kib << 10) + (300 << 20);
        let (limit, of) = (format!("--as={bytes}"), format!("--pid={pid}"));
        let limited = Command::new("prlimit").args([limit, of]).status().unwrap();
        assert!(limited.success());
        let render = live.order(&shot("huge"), 1, RenderSettings::default());
        let failure = match live.end_of(render).await {
            Ended::Exited(exit) => exit.failure(),
            Ended::Failed(failure) => failure,
            other => panic!("there was memory enough: {other:?}"),
        };
        let log = live.instance.take_log();
        assert_eq!(failure.kind, FailureKind::OutOfMemory, "{failure:?}: {log}");
    }
}

#[tokio::test]
async fn every_thread_of_a_blender_stays_on_the_cores_that_it_was_given() {
    for program in [blender(), bpy_pythons()[1].1.clone()] {
        let mut live = Live::slow(&program).await;
        let quick = Shot { samples: Some(2), ..shot("quick") };
        let before = live.picture(&quick, 1, RenderSettings::default()).await;
        let pid = live.instance.pid().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let own = allowed_cores(&status);
        let core = own.split([',', '-']).next().unwrap().to_owned();
        live.instance.pin_to_cores(&[core.parse().unwrap()]).unwrap();
        // Those that were there, and those that the next frame starts.
        let render = live.order(&endless(), 1, RenderSettings::default());
        let mut threads = 0;
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(100));
            for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
                let Ok(status) = std::fs::read_to_string(task.path().join("status")) else {
                    continue; // It has ended meanwhile.
                };
                assert_eq!(allowed_cores(&status), core);
                threads += 1;
            }
        }
        assert!(threads > 10, "{threads} threads are not enough to tell");
        live.instance.send(Order::Cancel(render)).unwrap();
        if live.runtime.can_stop {
            assert!(matches!(live.end_of(render).await, Ended::Canceled));
            let after = live.picture(&quick, 1, RenderSettings::default()).await;
            assert!(after == before, "fewer cores make another picture");
        }
    }
}

/// Out of the kernel's description of a process, as it writes them: `0-1,4`.
fn allowed_cores(status: &str) -> String {
    let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    cores.unwrap().trim().into()
}

#[tokio::test]
async fn on_a_full_disk_nothing_broken_passes_for_a_picture() {
    let disk = SmallDisk::mount();
    let mut live = Live::slow(&blender()).await;
    let noisy = Shot { samples: Some(1), ..shot("big") };
    let render =
        live.order_into(&noisy, 1, RenderSettings::default(), disk.0.path().join("scratch"));
    match live.end_of(render).await {
        Ended::Failed(failure) => {
            let kinds = [FailureKind::Host, FailureKind::Output];
            assert!(kinds.contains(&failure.kind), "{failure:?}");
        }
        Ended::Rendered(rendered) => {
            let broken = rendered.files.iter().any(|file| verify(&file.path).is_err());
            assert!(broken, "there was no room for {rendered:?}");
        }
        other => panic!("not expected: {other:?}"),
    }
}

/// A file system with room for a directory and little more.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let dir = TempDir::new().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"]).arg(dir.path());
        assert!(mount.status().unwrap().success(), "the tests run as root");
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
