//! The Blenders that the tests use, as `cargo xtask test` installs them.

use std::path::PathBuf;

/// The Blender executable on the path: Debian's 3.4.1 on the test machine.
pub(crate) fn blender() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join("blender"))
        .find(|candidate| candidate.is_file())
        .expect("no blender on the PATH: run the tests with `cargo xtask test`, which installs it")
}

/// The Pythons that have a bpy module: `(version, interpreter)` for 4.2, 4.5 and 5.0.
pub(crate) fn bpy_pythons() -> Vec<(&'static str, PathBuf)> {
    ["4.2.23", "4.5.15", "5.0.1"].into_iter().map(|version| (version, bpy(version))).collect()
}

/// The Python that has this version of the bpy module.
pub(crate) fn bpy(version: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/runtimes");
    let python = root.join(format!("bpy-{version}/bin/python"));
    assert!(
        python.exists(),
        "no bpy {version} at {}: run the tests with `cargo xtask test`, which installs it",
        python.display()
    );
    python
}
