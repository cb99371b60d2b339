//! A PostgreSQL of a test's own: in a temporary directory, on a socket in it, gone with the value.
//!
//! It is the real one, with its usual settings; only who may connect is left to the directory's
//! permissions. Run as root, it runs as `nobody`, because PostgreSQL refuses to be root.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Who is neither root nor anybody in particular.
const NOBODY: u32 = 65_534;
/// Where Debian has the server's programs, out of everybody's path.
const DEBIAN: &str = "/usr/lib/postgresql";
/// How long a server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Postgres {
    home: TempDir,
    server: Option<Child>,
}

impl Postgres {
    /// A server with an empty database.
    pub fn start() -> Self {
        let home = tempfile::Builder::new().prefix("pg").tempdir().expect("a temporary directory");
        if is_root() {
            chown(home.path(), Some(NOBODY), Some(NOBODY)).expect("root may give files away");
        }
        let mut postgres = Self { home, server: None };
        let mut initdb = postgres.command("initdb");
        initdb.args(["--username=grange", "--auth=trust", "--encoding=UTF8", "--no-locale"]);
        let made = initdb.arg("--pgdata").arg(postgres.data()).output().expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        postgres.start_again(&[]);
        postgres
    }

    /// The line of configuration that leads here.
    pub fn url(&self) -> String {
        format!("postgres://grange@localhost/postgres?host={}", self.home.path().display())
    }

    /// Starts the server again, with other settings if there are any.
    pub fn start_again(&mut self, settings: &[&str]) {
        self.stop();
        // A lock of a server that was killed.
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
        let log = fs::File::options().append(true).create(true).open(self.log()).expect("a log");
        let mut server = self.command("postgres");
        server.arg("-D").arg(self.data()).arg("-k").arg(self.home.path());
        server.args(["-c", "listen_addresses="]);
        for setting in settings {
            server.args(["-c", setting]);
        }
        server.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        self.server = Some(server.spawn().expect("postgres starts"));
        let began = Instant::now();
        while !self.answers() {
            assert!(began.elapsed() < PATIENCE, "PostgreSQL does not start: {}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends all of its processes at once; the next start recovers from its log.
    pub fn kill(&mut self) {
        self.end_with(rustix::process::Signal::QUIT);
    }

    /// Has it end; whoever is connected is disconnected.
    pub fn stop(&mut self) {
        self.end_with(rustix::process::Signal::INT);
    }

    fn end_with(&mut self, signal: rustix::process::Signal) {
        let Some(mut server) = self.server.take() else { return };
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&server), signal);
        let _ = server.wait();
    }

    fn answers(&self) -> bool {
        let mut ready = self.command("pg_isready");
        let told = ready.args(["--quiet", "--host"]).arg(self.home.path()).status();
        told.is_ok_and(|told| told.success())
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("server.log")
    }

    fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// One of PostgreSQL's programs, as somebody who is not root; it ends with whoever started it.
    fn command(&self, name: &str) -> Command {
        let program = program(name);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "INT"]);
        if is_root() {
            let nobody = NOBODY.to_string();
            command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
        }
        command.arg(program).current_dir(self.home.path());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// On the path, or the newest one that Debian has.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join(name));
    let mut versions: Vec<PathBuf> = fs::read_dir(Path::new(DEBIAN))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin").join(name))
        .collect();
    versions.sort();
    let found = on_path.chain(versions.into_iter().rev()).find(|candidate| candidate.is_file());
    found.unwrap_or_else(|| {
        panic!("`{name}` is missing: `cargo xtask test` installs what the tests need")
    })
}
