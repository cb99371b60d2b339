//! The Blender add-on: what it plans, its operators in every Blender, its zip installed, and its
//! list of shots in a real window that nobody sees.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::runtimes::{blender, bpy_pythons};
use crate::support::farm::Farm;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("all/addon").join(name)
}

/// Blender 3.4.1 and the bpy modules of 4.2, 4.5 and 5.0, each about to run a script.
fn every_blender(name: &str) -> Vec<Command> {
    let mut executable = Command::new(blender());
    executable.args(["-b", "--factory-startup", "--python-exit-code", "1", "--python"]);
    executable.arg(script(name)).arg("--");
    let modules = bpy_pythons().into_iter().map(|(_, python)| {
        let mut module = Command::new(python);
        module.arg(script(name));
        module
    });
    std::iter::once(executable).chain(modules).collect()
}

/// Ends well and says so.
fn well(command: &mut Command) {
    ends_well(command).unwrap_or_else(|wrong| panic!("{wrong}"));
}

fn ends_well(command: &mut Command) -> Result<(), String> {
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    if done.status.success() && said.contains("all is well") {
        return Ok(());
    }
    Err(format!("{command:?}: {said}{}", String::from_utf8_lossy(&done.stderr)))
}

/// What `cargo xtask test` has packed.
fn zip() -> PathBuf {
    let built = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let zip = built.join(format!("addon/grange-{}.zip", env!("CARGO_PKG_VERSION")));
    assert!(zip.exists(), "no {}: pack it with `cargo xtask addon`", zip.display());
    zip.canonicalize().unwrap()
}

#[test]
fn the_addon_plans_without_blender() {
    well(Command::new("python3.11").arg(script("planning.py")));
}

#[test]
fn the_addon_does_what_it_says_in_every_blender() {
    for mut command in every_blender("headless.py") {
        let folder = TempDir::new().unwrap();
        well(command.arg(folder.path()));
    }
}

#[test]
fn the_addons_zip_installs_in_every_blender() {
    for mut command in every_blender("installing.py") {
        let (folder, user) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        command.env("BLENDER_USER_RESOURCES", user.path());
        well(command.arg(zip()).arg(folder.path()));
    }
}

/// A connect string for somebody with that role.
fn connect_string(farm: &Farm, role: &str, name: &str) -> String {
    let create = ["token", "create", "--api", "--role", role, "--name", name];
    farm.grange(&create).well().trim().to_owned()
}

/// A farm with one host that has these Blenders.
fn farm_of(blenders: &[PathBuf]) -> Farm {
    let mut farm = Farm::new();
    farm.start_agent("host", blenders, &["--instances", "2"]);
    farm.wait_for_agents_within(60 * blenders.len() as u64, 1);
    farm
}

#[test]
fn the_addon_renders_on_a_farm_from_every_blender() {
    let modules = bpy_pythons().into_iter().map(|(_, python)| python);
    let farm = farm_of(&std::iter::once(blender()).chain(modules).collect::<Vec<_>>());
    farm.grange(&["agent", "tag", "host", "big"]).well();
    let connect = connect_string(&farm, "submitter", "ada");
    let revoked = connect_string(&farm, "submitter", "bob");
    let viewer = connect_string(&farm, "viewer", "eve");
    farm.grange(&["token", "revoke", "bob"]).well();
    for mut command in every_blender("farm.py") {
        let (folder, user) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        command.env("BLENDER_USER_RESOURCES", user.path()).env("HOME", user.path());
        command.env_remove("GRANGE_CONNECT").env_remove("XDG_CONFIG_HOME");
        well(command.arg(folder.path()).args([&connect, &revoked, &viewer]));
    }
}

/// A screen that nobody sees; it goes away with this.
struct Screen {
    server: Child,
    display: String,
}

impl Screen {
    /// Xvfb chooses a display that is free, and says which.
    fn new() -> Screen {
        let dir = TempDir::new().unwrap();
        let told = dir.path().join("display");
        let mut server = Command::new("sh")
            .arg("-c")
            .arg("exec Xvfb -displayfd 3 -screen 0 1280x800x24 -nolisten tcp 3>\"$0\"")
            .arg(&told)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        loop {
            let number = std::fs::read_to_string(&told).unwrap_or_default();
            if number.ends_with('\n') {
                return Screen { server, display: format!(":{}", number.trim()) };
            }
            assert!(server.try_wait().unwrap().is_none(), "Xvfb ended");
            assert!(began.elapsed() < Duration::from_secs(30), "Xvfb does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn blender(&self, name: &str, arguments: &[&OsStr]) -> Command {
        let mut command = Command::new(blender());
        command.args(["--factory-startup", "--window-geometry", "0", "0", "1280", "800"]);
        command.args(["--python-exit-code", "1", "--python"]).arg(script(name)).arg("--");
        command.args(arguments);
        command.env("DISPLAY", &self.display).env("LIBGL_ALWAYS_SOFTWARE", "1");
        command.env_remove("WAYLAND_DISPLAY");
        command
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// What people do in a window while shots render there.
const SCENARIOS: [&str; 11] = [
    "renders_three",
    "escape_cancels",
    "full_screen_keeps_the_layout",
    "keeps_the_interface",
    "undo_and_save_in_the_middle",
    "renders_where_timers_may_not_write",
    "a_new_file_ends_it",
    "turned_off_in_the_middle",
    "stops_after_the_picture",
    "an_error_ends_it",
    A_FARM_IS_WATCHED,
];
const A_FARM_IS_WATCHED: &str = "a_farm_is_watched";

/// One after the other, for windows take most of a small machine; and in one test, for tests that wait
/// for one another take threads from all others.
#[test]
fn whatever_is_done_in_a_window_ends_as_it_should() {
    let in_a_window = |scenario: &&str| match *scenario {
        A_FARM_IS_WATCHED => watch_a_farm(),
        scenario => {
            let (screen, folder) = (Screen::new(), TempDir::new().unwrap());
            let arguments = [scenario.as_ref(), folder.path().as_os_str()];
            ends_well(&mut screen.blender("window.py", &arguments))
        }
    };
    let wrong: Vec<String> =
        SCENARIOS.iter().filter_map(|scenario| in_a_window(scenario).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn watch_a_farm() -> Result<(), String> {
    let farm = farm_of(&[blender()]);
    let connect = connect_string(&farm, "submitter", "ada");
    let (screen, folder, user) = (Screen::new(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut command =
        screen.blender("farm_window.py", &[folder.path().as_os_str(), connect.as_ref()]);
    command.env("BLENDER_USER_RESOURCES", user.path()).env("HOME", user.path());
    ends_well(command.env_remove("GRANGE_CONNECT").env_remove("XDG_CONFIG_HOME"))
}
