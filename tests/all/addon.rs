//! The Blender add-on: what it plans, its operators in every Blender, its zip installed, and its
//! list of shots in a real window that nobody sees.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
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
fn well(command: &mut Command) -> String {
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let complained = String::from_utf8_lossy(&done.stderr);
    let well = done.status.success() && said.contains("all is well");
    assert!(well, "{command:?}: {said}{complained}");
    said
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

/// Windows take all the time of a small machine: one after the other.
static ONE_WINDOW: Mutex<()> = Mutex::new(());

fn in_a_window(scenario: &str) {
    let _alone = ONE_WINDOW.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (screen, folder) = (Screen::new(), TempDir::new().unwrap());
    well(&mut screen.blender("window.py", &[scenario.as_ref(), folder.path().as_os_str()]));
}

#[test]
fn a_farm_is_watched_to_the_end_while_the_window_is_alive() {
    let farm = farm_of(&[blender()]);
    let connect = connect_string(&farm, "submitter", "ada");
    let _alone = ONE_WINDOW.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (screen, folder, user) = (Screen::new(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut command =
        screen.blender("farm_window.py", &[folder.path().as_os_str(), connect.as_ref()]);
    command.env("BLENDER_USER_RESOURCES", user.path()).env("HOME", user.path());
    well(command.env_remove("GRANGE_CONNECT").env_remove("XDG_CONFIG_HOME"));
}

#[test]
fn shots_render_while_the_window_is_alive() {
    in_a_window("renders_three");
}

#[test]
fn escape_in_the_middle_cancels_and_puts_everything_back() {
    in_a_window("escape_cancels");
}

#[test]
fn a_full_screen_display_keeps_the_layout() {
    in_a_window("full_screen_keeps_the_layout");
    in_a_window("keeps_the_interface");
}

#[test]
fn undo_and_save_in_the_middle_change_nothing() {
    in_a_window("undo_and_save_in_the_middle");
}

#[test]
fn shots_render_where_blender_lets_no_timer_write() {
    in_a_window("renders_where_timers_may_not_write");
}

#[test]
fn a_new_file_in_the_middle_ends_the_run() {
    in_a_window("a_new_file_ends_it");
}

#[test]
fn a_run_stops_when_told_when_turned_off_and_when_a_picture_fails() {
    in_a_window("turned_off_in_the_middle");
    in_a_window("stops_after_the_picture");
    in_a_window("an_error_ends_it");
}
