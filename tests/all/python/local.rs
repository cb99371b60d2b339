//! A farm of this machine, from Python: nothing of it outlives its program, however that ends.

use super::{Person, Running};
use crate::support::pictures::{names, pixels};
use crate::support::scenes::scenes;
use crate::support::told::Told;
use crate::support::{eventually, processes_that_know};

/// Neither a process nor a file of a local farm is there.
#[track_caller]
fn nothing_is_left(person: &Person) {
    let mark = person.mark();
    eventually("no process is left", || processes_that_know(mark).is_empty().then_some(()));
    let own = person.home.path().join("cache/grange");
    // Hashes of files that were sent are there for the next time.
    let kept = |name: &String| name.starts_with("hashes.sqlite");
    assert!(names(&own).iter().all(kept), "its own files stay behind: {:?}", names(&own));
    assert_eq!(names(&person.home.path().join("tmp")), [""; 0], "temporary files stay behind");
}

#[test]
fn it_renders_and_is_gone() {
    let person = Person::alone();
    let expected: Vec<String> = (1..5).map(|at| format!("frames/frame_{at:06}.png")).collect();
    let mut command = person.story("blenders.py", "local");
    let told = Told::by(command.arg(scenes().join("turn.blend")).arg(person.out())).json();
    assert_eq!((told, names(&person.out())), (4.into(), expected.clone()));
    nothing_is_left(&person);

    // From a terminal, without a line of Python.
    let mut command = person.python();
    command.args(["-m", "grange", "render", "--jobs", "1", "-f", "1-2"]);
    let rendered = person.home.path().join("rendered");
    Told::by(command.arg(scenes().join("turn.blend")).arg("-o").arg(&rendered)).well();
    assert_eq!(names(&rendered), ["turn_0001.png", "turn_0002.png"]);
    for (one, other) in expected.iter().zip(names(&rendered)) {
        assert!(pixels(&person.out().join(one)) == pixels(&rendered.join(other)));
    }
    nothing_is_left(&person);
}

#[test]
fn it_dies_with_a_killed_program() {
    let person = Person::alone();
    let mut command = person.story("blenders.py", "local");
    command.arg(scenes().join("slow.blend")).arg(person.out());
    let mut program = Running::of(&mut command);
    eventually("a frame", || (!names(&person.out()).is_empty()).then_some(()));
    let running = processes_that_know(person.mark());
    program.kill();
    for name in ["grange", "blender"] {
        let is = |line: &String| line.split(' ').next().unwrap().ends_with(name);
        assert!(running.iter().any(is), "no {name} in {running:?}");
    }
    nothing_is_left(&person);
    for name in names(&person.out()).iter().filter(|name| name.ends_with(".png")) {
        pixels(&person.out().join(name));
    }
}
