//! Many pictures of one scene at one frame, each to its own name.

use std::fs;

use tempfile::TempDir;

use crate::runtimes::blender;
use crate::support::farm::Farm;
use crate::support::pictures::{names, pixels};
use crate::support::scenes::scenes;

fn farm() -> Farm {
    let mut farm = Farm::new();
    farm.start_agent("host", &[blender()], &["--engines", "cycles"]);
    farm.wait_for_agents(1);
    farm
}

#[test]
fn six_cameras_at_one_frame_are_six_named_files() {
    let (farm, out) = (farm(), TempDir::new().unwrap());
    let scene = scenes().join("skybox.blend");
    let scene = scene.to_str().unwrap();
    let to = out.path().to_str().unwrap();
    let submit = ["submit", scene, "--cameras", "all", "--wait", "-o", to];
    farm.grange(&submit).well();
    let six = ["Back.png", "Down.png", "Front.png", "Left.png", "Right.png", "Up.png"];
    assert_eq!(names(out.path()), six);
    let pictures: Vec<_> = six.iter().map(|name| pixels(&out.path().join(name))).collect();
    assert!(pictures.iter().all(|(width, height, _)| (*width, *height) == (32, 32)));
    // Only the one that looks forward sees the cube.
    let front = &pictures[2].2;
    assert!(pictures.iter().enumerate().all(|(at, picture)| at == 2 || &picture.2 != front));

    let two = TempDir::new().unwrap();
    let to = two.path().to_str().unwrap();
    let shots = two.path().join("shots.toml");
    fs::write(
        &shots,
        "[[shot]]\nname = 'near'\ncamera = 'Front'\nresolution = [48, 24]\nsamples = 2\n\
         [[shot]]\nname = 'a turn'\ncamera = 'Front'\nframes = '1-2'\nresolution = '16x16'\noutput = 'turn/pic'\n",
    )
    .unwrap();
    farm.grange(&["submit", scene, "--shots", shots.to_str().unwrap(), "--wait", "-o", to]).well();
    assert_eq!(
        names(two.path()),
        ["near.png", "shots.toml", "turn/pic_0001.png", "turn/pic_0002.png"]
    );
    assert_eq!(pixels(&two.path().join("near.png")).0, 48);
    assert_eq!(pixels(&two.path().join("turn/pic_0002.png")).1, 16);
}

#[test]
fn a_bad_camera_fails_before_anything_is_sent_and_names_those_that_exist() {
    let farm = Farm::new();
    let scene = scenes().join("skybox.blend");
    let scene = scene.to_str().unwrap();
    farm.grange(&["submit", scene, "--cameras", "Front,Bakc"]).fails(
        1,
        "shot `Bakc`: the scene has no camera `Bakc` (there are: Back, Down, Front, Left, Right, Up)",
    );
    let dir = TempDir::new().unwrap();
    let bad = |text: &str, saying: &str| {
        let path = dir.path().join("shots.toml");
        fs::write(&path, text).unwrap();
        farm.grange(&["submit", scene, "--shots", path.to_str().unwrap()]).fails(1, saying);
    };
    bad("[[shot]]\nname = 'a'\nview_layer = 'No'\n", "the scene has no view layer `No`");
    bad("[[shot]]\nname = 'a'\nscene = 'No'\n", "the scene has no scene `No` (there are: Scene)");
    bad("[[shot]]\nname = 'a'\ncamra = 'Front'\n", "unknown field `camra`");
    bad(
        "[[shot]]\nname = 'a'\noutput = 'x'\n[[shot]]\nname = 'b'\noutput = 'x'\n",
        "shots `a` and `b` both write `x`: give one of them another output",
    );
    assert_eq!(farm.grange(&["jobs", "--json"]).json().as_array().unwrap().len(), 0);
}
