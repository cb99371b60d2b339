//! Fuzzing that coverage guides: libFuzzer on every reader of bytes from outside, from the inputs that
//! are kept, for as long as one likes.
//!
//! A tree of its own is built for it, with a counter at every branch; what the tests read is the same
//! code without them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::process::{cargo, output, run, target};
use crate::setup;

#[derive(clap::Args)]
pub(crate) struct Fuzz {
    /// What to fuzz, such as `message` or `blend`; everything if nothing is named
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Seconds for each target
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// What random numbers begin with; another one every time unless told
    #[arg(long, value_name = "S")]
    seed: Option<u32>,
    /// Put what reaches new code into the tree, and leave out what others reach as well
    #[arg(long)]
    minimize: bool,
    /// Read this one input, as after a finding
    #[arg(long, value_name = "FILE", conflicts_with_all = ["minimize", "seed"])]
    input: Option<PathBuf>,
}

/// A counter at every edge, and the values that are compared.
const FLAGS: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// Seconds that an input may take, MiB that the process may hold, and no file for what is merely slow.
const LIMITS: [&str; 3] = ["-timeout=30", "-rss_limit_mb=6144", "-report_slow_units=1000"];
/// Bytes of an input that is put into the tree.
const KEPT_MAX: u64 = 32 << 10;

/// A reader of bytes from outside.
struct Target {
    name: String,
    /// Bytes of its inputs at most.
    len_max: u64,
}

/// What became of a target.
struct Ran {
    executed: u64,
    edges: u64,
    /// Inputs that reached something new.
    new: u64,
    /// The inputs that showed a bug.
    findings: Vec<PathBuf>,
}

impl Fuzz {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        setup::programs(&[&setup::CPP])?;
        let program = build()?;
        if let Some(input) = &self.input {
            return self.replay(&program, input);
        }
        let mut all = Ran { executed: 0, edges: 0, new: 0, findings: Vec::new() };
        let targets = self.targets(&program)?;
        for target in &targets {
            let ran = self.fuzz(&program, target)?;
            println!("── {}: {}", target.name, ran.told());
            all.executed += ran.executed;
            all.edges += ran.edges;
            all.new += ran.new;
            all.findings.extend(ran.findings);
            if self.minimize {
                minimize(&program, target)?;
            }
        }
        for finding in &all.findings {
            let name = finding.parent().and_then(Path::file_name).unwrap_or_default();
            println!(
                "found: cargo xtask fuzz {} --input {}",
                name.to_string_lossy(),
                finding.display()
            );
        }
        println!("{} targets, {}", targets.len(), all.told());
        ensure!(all.findings.is_empty(), "something was found");
        Ok(())
    }

    /// Those that are named, or all.
    fn targets(&self, program: &Path) -> anyhow::Result<Vec<Target>> {
        let listed = output(&mut Command::new(program))?;
        let mut known = Vec::new();
        for line in listed.lines() {
            let (name, len_max) = line.split_once(' ').context("the program lists no targets")?;
            known.push(Target { name: name.into(), len_max: len_max.parse()? });
        }
        let is_known = |name: &&String| known.iter().any(|target| target.name == **name);
        if let Some(name) = self.targets.iter().find(|name| !is_known(name)) {
            let names: Vec<&str> = known.iter().map(|target| &*target.name).collect();
            bail!("there is no target `{name}`: there are {}", names.join(", "));
        }
        known.retain(|one| self.targets.is_empty() || self.targets.contains(&one.name));
        Ok(known)
    }

    fn replay(&self, program: &Path, input: &Path) -> anyhow::Result<()> {
        let [name] = &*self.targets else { bail!("name the target that is to read the input") };
        let mut replay = guided(program, name);
        run(replay.args(LIMITS).arg(std::path::absolute(input)?))
    }

    fn fuzz(&self, program: &Path, target: &Target) -> anyhow::Result<Ran> {
        let Target { name, len_max } = target;
        let (working, findings) = (folder("corpus", name)?, folder("findings", name)?);
        let kept = empty_folder("kept", name)?;
        let before = files(&working)?.len() as u64;
        let log = folder("logs", name)?.join("fuzz");
        let mut fuzz = guided(program, name);
        // Panics of others' decoders that are caught come by the thousand.
        fuzz.env("RUST_BACKTRACE", "0")
            .env("GRANGE_FUZZ_SEEDS", &kept)
            .args(LIMITS)
            .arg(format!("-max_total_time={}", self.seconds))
            .arg(format!("-max_len={len_max}"))
            .arg(format!("-artifact_prefix={}/", findings.display()))
            .args(["-print_final_stats=1", "-reload=0"])
            .args(self.seed.map(|seed| format!("-seed={seed}")))
            .arg(&working)
            .arg(&kept)
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?);
        let known = files(&findings)?;
        let status = fuzz.status().context("the fuzzer cannot be started")?;
        let log = fs::read_to_string(&log).unwrap_or_default();
        let findings: Vec<_> =
            files(&findings)?.into_iter().filter(|file| !known.contains(file)).collect();
        ensure!(status.success() || !findings.is_empty(), "{name} ended ({status}):\n{log}");
        Ok(Ran {
            executed: last_number(&log, "stat::number_of_executed_units:"),
            edges: last_number(&log, "cov:"),
            new: (files(&working)?.len() as u64).saturating_sub(before),
            findings,
        })
    }
}

