//! Every check, in the order in which they fail fastest.

use std::process::Command;
use std::time::Instant;

use crate::process::{cargo, root, run};
use crate::setup;

#[derive(clap::Args)]
pub(crate) struct Test {
    /// Only formatting, lints and the tests that need no Blender
    #[arg(long)]
    quick: bool,
    /// Only tests whose name contains this
    #[arg(value_name = "NAME")]
    filter: Option<String>,
}

impl Test {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut programs: Vec<&setup::Program> = setup::FOR_TESTS.iter().collect();
        if !self.quick {
            programs.extend(setup::FOR_RENDERING);
        }
        setup::programs(&programs)?;
        if !self.quick {
            setup::bpy_runtimes()?;
        }
        if self.filter.is_none() {
            self.lint()?;
        }
        run(&mut self.unit_tests())?;
        println!("── unit tests done after {} s", began.elapsed().as_secs());
        if !self.quick {
            // The daemons and the CLI, which the tests start as processes.
            run(&mut cargo(&["build", "--workspace", "--bins"]))?;
            run(&mut self.with_filter(cargo(&["test", "--package", "grange-tests"])))?;
        }
        println!("── all done after {} s", began.elapsed().as_secs());
        Ok(())
    }

    fn lint(&self) -> anyhow::Result<()> {
        run(&mut cargo(&["fmt", "--all", "--check"]))?;
        run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
        let tools = setup::python_tools()?;
        run(Command::new(tools.join("ruff")).arg("check").current_dir(root()))?;
        run(Command::new(tools.join("ruff")).args(["format", "--check"]).current_dir(root()))?;
        run(Command::new(tools.join("basedpyright")).current_dir(root()))
    }

    fn unit_tests(&self) -> Command {
        self.with_filter(cargo(&["test", "--workspace", "--exclude", "grange-tests"]))
    }

    fn with_filter(&self, mut command: Command) -> Command {
        command.args(&self.filter);
        command
    }
}
