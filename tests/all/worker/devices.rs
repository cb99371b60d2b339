//! What a render computes on: exactly what it was given, or it fails.

use grange_blender::instance::DeviceUsed;
use grange_protocol::agent::{DeviceKind, FailureKind};
use grange_protocol::job::{DeviceRequest, RenderSettings};
use grange_protocol::shot::Shot;

use super::live::{Live, every_blender, goes_well_in_every_blender, shot};
use crate::runtimes::{blender, bpy_pythons};
use crate::support::pictures::pixels;
use crate::support::scenes::scenes;

#[tokio::test]
async fn a_gpu_that_is_not_there_is_a_failure_and_never_the_cpu() {
    for program in every_blender() {
        let mut live = Live::with(&program, &scenes().join("turn.blend")).await;
        let who = live.runtime.info.full_version.clone();
        let before = live.picture(&shot("a"), 1, RenderSettings::default()).await;

        live.device = (DeviceKind::Cuda, Some("0000:01:00".into()));
        let failure = live.refusal(&shot("a"), RenderSettings::default()).await;
        assert_eq!(failure.kind, FailureKind::Host, "{who}");
        let says = format!(
            "the render is to use a CUDA device at 0000:01:00, but Blender {who} sees none, only `"
        );
        assert!(failure.reason.starts_with(&says), "{failure:?}");
        assert!(failure.reason.ends_with("(CPU)`: is the driver installed?"), "{failure:?}");
        live.device = (DeviceKind::Metal, None);
        let failure = live.refusal(&shot("a"), RenderSettings::default()).await;
        assert!(failure.reason.ends_with("was built without METAL"), "{failure:?}");
        // Asked for by the job, on an instance that has the CPU.
        live.device = (DeviceKind::Cpu, None);
        let cuda = RenderSettings { device: DeviceRequest::Cuda, ..RenderSettings::default() };
        let failure = live.refusal(&shot("a"), cuda).await;
        assert_eq!(failure.kind, FailureKind::Host, "{who}");

        let after = live.render(&shot("a"), 1, RenderSettings::default()).await;
        let (width, height, same) = pixels(&after.files[0].path);
        assert!(same == before, "{who}: what was refused left its traces");
        assert_eq!((after.width, after.height), (width, height), "{who}");
        let cpu = DeviceUsed { kind: "CPU".into(), ids: vec!["CPU".into()] };
        assert_eq!(after.device, Some(cpu), "{who}");
    }
}

#[test]
fn of_gpus_only_the_one_that_was_given_is_used() {
    goes_well_in_every_blender("all/worker/devices.py");
}

#[tokio::test]
async fn a_render_takes_the_threads_that_it_was_given_and_tells_cycles_memory() {
    for program in every_blender() {
        let mut live = Live::with(&program, &scenes().join("slow.blend")).await;
        let who = live.runtime.info.full_version.clone();
        let slow = Shot { samples: Some(50), ..shot("slow") };
        live.threads = Some(1);
        let before = processor_seconds(live.instance.pid().unwrap());
        let rendered = live.render(&slow, 1, RenderSettings::default()).await;
        let took = processor_seconds(live.instance.pid().unwrap()) - before;
        // From 4.5 on an idle thread turns on the spot beside the one that renders.
        if program == blender() || program == bpy_pythons()[0].1 {
            assert!(took < 1.4 * rendered.seconds, "{who}: {took} of {} s", rendered.seconds);
        }
        let peak = rendered.device_peak_mib;
        assert!((1..1000).contains(&peak.unwrap_or(0)), "{who}: {rendered:?}");
        let held = live.progress.iter().filter_map(|progress| progress.device_mib).max();
        assert!(held <= peak, "{who}: {held:?} of {peak:?} MiB");
    }
}

/// Processor time that a process has used up to now.
fn processor_seconds(pid: u32) -> f32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f32>().unwrap();
    // The 14th and 15th field of all, in hundredths of a second.
    (ticks(11) + ticks(12)) / 100.0
}
