//! Every check, in the order in which they fail fastest.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::addon;
use crate::process::{cargo, root, run};
use crate::setup;
use crate::web;

#[derive(clap::Args)]
pub(crate) struct Test {
    /// Only formatting, lints and the tests that need no Blender
    #[arg(long)]
    quick: bool,
    /// Give every farm of the end-to-end tests a PostgreSQL for its journal, instead of a file
    #[arg(long)]
    on_postgres: bool,
    /// Only tests whose name contains this; `gpu` stands for those that need a real NVIDIA GPU,
    /// which are never run otherwise
    #[arg(value_name = "NAME|gpu")]
    filter: Option<String>,
}

/// The tests that start a farm's processes.
const END_TO_END: &str = "all";
/// Tests in `tests/all/real_gpu.rs`.
const ON_GPUS: &str = "real_gpu";

impl Test {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        if self.filter.as_deref() == Some("gpu") {
            return on_gpus();
        }
        let mut programs: Vec<&setup::Program> =
            setup::FOR_TESTS.iter().chain(setup::FOR_WEB).collect();
        if !self.quick {
            programs.extend(setup::FOR_RENDERING);
            programs.extend(setup::FOR_WINDOWS);
            programs.push(&setup::CHROMIUM);
        }
        setup::programs(&programs)?;
        if !self.quick {
            setup::bpy_runtimes()?;
            setup::schemathesis()?;
        }
        let tools = setup::python_tools()?;
        web::install()?;
        if self.filter.is_none() {
            lint(&tools)?;
        }
        run(&mut self.unit_tests()?)?;
        if self.filter.is_none() {
            run(&mut cargo(&["test", "--workspace", "--doc"]))?;
            python_tests(&tools)?;
        }
        println!("── unit tests done after {} s", began.elapsed().as_secs());
        if !self.quick {
            web::build()?;
            addon::write()?;
            let mut tests = end_to_end()?;
            // They are farms that mostly wait for one another.
            if std::env::var_os("RUST_TEST_THREADS").is_none() {
                let cores = std::thread::available_parallelism().map_or(2, usize::from);
                tests.env("RUST_TEST_THREADS", (cores + 1).to_string());
            }
            if self.on_postgres {
                tests.env("GRANGE_TESTS_ON_POSTGRES", "1");
            }
            run(&mut self.with_filter(tests))?;
        }
        println!("── all done after {} s", began.elapsed().as_secs());
        Ok(())
    }

    /// All but those that take processes; `--exclude` would build for other features.
    fn unit_tests(&self) -> anyhow::Result<Command> {
        let mut tests = cargo(&["test", "--workspace", "--lib", "--bins"]);
        for name in integration_tests()? {
            tests.arg("--test").arg(name);
        }
        Ok(self.with_filter(tests))
    }

    fn with_filter(&self, mut command: Command) -> Command {
        command.args(&self.filter);
        command
    }
}

/// Names as cargo finds them: `tests/NAME.rs` or `tests/NAME/main.rs` of a package.
fn integration_tests() -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for packages in ["", "crates", "tests"] {
        for package in fs::read_dir(root().join(packages))? {
            let package = package?.path();
            if !package.join("Cargo.toml").exists() || !package.join("tests").is_dir() {
                continue;
            }
            for test in fs::read_dir(package.join("tests"))? {
                let path = test?.path();
                let is_test = path.join("main.rs").exists()
                    || path.extension().is_some_and(|extension| extension == "rs");
                if let Some(name) = path.file_stem().filter(|_| is_test) {
                    names.insert(name.to_string_lossy().into_owned());
                }
            }
        }
    }
    Ok(names)
}

/// The client package has settings of its own for the same checkers.
fn lint(tools: &Path) -> anyhow::Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    web::check()?;
    run(Command::new(tools.join("ruff")).arg("check").current_dir(root()))?;
    run(Command::new(tools.join("ruff")).args(["format", "--check"]).current_dir(root()))?;
    run(Command::new(tools.join("basedpyright")).current_dir(root()))?;
    let mut types = Command::new(tools.join("basedpyright"));
    types.arg("--pythonpath").arg(tools.join("python"));
    run(types.current_dir(package()))
}

/// Those of the client package, which need no farm.
fn python_tests(tools: &Path) -> anyhow::Result<()> {
    let mut tests = Command::new(tools.join("pytest"));
    // Whoever runs them may have a farm; it is not for them.
    run(tests
        .args(["--quiet", "-p", "no:cacheprovider"])
        .env_remove("GRANGE_CONNECT")
        .current_dir(package()))
}

/// The Python client package.
fn package() -> PathBuf {
    root().join("python")
}

/// The tests that start processes, when the daemons and the CLI are built. What is built for all tests of
/// the workspace has the same features every time, and is built once.
fn end_to_end() -> anyhow::Result<Command> {
    run(&mut cargo(&["build", "--workspace", "--bins", "--tests"]))?;
    Ok(cargo(&["test", "--workspace", "--test", END_TO_END]))
}

/// Runs the tests that need a GPU, one after the other, and shows what they print.
fn on_gpus() -> anyhow::Result<()> {
    anyhow::ensure!(
        has_gpu(),
        "there is no NVIDIA GPU here: `nvidia-smi -L` lists none, and `cargo xtask test gpu` renders \
         on one"
    );
    let programs: Vec<&setup::Program> = setup::FOR_GPUS.iter().collect();
    setup::programs(&programs)?;
    setup::bpy_for_gpus()?;
    let mut tests = end_to_end()?;
    tests.args([ON_GPUS, "--", "--ignored", "--nocapture", "--test-threads", "1"]);
    run(&mut tests)
}

fn has_gpu() -> bool {
    let listed = Command::new("nvidia-smi").arg("-L").stderr(Stdio::null()).output();
    listed.is_ok_and(|listed| {
        listed.status.success() && String::from_utf8_lossy(&listed.stdout).contains("GPU ")
    })
}
