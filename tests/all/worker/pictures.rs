//! What is rendered, and under which names: as Blender does it by itself, however long it has been
//! up and whatever it rendered before.

use std::path::{Path, PathBuf};
use std::process::Command;

use grange_blender::runtime::{Candidate, Launch, probe};
use grange_blender::verify::verify;
use grange_protocol::file::OutputRole;
use grange_protocol::job::{Engine, RenderSettings};
use grange_protocol::shot::{Resolution, Shot};
use tempfile::TempDir;

use super::live::{Live, names, runtime, shot};
use crate::runtimes::{blender, bpy_pythons};
use crate::support::pictures::pixels;
use crate::support::scenes::scenes;

const TURN: [i32; 3] = [1, 2, 3];

fn kept(persistent: bool) -> RenderSettings {
    RenderSettings { persistent_data: Some(persistent), ..RenderSettings::default() }
}

fn wheel(version: &str) -> PathBuf {
    let mut wheels = bpy_pythons().into_iter();
    wheels.find(|(have, _)| have.starts_with(version)).expect("a known version").1
}

/// Frames that a Blender renders of a file by itself, each in a new process, after a little Python
/// that changes the scene.
fn cold(program: &Path, blend: &Path, change: &str, frames: &[i32]) -> Vec<Vec<u16>> {
    let dir = TempDir::new().unwrap();
    let pattern = dir.path().join("####").display().to_string();
    let change = format!("import bpy; scene = bpy.context.scene\n{change}");
    frames
        .iter()
        .map(|frame| {
            let mut command = Command::new(program);
            if program.ends_with("blender") {
                command.arg("-b").arg(blend).args(["--python-expr", &change]);
                command.args(["-o", &pattern, "-f", &frame.to_string()]);
            } else {
                let code = format!(
                    "import bpy, os, sys\n\
                     bpy.ops.wm.open_mainfile(filepath={:?})\n\
                     {change}\n\
                     scene.render.filepath = {pattern:?}\n\
                     scene.frame_start = scene.frame_end = {frame}\n\
                     bpy.ops.render.render(animation=True)\n\
                     sys.stdout.flush()\n\
                     os._exit(0)",
                    blend.display().to_string()
                );
                command.args(["-c", &code]);
            }
            let done = command.output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            exact(&dir.path().join(format!("{frame:04}.png")))
        })
        .collect()
}

/// Pixels to the last bit, of pictures of 8 and of 16 bits.
fn exact(path: &Path) -> Vec<u16> {
    image::open(path).unwrap().to_rgba16().into_raw()
}

impl Live {
    async fn exact(&mut self, shot: &Shot, frame: i32, settings: RenderSettings) -> Vec<u16> {
        exact(&self.render(shot, frame, settings).await.files[0].path)
    }
}

/// One Blender's whole story: an animation, other shots in between, names of every kind.
async fn renders_as_it_does_alone(program: &Path) {
    let turn = scenes().join("turn.blend");
    let alone = cold(program, &turn, "", &TURN);
    assert_ne!(alone[0], alone[1], "the scene moves");
    let mut live = Live::with(program, &turn).await;
    let animation = shot("turn_####");
    for persistent in [false, true] {
        for (frame, expected) in TURN.iter().zip(&alone) {
            let rendered = live.render(&animation, *frame, kept(persistent)).await;
            assert_eq!(names(&rendered), [format!("turn_{frame:04}.png")]);
            let same = exact(&rendered.files[0].path) == *expected;
            assert!(same, "frame {frame} differs, persistent data {persistent}");
            assert!(rendered.seconds > 0.0 && rendered.peak_mib > 10, "{rendered:?}");
        }
    }

    // Other shots, then the first again: nothing of them stays.
    let small = Shot {
        resolution: Some(Resolution { width: 20, height: 30 }),
        samples: Some(1),
        ..shot("small")
    };
    let rendered = live.render(&small, 2, kept(true)).await;
    assert_eq!(names(&rendered), ["small.png"]);
    let (width, height, _) = pixels(&rendered.files[0].path);
    assert_eq!((width, height), (20, 30));
    let noisy = live.exact(&Shot { samples: Some(1), ..shot("noisy") }, 2, kept(true)).await;
    assert_ne!(noisy, alone[1]);
    assert!(live.exact(&animation, 2, kept(true)).await == alone[1], "a shot left its traces");

    // Names, as Blender numbers them.
    for (pattern, frame, name) in [
        ("still", 7, "still.png"),
        ("deep/er/a_##_b", 7, "deep/er/a_07_b.png"),
        ("v2_######", 3, "v2_000003.png"),
        ("n_####", -3, "n_-0003.png"),
        ("br{a}ce_##", 1, "br{a}ce_01.png"),
        ("dot.name", 1, "dot.name.png"),
    ] {
        let rendered = live.render(&shot(pattern), frame, kept(false)).await;
        assert_eq!(names(&rendered), [name]);
        assert!(rendered.files.iter().all(|file| file.role == OutputRole::Frame));
    }

    // Six cameras without leaving the process, back and forth.
    live.open(&scenes().join("skybox.blend")).await.unwrap();
    let seen_by = |name: &str| Shot { camera: Some(name.parse().unwrap()), ..shot(name) };
    let mut front = Vec::new();
    for round in 0..2 {
        let picture = live.picture(&seen_by("Front"), 3, kept(true)).await;
        assert!(round == 0 || picture == front, "the camera before left its traces");
        front = picture;
        assert!(live.picture(&seen_by("Up"), 3, kept(true)).await != front);
    }
    // Without a camera's name it is the file's own, whatever was before.
    assert!(live.picture(&shot("own"), 3, kept(true)).await == front);

    for name in ["textures", "motion", "mist", "hair", "cleaned"] {
        if name != "cleaned" || live.runtime.info.denoiser {
            order_does_not_matter(&mut live, program, name).await;
        }
    }
}

