//! What a session's operations do to a scene: every check of `operations/`, in every Blender.

use std::path::Path;
use std::process::Command;

use super::live::every_blender;
use crate::runtimes::blender;

#[test]
fn operations_do_what_they_say() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = tests.join("all/worker/operations/main.py");
    for program in every_blender() {
        let mut command = Command::new(&program);
        if program == blender() {
            command.args(["-b", "--factory-startup", "--python-exit-code", "1", "--python"]);
            command.arg(&script).arg("--");
        } else {
            command.arg(&script);
        }
        let done = command.arg(tests.join("../crates/blender/src")).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        let complained = String::from_utf8_lossy(&done.stderr);
        let well = done.status.success() && said.contains("all is well");
        assert!(well, "{}: {said}{complained}", program.display());
    }
}
