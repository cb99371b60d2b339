//! What goes wrong while frames are rendered, and what a program sees of it. Fake Blenders.

use super::{Person, nothing_runs};
use crate::support::farm::Farm;
use crate::support::pictures::names;

#[test]
fn more_instances_than_frames_or_than_room_are_no_reason_to_wait() {
    let farm = Farm::of_fakes(&["host"], 2);
    let person = Person::of(&farm);
    let told = person.tells_of_fakes("more_than_frames", "frames = 2");
    let expected = ["frames/frame_000001.png", "frames/frame_000002.png"];
    assert_eq!(told, serde_json::json!(expected));
    assert_eq!(names(&person.out()), expected);
    nothing_runs(&farm);
}

#[test]
fn a_file_that_is_not_a_whole_picture_is_no_finished_frame() {
    let farm = Farm::of_fakes(&["host"], 1);
    let person = Person::of(&farm);
    let told = person.tells_of_fakes("empty_file", "frames = 4");
    assert_eq!((&told["same"], &told["untouched"]), (&true.into(), &true.into()), "{told}");
    let advanced: u64 =
        told["advanced"].as_array().unwrap().iter().map(|one| one.as_u64().unwrap()).sum();
    assert_eq!(advanced, 4, "{told}");
    let session = told["session"].as_u64().unwrap();
    assert_eq!(farm.outputs(session).len(), 4 + 3, "one was whole");
}

#[test]
fn a_frame_that_no_instance_survives_is_told_and_ends_nothing_else() {
    let farm = Farm::of_fakes(&["host"], 2);
    let person = Person::of(&farm);
    let told = person.tells_of_fakes("deadly", "crash = [3]");
    for (how, saying) in [
        ("one", "crashed"),
        ("several", "frame 3 lost its instance 4 times in a row"),
        ("pool", "`render` lost its instance 4 times in a row"),
    ] {
        assert!(told[how].as_str().unwrap().contains(saying), "{told}");
    }
    nothing_runs(&farm);
}

#[test]
fn a_pool_that_is_left_takes_its_calls_along() {
    let farm = Farm::of_fakes(&["host"], 1);
    let person = Person::of(&farm);
    let told = person.tells_of_fakes("left", "frame_ms = 60000");
    assert_eq!(told[0], "enough");
    assert!(told[1].as_str().unwrap().contains("terminated"), "{told}");
    nothing_runs(&farm);
}