/// Frames forward, backward and shuffled, with another shot in between; in tiles or not.
async fn order_does_not_matter(live: &mut Live, program: &Path, name: &str) {
    let blend = scenes().join(format!("{name}.blend"));
    let main = shot("main_####");
    let side = Shot {
        camera: Some("Side".parse().unwrap()),
        resolution: Some(Resolution { width: 40, height: 32 }),
        ..shot("side_####")
    };
    let from_side = "scene.camera = bpy.data.objects['Side']\n\
                     scene.render.resolution_x, scene.render.resolution_y = 40, 32";
    let alone = cold(program, &blend, "", &TURN);
    let side_alone = cold(program, &blend, from_side, &[2]);
    live.open(&blend).await.unwrap();
    for persistent in [true, false] {
        for (round, frames) in [[1, 2, 3], [3, 2, 1], [2, 1, 3]].into_iter().enumerate() {
            for frame in frames {
                let same = live.exact(&main, frame, kept(persistent)).await
                    == alone[usize::try_from(frame).unwrap() - 1];
                assert!(same, "{name}, frame {frame} of {frames:?}, persistent data {persistent}");
                if round == 2 {
                    let same = live.exact(&side, 2, kept(persistent)).await == side_alone[0];
                    assert!(same, "{name} from its side, persistent data {persistent}");
                }
            }
        }
    }
    let wide =
        Shot { resolution: Some(Resolution { width: 270, height: 24 }), ..shot("wide_####") };
    let tiled = |tiles| RenderSettings { tiles: Some(tiles), ..kept(true) };
    let whole = live.exact(&wide, 2, tiled(false)).await;
    for _ in 0..2 {
        assert!(live.exact(&wide, 2, tiled(true)).await == whole, "{name} differs in tiles");
    }
    assert!(live.exact(&main, 2, kept(true)).await == alone[1], "{name}: tiles left their traces");
}

#[tokio::test]
async fn blender_3_4_renders_as_it_does_alone() {
    renders_as_it_does_alone(&blender()).await;
}

#[tokio::test]
async fn blender_4_2_renders_as_it_does_alone() {
    renders_as_it_does_alone(&wheel("4.2")).await;
}

#[tokio::test]
async fn blender_4_5_renders_as_it_does_alone() {
    renders_as_it_does_alone(&wheel("4.5")).await;
}

#[tokio::test]
async fn blender_5_0_renders_as_it_does_alone() {
    renders_as_it_does_alone(&wheel("5.0")).await;
}

#[tokio::test]
async fn view_layers_views_and_file_output_nodes_write_what_they_write_in_blender() {
    // 5.0 takes the old node's folder for the beginning of a file's name.
    for (program, called) in [
        (blender(), "passes/depth_0002"),
        (wheel("4.5"), "passes/depth_0002"),
        (wheel("5.0"), "passesdepth_0002"),
    ] {
        let mut live = Live::with(&program, &scenes().join("passes.blend")).await;
        let rendered = live.render(&shot("pic_####"), 2, kept(false)).await;
        let of = |role: OutputRole| -> Vec<String> {
            let files = rendered.files.iter().filter(|file| file.role == role);
            files.map(|file| file.name.to_string()).collect()
        };
        let who = &live.runtime.info.full_version;
        assert_eq!(of(OutputRole::Frame), ["pic_0002_L.png", "pic_0002_R.png"], "{who}");
        let extras = ["L", "R"].map(|eye| format!("{called}_{eye}.exr"));
        assert_eq!(of(OutputRole::Extra), extras, "{who}");
        for file in &rendered.files {
            verify(&file.path).unwrap();
        }
    }
}

