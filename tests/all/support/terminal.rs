//! A terminal with a program before it: a pseudo terminal of the kernel, and what its screen shows.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use vt100::Parser;

use super::eventually;

/// Ends its program with the value.
pub(crate) struct Terminal {
    /// The side of whoever sits before it.
    person: File,
    child: Child,
    screen: Arc<Mutex<Parser>>,
    /// As the terminal was before.
    modes: LocalModes,
}

/// How a program has left a terminal.
pub(crate) struct Left {
    pub(crate) code: Option<i32>,
    /// What is on the screen that the terminal had before.
    pub(crate) text: String,
}

impl Terminal {
    /// Starts a program, with so many columns and lines to fill.
    pub(crate) fn of(command: &Command, columns: u16, lines: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let person = openpt(flags).expect("a pseudo terminal");
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let path = PathBuf::from(std::ffi::OsString::from_vec(
            ptsname(&person, Vec::new()).unwrap().into_bytes(),
        ));
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let program = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
        tcsetwinsize(&program, size(columns, lines)).unwrap();
        let modes = tcgetattr(&program).unwrap().local_modes;
        let end = || Stdio::from(program.try_clone().unwrap());
        // A session of its own, so that the terminal tells of Ctrl-C and of its size.
        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program()).args(command.get_args());
        session.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        for (name, value) in command.get_envs() {
            session.env(name, value.unwrap_or_default());
        }
        let child = session.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let screen = Parser::new(nonzero(lines), nonzero(columns), 0);
        let screen = Arc::new(Mutex::new(screen));
        let person = File::from(person);
        let (mut reading, shown) = (person.try_clone().unwrap(), screen.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It ends with an error when nobody has the other side any more.
            while let Ok(count @ 1..) = reading.read(&mut bytes) {
                shown.lock().unwrap().process(&bytes[..count]);
            }
        });
        Self { person, child, screen, modes }
    }

    pub(crate) fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Whether a program has the screen for itself.
    pub(crate) fn is_filled(&self) -> bool {
        self.screen.lock().unwrap().screen().alternate_screen()
    }

    /// Whether anything on it has a colour.
    pub(crate) fn is_coloured(&self) -> bool {
        let parser = self.screen.lock().unwrap();
        let (lines, columns) = parser.screen().size();
        let mut places = (0..lines.get()).flat_map(|y| (0..columns.get()).map(move |x| (y, x)));
        places.any(|(y, x)| {
            let cell = parser.screen().cell(y, x).unwrap();
            (cell.fgcolor(), cell.bgcolor()) != (vt100::Color::Default, vt100::Color::Default)
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types.
    pub(crate) fn press(&mut self, keys: &str) {
        self.person.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn resize(&mut self, columns: u16, lines: u16) {
        self.screen.lock().unwrap().set_size(nonzero(lines), nonzero(columns));
        tcsetwinsize(self.person.as_fd(), size(columns, lines)).unwrap();
    }

    /// Waits until a line of the screen is as it should be, and tells that line.
    #[track_caller]
    pub(crate) fn line(&mut self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(what, || {
                last = self.text();
                last.lines().find(|line| is(line)).map(str::to_owned)
            })
        }));
        found.unwrap_or_else(|_| panic!("{what} never came; the screen is\n{last}"))
    }

    /// Waits until a text is to be seen.
    #[track_caller]
    pub(crate) fn shows(&mut self, text: &str) -> String {
        self.line(&format!("`{text}`"), |line| line.contains(text))
    }

    /// Waits until a text is not to be seen any more.
    #[track_caller]
    pub(crate) fn hides(&self, text: &str) {
        eventually(&format!("`{text}` goes"), || (!self.text().contains(text)).then_some(()));
    }

    /// Waits until the program has ended, and looks at what it has left behind.
    #[track_caller]
    pub(crate) fn left(mut self) -> Left {
        let status = eventually("the program ends", || self.child.try_wait().unwrap());
        // What it wrote last may still be on its way.
        eventually("the screen is given back", || (!self.is_filled()).then_some(()));
        let hidden = || self.screen.lock().unwrap().screen().hide_cursor();
        eventually("the cursor is back", || (!hidden()).then_some(()));
        let modes = tcgetattr(&self.person).unwrap().local_modes;
        assert_eq!(modes, self.modes, "keys are not as they were");
        Left { code: status.code(), text: self.text() }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(columns: u16, lines: u16) -> Winsize {
    Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn nonzero(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).expect("a terminal has lines and columns")
}
