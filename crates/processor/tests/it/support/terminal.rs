//! A terminal of a test's own: a program runs on it, keys are pressed, and its screen is read as a person would.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};

use super::{BIN, World};

/// A terminal, and what runs on it. The program is killed when this is dropped.
pub(crate) struct Terminal {
    child: Child,
    keys: File,
    /// Kept, so that the terminal's settings can be looked at when the program has gone.
    line: OwnedFd,
    emulator: Arc<Mutex<vt100::Parser>>,
}

fn cells(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

impl Terminal {
    /// Runs our program on a terminal of so many columns and rows.
    pub(crate) fn run(world: &World, arguments: &[&str], (columns, rows): (u16, u16)) -> Self {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let terminal = openpty(&size, None).unwrap();
        for end in [&terminal.master, &terminal.slave] {
            let closed_in_children = nix::fcntl::FdFlag::FD_CLOEXEC;
            nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFD(closed_in_children)).unwrap();
        }
        let [input, output, errors] = [0; 3].map(|_| terminal.slave.try_clone().unwrap());
        // What it runs has this terminal and no other.
        let all = [&["--ctty", BIN], arguments].concat();
        let mut command: Command = world.program("setsid", &all, &[("TERM", "xterm-256color")]);
        let child = command
            .stdin(input)
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap();
        let emulator = Arc::new(Mutex::new(vt100::Parser::new(cells(rows), cells(columns), 0)));
        let keys = File::from(terminal.master);
        let mut drawn = keys.try_clone().unwrap();
        let shown = emulator.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = drawn.read(&mut bytes) {
                shown.lock().unwrap().process(&bytes[..count]);
            }
        });
        Self {
            child,
            keys,
            line: terminal.slave,
            emulator,
        }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Changes the terminal's size, as a window does that is dragged.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let screen = &mut self.emulator.lock().unwrap();
        screen.set_size(cells(rows), cells(columns));
        let path = std::fs::read_link(format!("/proc/self/fd/{}", self.line.as_raw_fd())).unwrap();
        let resized = Command::new("stty")
            .arg("-F")
            .arg(path)
            .args(["rows", &rows.to_string(), "columns", &columns.to_string()])
            .status();
        assert!(resized.unwrap().success());
    }

    /// What stands on the screen, row by row.
    pub(crate) fn rows(&self) -> Vec<String> {
        let emulator = self.emulator.lock().unwrap();
        let screen = emulator.screen();
        let columns = screen.size().1.get();
        screen
            .rows(0, columns)
            .map(|row| row.trim_end().to_owned())
            .collect()
    }

    pub(crate) fn shows(&self, text: &str) -> bool {
        self.rows().iter().any(|row| row.contains(text))
    }

    pub(crate) async fn shows_soon(&self, text: &str, limit: Duration) {
        self.becomes(&format!("{text:?} is shown"), limit, || self.shows(text))
            .await;
    }

    /// Waits for something to come true of it.
    pub(crate) async fn becomes(&self, what: &str, limit: Duration, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + limit;
        while !condition() {
            assert!(
                Instant::now() < deadline,
                "waited {limit:?} in vain until {what}: {:#?}",
                self.rows()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether a program has it for itself: a screen of its own, and no cursor.
    pub(crate) fn is_taken(&self) -> bool {
        let emulator = self.emulator.lock().unwrap();
        emulator.screen().alternate_screen() && emulator.screen().hide_cursor()
    }

    /// Whether it is as it was: the first screen, a cursor, and keys that are echoed, line by line.
    pub(crate) fn is_given_back(&self) -> bool {
        let emulator = self.emulator.lock().unwrap();
        let flags = tcgetattr(&self.line).unwrap().local_flags;
        let is_as_before = flags.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
        is_as_before && !emulator.screen().alternate_screen() && !emulator.screen().hide_cursor()
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for the program's end.
    pub(crate) async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it still runs: {:#?}", self.rows());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _already_waited_for = self.child.wait();
    }
}
