//! What a session's operations do to a scene: every check of `operations/`, in every Blender.

use super::live::goes_well_in_every_blender;

#[test]
fn operations_do_what_they_say() {
    goes_well_in_every_blender("all/worker/operations/main.py");
}