impl Ran {
    fn told(&self) -> String {
        format!(
            "{} inputs, {} edges, {} new inputs, {} findings",
            self.executed,
            self.edges,
            self.new,
            self.findings.len()
        )
    }
}

/// Builds the program with counters. Build scripts and macros have none, because the target is named.
fn build() -> anyhow::Result<PathBuf> {
    let rustc = output(Command::new("rustc").arg("-vV"))?;
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("`rustc -vV` names no host")?;
    let place = target().join("fuzzing");
    run(cargo(&[
        "build",
        "--package",
        "grange-fuzz",
        "--features",
        "guided",
        "--profile",
        "fuzz",
    ])
    .args(["--bin", "grange-fuzz-guided", "--target", host])
    .env("CARGO_TARGET_DIR", &place)
    .env("RUSTFLAGS", FLAGS.join(" ")))?;
    Ok(place.join(host).join("fuzz/grange-fuzz-guided"))
}

fn guided(program: &Path, name: &str) -> Command {
    let mut command = Command::new(program);
    command.env("GRANGE_FUZZ_TARGET", name);
    command
}

/// The tree's inputs become those that all inputs together need to reach what they reach.
fn minimize(program: &Path, target: &Target) -> anyhow::Result<()> {
    let Target { name, len_max } = target;
    let merged = empty_folder("merged", name)?;
    let mut merge = guided(program, name);
    // How often code is reached does not count, or there would be thousands.
    merge.args(LIMITS).args(["-set_cover_merge=1", "-use_counters=0"]);
    merge.arg(format!("-max_len={}", KEPT_MAX.min(*len_max)));
    merge.args([&merged, &folder("kept", name)?, &folder("corpus", name)?]);
    let log = folder("logs", name)?.join("merge");
    let status = merge.stdout(Stdio::null()).stderr(fs::File::create(&log)?).status()?;
    ensure!(status.success(), "merging {name} failed: {} says why", log.display());
    let count = output(guided(program, name).env("GRANGE_FUZZ_CHOOSE", merged))?;
    println!("── {name}: {count} inputs are kept");
    Ok(())
}

/// A folder of this machine's, where a target's files stay between two runs.
fn folder(kind: &str, name: &str) -> anyhow::Result<PathBuf> {
    let folder = target().join("fuzzing").join(kind).join(name);
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    Ok(std::path::absolute(folder)?)
}

fn empty_folder(kind: &str, name: &str) -> anyhow::Result<PathBuf> {
    let folder = folder(kind, name)?;
    for file in files(&folder)? {
        fs::remove_file(file)?;
    }
    Ok(folder)
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    Ok(paths?)
}

/// The number after the last of these words.
fn last_number(log: &str, word: &str) -> u64 {
    let after = log.rsplit_once(word).map_or("", |(_, after)| after.trim_start());
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after[..digits].parse().unwrap_or(0)
}
