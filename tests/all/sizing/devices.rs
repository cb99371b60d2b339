//! What people see of their GPUs, how these fail, and who renders where.

use std::collections::{BTreeMap, BTreeSet};

use grange_fake_nvml::world::Broken;
use grange_fake_nvml::{Gpu, Process, Slice};
use grange_protocol::job::DeviceRequest;
use serde_json::json;

use crate::support::eventually;
use crate::support::farm::{FakeJob, Farm};
use crate::support::gpus::FakeGpus;
use crate::support::told::failures;

/// The host's RAM for instances; that of the machine is none of these tests' business.
const RAM: [&str; 2] = ["--memory-gib", "0.5"];

#[test]
fn people_see_every_gpu_and_who_uses_it() {
    let whole = Gpu {
        uuid: "GPU-whole".into(),
        name: "Fake 8".into(),
        memory_mib: 8_192,
        reserved_mib: 192,
        utilisation_percent: Some(97),
        temperature_c: Some(63),
        power_w: Some(215),
        processes: vec![Process { pid: 4_242, mib: Some(1_000), graphics: true }],
        ..Gpu::default()
    };
    let slice = |uuid: &str, memory_mib| Slice {
        uuid: uuid.into(),
        name: "Fake 40 slice".into(),
        memory_mib,
        processes: Vec::new(),
    };
    let divided = Gpu {
        uuid: "GPU-divided".into(),
        name: "Fake 40".into(),
        memory_mib: 40_960,
        temperature_c: Some(41),
        mig: Some(vec![slice("MIG-a", 9_856), slice("MIG-b", 19_968)]),
        ..Gpu::default()
    };
    let mut gpus = FakeGpus::of(vec![whole, divided]);
    let mut farm = Farm::new();
    farm.start_agent_on(&gpus, "host", &RAM);
    farm.wait_for_agents(1);

    let gpu = |id: &str, name: &str, memory_mib: u64| {
        json!({
            "id": id, "name": name, "kind": "cuda", "memory_mib": memory_mib, "slots": 1,
            "driver": "570.86",
        })
    };
    let agents = farm.grange(&["agents", "--json"]).json();
    assert_eq!(
        agents[0]["devices"].as_array().unwrap()[..3],
        [
            gpu("GPU-whole", "Fake 8", 8_192),
            gpu("MIG-a", "Fake 40 slice", 9_856),
            gpu("MIG-b", "Fake 40 slice", 19_968),
        ]
    );
    assert_eq!(agents[0]["devices"][3]["id"], "cpu");

    // A 64th is never given away.
    let mut seen = json!({
        "total_mib": 8_064, "used_mib": 1_192, "others_mib": 1_192, "reserved_mib": 0,
        "instances": 0, "slots": 1, "utilisation_percent": 97, "temperature_c": 63, "power_w": 215,
        "processes": [{"pid": 4_242, "mib": 1_000, "ours": false}], "problem": null,
    });
    let idle_slice = |total_mib: u64| {
        json!({
            "total_mib": total_mib, "used_mib": 0, "others_mib": 0, "reserved_mib": 0,
            "instances": 0, "slots": 1, "utilisation_percent": 0, "temperature_c": 41,
            "power_w": null, "processes": [], "problem": null,
        })
    };
    // Before its first reading an agent tells only what it found.
    let told = [seen.clone(), idle_slice(9_702), idle_slice(19_656)];
    eventually("the devices are told", || {
        let states = farm.device_states();
        (states.len() == 4 && states[..3] == told).then_some(())
    });

    gpus.foreign_process(0, 777, 3_000);
    seen["used_mib"] = 4_192.into();
    seen["others_mib"] = 4_192.into();
    seen["processes"] = json!([
        {"pid": 777, "mib": 3_000, "ours": false}, {"pid": 4_242, "mib": 1_000, "ours": false},
    ]);
    eventually("the newcomer is seen", || (farm.device_states()[0] == seen).then_some(()));

    // The largest is taken first: the second slice.
    let job = farm.submit_fake(&FakeJob::new("memory_mib = 500\nframe_ms = 4000", 1));
    let busy = eventually("our own process is told", || {
        let state = farm.device_states().swap_remove(2);
        (state["processes"] != json!([])).then_some(state)
    });
    let pid = gpus.world().allocations()[0].pid;
    let mut expected = idle_slice(19_656);
    expected["used_mib"] = 500.into();
    // Nobody has measured the shot yet: it gets all.
    expected["reserved_mib"] = 19_656.into();
    expected["instances"] = 1.into();
    expected["utilisation_percent"] = busy["utilisation_percent"].clone();
    expected["processes"] = json!([{"pid": pid, "mib": 500, "ours": true}]);
    assert_eq!(busy, expected);
    farm.wait_for_state(job, "completed");
}

