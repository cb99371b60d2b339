//! One instance and several of real Blenders: what is set, told and lost.

use serde_json::json;

use super::{Person, Running, farm_of_blender, nothing_runs};
use crate::support::farm::Farm;
use crate::support::pictures::{channels, names, pixels};
use crate::support::scenes::{scenes, truth_scenes};
use crate::support::told::Told;
use crate::support::{descendants, eventually, signal};

/// A process of Blender's that an agent of the farm runs.
pub(super) fn a_blender(farm: &Farm, agent: &str) -> u32 {
    eventually("a Blender runs", || {
        let mut below = descendants(farm.agent_pid(agent)).into_iter();
        below.find(|(_, name)| name.ends_with("blender")).map(|(pid, _)| pid)
    })
}

#[test]
fn a_dead_instance_is_replaced_and_the_new_one_is_set_as_the_others_are() {
    let farm = farm_of_blender(2);
    let person = Person::of(&farm);
    let mut command = person.story("blenders.py", "changed");
    command.arg(scenes().join("slow.blend")).arg(person.out());
    let program = Running::of(&mut command);
    eventually("a frame", || (!names(&person.out()).is_empty()).then_some(()));
    signal(a_blender(&farm, "host"), "KILL");
    let told = program.told().json();
    let expected: Vec<String> = (1..7).map(|at| format!("frames/frame_{at:06}.png")).collect();
    assert_eq!(told["frames"], json!(expected));
    assert_eq!(names(&person.out()), expected);
    for name in expected {
        let (width, height, _) = pixels(&person.out().join(&name));
        assert_eq!((width, height), (160, 90), "{name}");
    }
    let said = told["said"].to_string();
    assert!(said.contains("an instance was lost") && said.contains("SIGKILL"), "{said}");
    nothing_runs(&farm);
}

#[test]
fn an_instance_tells_what_it_knows_and_what_went_wrong() {
    let farm = farm_of_blender(1);
    let person = Person::of(&farm);
    let mut command = person.story("blenders.py", "operations");
    let told = Told::by(command.arg(scenes().join("turn.blend")).arg(person.out())).json();
    assert_eq!(told["counted"], json!(["Cube"]));
    assert_eq!(told["warnings"], json!(["counted only once"]));
    assert_eq!((&told["poses"], &told["paths"]), (&json!(1000), &json!(1000)));
    // Generous, because the machine may be busy.
    assert!(told["seconds"].as_f64().unwrap() < 20.0, "{}", told["seconds"]);
    let wrong = told["wrong"].to_string();
    assert!(wrong.contains("set_resolution(height=None, width=None)"), "{wrong}");
    assert!(wrong.contains("Traceback"), "{wrong}");
    let logs = told["logs"].as_array().unwrap();
    assert_eq!(logs.len(), 1, "one for each instance");
    assert!(logs[0].as_str().unwrap().contains("the extension counts"), "{logs:?}");
    assert!(names(&person.out()).iter().all(|name| name.starts_with("logs/turn-")));
    nothing_runs(&farm);
}

#[test]
fn ground_truths_arrive_whole_and_mean_what_they_say() {
    let farm = farm_of_blender(1);
    let person = Person::of(&farm);
    let mut command = person.story("blenders.py", "truths");
    let told = Told::by(command.arg(truth_scenes().join("composited.blend")).arg(person.out()));
    let told = told.json();
    assert_eq!(told["names"], json!({ "5": "Facing", "300": "Cube.B" }));
    let frame = &told["frames"][0];
    let out = person.out();
    let file = |key: &str| out.join(frame[key].as_str().unwrap());
    let (width, height, depth) = channels(&file("depth_file_path"));
    assert_eq!((width, height), (96, 64));
    // A point of the world at y = 0, which is ten away, in pixels; see `scenes/truths.py`.
    let at = |x: f32, z: f32| {
        let (column, row) = (48.0 + 9.6 * x, 32.0 - 9.6 * z);
        row as usize * 96 + column as usize
    };
    let facing = at(-3.5, 1.8);
    assert!((depth["Y"][facing] - 10.0).abs() < 1e-4, "{}", depth["Y"][facing]);
    assert_eq!(depth["Y"][0], f32::INFINITY);
    let (_, _, numbers) = channels(&file("segmentation_file_path"));
    assert_eq!((numbers["Y"][facing], numbers["Y"][at(1.2, -2.0)]), (5.0, 300.0));
    assert_eq!(numbers["Y"][at(2.8, 1.4)], 0.0, "the ball has no number");
    // From frame 12 on it moves by a quarter to the right and half up; it came by a half and a
    // quarter.
    let (_, _, flow) = channels(&file("flow_file_path"));
    let moves = |channel: &str| flow[channel][at(-3.0, -1.55)];
    for (channel, expected) in [("R", 2.4), ("G", -4.8), ("B", -4.8), ("A", 2.4)] {
        assert!((moves(channel) - expected).abs() < 0.05, "{channel}: {}", moves(channel));
    }
    // The composite is the picture with its colours turned around.
    let (_, _, picture) = pixels(&file("file_path"));
    let (_, _, composite) = pixels(&file("composite_file_path"));
    // (As far as the view transform lets white be white.)
    let (dark, bright) = (picture[0], composite[0]);
    assert!(dark < 20 && bright > 180, "{dark} became {bright}");
    let debug = file("depth_file_path").with_file_name("debug_depth_000012.png");
    assert_eq!(pixels(&debug).0, 96);
    assert_eq!(names(&out).len(), 6, "{:?}", names(&out));
    nothing_runs(&farm);
}
