//! Starting programs: with their output in a log file, cut off from our terminal, under another account where
//! asked, and tied to the life of their owner where asked. Knows nothing of what the programs do.
//!
//! The ties are made by `setpriv` and `setsid` of util-linux, which every Debian has, because making them between
//! `fork` and `exec` in Rust takes unsafe code.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, mpsc};

use nix::sys::signal::Signal;

use crate::StackError;
use crate::account::Account;

/// A log longer than this is begun anew at the next start, in bytes.
const LOG_LIMIT: u64 = 8 << 20;

/// A program about to be started.
#[derive(Debug)]
pub(crate) struct Launch {
    program: PathBuf,
    arguments: Vec<OsString>,
    folder: PathBuf,
    account: Option<Account>,
}

/// What happens to the program when its owner ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tie {
    /// It gets this signal.
    Signalled(Signal),
    /// Nothing: it has a session of its own.
    Loose,
}

impl Launch {
    /// `program`, to run in `folder`.
    pub(crate) fn new(program: impl Into<PathBuf>, folder: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            folder: folder.into(),
            account: None,
        }
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Under another account.
    pub(crate) fn account(self, account: Option<Account>) -> Self {
        Self { account, ..self }
    }

    pub(crate) fn name(&self) -> String {
        self.program.display().to_string()
    }

    /// Runs it to its end with `input`; an unhappy end is an error that carries what it printed.
    pub(crate) fn run(self, input: &str) -> Result<(), StackError> {
        let name = self.name();
        let failed = |reason: &dyn std::fmt::Display| StackError::run(&name, &reason);
        let file = tempfile::tempfile().and_then(|mut file| {
            io::Write::write_all(&mut file, input.as_bytes())?;
            io::Seek::rewind(&mut file)?;
            Ok(file)
        });
        let mut command = self.command(None);
        command.stdin(file.map_err(|error| failed(&error))?);
        let output = command.output().map_err(|error| failed(&error))?;
        if output.status.success() {
            return Ok(());
        }
        let printed = [output.stdout, output.stderr].concat();
        Err(failed(&format!(
            "{}\n{}",
            output.status,
            String::from_utf8_lossy(&printed).trim_end()
        )))
    }

    /// Starts it in the background. Its process keeps its number through the programs that make the ties.
    pub(crate) fn start(self, tie: Tie, log: &Path) -> Result<Child, StackError> {
        let name = self.name();
        let mut command = self.command(Some(tie));
        let output = open_log(log).map_err(StackError::path("write", log))?;
        let errors = output.try_clone().map_err(StackError::path("write", log))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        spawn_from_lasting_thread(command).map_err(|error| StackError::run(name, &error))
    }

    fn command(self, tie: Option<Tie>) -> Command {
        let mut words: Vec<OsString> = match tie {
            Some(Tie::Loose) => vec!["setsid".into()],
            _ => Vec::new(),
        };
        words.extend(self.privileges(tie));
        words.push(self.program.into());
        words.extend(self.arguments);
        let mut command = Command::new(words.remove(0));
        command.args(words).current_dir(self.folder);
        if matches!(tie, Some(Tie::Signalled(_))) {
            // An interrupt typed at the owner's terminal is for the owner alone.
            command.process_group(0);
        }
        command
    }

    fn privileges(&self, tie: Option<Tie>) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(Account { uid, gid }) = self.account {
            words.extend(
                [
                    format!("--reuid={uid}"),
                    format!("--regid={gid}"),
                    "--clear-groups".into(),
                ]
                .map(Into::into),
            );
        }
        if let Some(Tie::Signalled(signal)) = tie {
            words.extend([
                "--pdeathsig".into(),
                signal.as_str().trim_start_matches("SIG").into(),
            ]);
        }
        if words.is_empty() {
            return words;
        }
        words.insert(0, "setpriv".into());
        words.push("--".into());
        words
    }
}

fn open_log(path: &Path) -> io::Result<fs::File> {
    let full = fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_LIMIT);
    if full {
        fs::remove_file(path)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

struct Job {
    command: Command,
    answer: mpsc::Sender<io::Result<Child>>,
}

/// Linux ties a child to the *thread* that started it, and test and runtime threads end early; so every child is
/// started by one thread that lasts as long as the process.
static SPAWNER: LazyLock<io::Result<mpsc::Sender<Job>>> = LazyLock::new(|| {
    let (sender, jobs) = mpsc::channel::<Job>();
    std::thread::Builder::new()
        .name("embedded-stack-spawner".into())
        .spawn(move || {
            for mut job in jobs {
                let _nobody_waits = job.answer.send(job.command.spawn());
            }
        })?;
    Ok(sender)
});

fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    let ended = |_| io::Error::other("the thread that starts services has ended");
    let spawner = SPAWNER
        .as_ref()
        .map_err(|error| io::Error::other(error.to_string()))?;
    let (answer, answered) = mpsc::channel();
    spawner
        .send(Job { command, answer })
        .map_err(|_| ended(mpsc::RecvError))?;
    answered.recv().map_err(ended)?
}