#[test]
fn a_gpu_that_falls_off_the_bus_is_named_and_the_others_finish_the_job() {
    let mut gpus = FakeGpus::of_sizes(&[4_000, 4_000]);
    let mut farm = Farm::new();
    farm.start_agent_on(&gpus, "host", &["--instances", "1"]);
    farm.wait_for_agents(1);
    let job = farm.submit_fake(&FakeJob::new("memory_mib = 64\nframe_ms = 300", 20));
    eventually("both GPUs render", || {
        ["GPU-0", "GPU-1"].iter().all(|uuid| !gpus.allocated_mib(uuid).is_empty()).then_some(())
    });
    gpus.change(|state| state.gpus[1].lost = true);
    let problem = "GPU-1 has fallen off the bus: this host must be restarted";
    eventually("the problem is told", || {
        (farm.device_states()[1]["problem"] == problem).then_some(())
    });
    let detail = farm.wait_for_state(job, "completed");
    assert_eq!(detail["job"]["progress"]["outputs"], 20);
    let failures = failures(&detail);
    // One that had begun, and one more while the driver was asked.
    assert!(failures.len() <= 2, "{failures:?}");
    for failure in &failures {
        assert_eq!(failure, "host on host: Failed to create CUDA context (Unknown error)");
    }
    let states = farm.device_states();
    let told: Vec<_> = states.iter().map(|state| (&state["slots"], &state["problem"])).collect();
    assert_eq!(told[..2], [(&json!(1), &json!(null)), (&json!(0), &json!(problem))]);
    assert_eq!(farm.grange(&["agents", "--json"]).json()[0]["state"], "online");
}

#[test]
fn a_driver_that_fails_and_comes_back_is_waited_for() {
    let mut gpus = FakeGpus::of_sizes(&[4_000]);
    let mut farm = Farm::new();
    farm.start_agent_on(&gpus, "host", &["--instances", "1"]);
    farm.wait_for_agents(1);
    let job = farm.submit_fake(&FakeJob::new("memory_mib = 64\nframe_ms = 300", 12));
    eventually("it renders", || (gpus.allocated_mib("GPU-0") == [64]).then_some(()));
    gpus.change(|state| state.error = Some(Broken::Driver));
    let problem = eventually("the problem is told", || {
        farm.device_states()[0]["problem"].as_str().map(str::to_owned)
    });
    let saying = "GPU-0 cannot be read, because the NVIDIA driver does not answer";
    assert!(problem.starts_with(saying), "{problem}");
    let reason = eventually("nothing renders", || {
        farm.job(job)["job"]["reason"].as_str().map(str::to_owned)
    });
    assert_eq!(reason, "no device that could render it works now: `grange agents --json` says why");
    gpus.change(|state| state.error = None);
    let detail = farm.wait_for_state(job, "completed");
    assert_eq!(detail["job"]["progress"]["outputs"], 12);
    assert_eq!(farm.device_states()[0]["problem"], json!(null));
    assert!(farm.said("host").contains("device 0: it can be used again"));
}

#[test]
fn without_a_driver_the_processor_renders_and_the_log_says_so() {
    let mut gpus = FakeGpus::of_sizes(&[4_000]);
    gpus.change(|state| state.error = Some(Broken::Driver));
    let mut farm = Farm::new();
    farm.start_agent_on(&gpus, "host", &["--instances", "1"]);
    farm.wait_for_agents(1);
    let job = farm.submit_fake(&FakeJob::new("", 3));
    farm.wait_for_state(job, "completed");
    let agents = farm.grange(&["agents", "--json"]).json();
    let ids: Vec<_> =
        agents[0]["devices"].as_array().unwrap().iter().map(|device| &device["id"]).collect();
    assert_eq!(ids, ["cpu"]);
    let said = farm.said("host");
    let library = gpus.library();
    assert!(said.contains(&format!("no NVIDIA GPU is used: {}: ", library.display())), "{said}");
}

#[test]
fn each_instance_sees_one_gpu_and_a_job_gets_the_kind_of_device_that_it_asks_for() {
    let gpus = FakeGpus::of_sizes(&[4_000, 4_000]);
    let mut farm = Farm::new();
    farm.start_agent_on(&gpus, "host", &["--instances", "2"]);
    farm.wait_for_agents(1);
    let job = farm.submit_fake(&FakeJob::new("memory_mib = 64\nframe_ms = 200", 40));
    let mut seen: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    eventually("the job is done", || {
        for own in gpus.world().allocations() {
            seen.entry(own.pid).or_default().insert(own.uuid);
        }
        (farm.job(job)["job"]["state"] == "completed").then_some(())
    });
    let mut instances_of: BTreeMap<String, usize> = BTreeMap::new();
    for uuids in seen.values() {
        assert_eq!(uuids.len(), 1, "{seen:?}");
        *instances_of.entry(uuids.first().unwrap().clone()).or_default() += 1;
    }
    assert_eq!(instances_of, [("GPU-0".into(), 2), ("GPU-1".into(), 2)].into());

    // The idle ones stay; nobody else takes memory of a GPU.
    let before = gpus.world().allocations();
    let cpu = FakeJob { device: DeviceRequest::Cpu, ..FakeJob::new("memory_mib = 8", 3) };
    let cpu = farm.submit_fake(&cpu);
    eventually("the processor's job is done", || {
        let now = gpus.world().allocations();
        assert!(now.iter().all(|own| before.iter().any(|old| old.pid == own.pid)), "{now:?}");
        (farm.job(cpu)["job"]["state"] == "completed").then_some(())
    });

    let hip = FakeJob { device: DeviceRequest::Hip, ..FakeJob::new("", 1) };
    let refused = farm.try_submit_fake(&hip, false).unwrap_err().to_string();
    assert_eq!(
        refused,
        "`fake.blend` cannot be rendered: no agent that is online has a HIP device: start an agent \
         on a host that has one, or ask for another device"
    );
}