#[tokio::test]
async fn progress_rises_and_fine_progress_changes_no_pixel() {
    for program in [blender(), wheel("5.0")] {
        let mut live = Live::with(&program, &scenes().join("slow.blend")).await;
        let slow = shot("slow");
        let plain = live.picture(&slow, 1, kept(false)).await;
        let fine = RenderSettings { fine_progress: true, ..kept(false) };
        let finely = live.picture(&slow, 1, fine).await;
        let told = &live.progress;
        let who = &live.runtime.info.full_version;
        assert!(told.len() >= 3, "{who}: {told:?}");
        assert!(told.windows(2).all(|pair| pair[0].fraction <= pair[1].fraction), "{told:?}");
        assert!(told.last().unwrap().fraction > 0.8, "{who}: {told:?}");
        assert!(told.iter().any(|one| one.samples == 150 && one.sample > 1), "{who}: {told:?}");
        // The same to what a picture of 8 bits can show.
        let most = plain.iter().zip(&finely).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(most <= Some(1), "{who}: pixels differ by {most:?}");
    }
}

#[tokio::test]
async fn a_denoised_scene_needs_the_denoiser_or_leave_to_do_without() {
    let scene = scenes().join("denoised.blend");
    let mut without = Live::with(&blender(), &scene).await;
    assert!(!without.runtime.info.denoiser);
    let refused = without.refusal(&shot("a"), kept(false)).await;
    assert!(
        refused.reason.starts_with("the scene is denoised, and this Blender 3.4.1 was built"),
        "{refused:?}"
    );
    let allowed = RenderSettings { allow_no_denoiser: true, ..kept(false) };
    let noisy = without.render(&shot("a"), 1, allowed).await;
    assert!(noisy.warnings.iter().any(|one| one.starts_with("not denoised")), "{noisy:?}");

    let mut with = Live::with(&wheel("4.2"), &scene).await;
    assert!(with.runtime.info.denoiser);
    let clean = with.render(&shot("a"), 1, kept(false)).await;
    assert_eq!(clean.warnings, [""; 0]);
    assert_ne!(pixels(&clean.files[0].path), pixels(&noisy.files[0].path));
}

#[tokio::test]
async fn a_movie_is_rendered_as_pictures_and_python_in_a_file_stands_still() {
    for program in [blender(), wheel("5.0")] {
        let mut live = Live::with(&program, &scenes().join("movie.blend")).await;
        let rendered = live.render(&shot("movie_####"), 1, kept(false)).await;
        assert_eq!(names(&rendered), ["movie_0001.png"]);
        let warning = rendered.warnings.iter().find(|one| one.contains("movie"));
        assert!(warning.is_some_and(|one| one.contains("rendered as PNG")), "{rendered:?}");
        verify(&rendered.files[0].path).unwrap();

        let escaped = Path::new("/tmp/grange-escape");
        let _ = std::fs::remove_file(escaped);
        let opened = live.open(&scenes().join("script.blend")).await.unwrap();
        live.render(&shot("a"), 1, kept(false)).await;
        assert!(!escaped.exists(), "the file's script has run");
        let said = opened.warnings.iter().any(|one| one.starts_with("Python in the file"));
        assert!(said, "{opened:?}");
    }
}

#[tokio::test]
async fn an_engine_that_kills_blender_is_not_offered_and_those_before_it_are() {
    // As on a host without a graphics driver, where Blender aborts.
    let blind = |launch: &Launch| {
        let mut command = launch.command();
        command.env("__EGL_VENDOR_LIBRARY_FILENAMES", "/nowhere").env_remove("DISPLAY");
        command
    };
    let dir = TempDir::new().unwrap();
    let candidate = Candidate { program: blender() };
    let engines = [Engine::Cycles, Engine::Eevee, Engine::Workbench];
    let known = probe(&candidate, &engines, dir.path(), blind).await.unwrap();
    assert_eq!(known.info.engines.into_iter().collect::<Vec<_>>(), [Engine::Cycles]);
    assert!(known.can_stop);
    assert_eq!(known.info.full_version, "3.4.1");
    // A wheel has no handler to stop a render with.
    assert!(!runtime(&wheel("5.0"), &[]).await.can_stop);
}
