//! The terminal: taken over, drawn on, and given back on every way out.

use std::io::{self, BufWriter, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{execute, queue};
use ratatui::{Frame, Terminal};
use tokio::sync::mpsc;

use super::keys;
use super::model::Wish;
use crate::cli::output;

/// Whether the terminal is ours now.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// The screen. Dropped, it gives the terminal back.
pub(super) struct Screen(Terminal<CrosstermBackend<BufWriter<output::Screen>>>);

impl Screen {
    /// Takes the terminal over.
    pub(super) fn take() -> io::Result<Self> {
        give_back_at_a_panic();
        IS_TAKEN.store(true, Ordering::SeqCst);
        // From here on, what fails gives it back.
        let screen = Terminal::new(CrosstermBackend::new(BufWriter::new(output::Screen))).map(Self);
        let taken = screen.and_then(|screen| {
            enable_raw_mode()?;
            execute!(output::Screen, EnterAlternateScreen, Hide)?;
            Ok(screen)
        });
        if taken.is_err() {
            give_back(output::Screen);
        }
        taken
    }

    /// Draws what has changed.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(draw).map(drop)
    }

    /// Has everything be drawn anew: something else may have written on the terminal.
    pub(super) fn forget(&mut self) -> io::Result<()> {
        self.0.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back(output::Screen);
    }
}

/// As it was. Trouble with it is not worth a word: there is nowhere to say it.
fn give_back(mut out: impl Write) {
    if IS_TAKEN.swap(false, Ordering::SeqCst) {
        let _restored = disable_raw_mode();
        let _left = queue!(out, Show, LeaveAlternateScreen).and_then(|()| out.flush());
    }
}

/// What a panic says is to be read on the terminal as it was.
fn give_back_at_a_panic() {
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Whoever panics may hold what the output is written by.
            give_back(io::stdout());
            before(panic);
        }));
    });
}

/// Listens to the keys, on a thread of its own: nothing that is waited for elsewhere keeps them from being heard.
pub(super) fn wishes() -> io::Result<mpsc::UnboundedReceiver<Wish>> {
    let (tell, wishes) = mpsc::unbounded_channel();
    let listen = move || {
        while let Ok(event) = event::read() {
            if let Some(wish) = keys::wish(&event)
                && tell.send(wish).is_err()
            {
                return;
            }
        }
    };
    std::thread::Builder::new().name("keys".into()).spawn(listen)?;
    Ok(wishes)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const PANICS: &str = "cli::status::watch::screen::tests::a_panic_before_the_screen_is_given_back";

    #[test]
    #[ignore = "run on a terminal of its own by the test below"]
    fn a_panic_before_the_screen_is_given_back() {
        let screen = Screen::take().unwrap();
        // Nothing is dropped before the hook has spoken.
        assert!(std::mem::size_of_val(&screen) == 0, "said on the way out");
    }

    #[test]
    fn a_panic_is_said_on_the_terminal_as_it_was_before() {
        let test = std::env::current_exe().unwrap();
        let script = format!(
            "'{}' --ignored --exact {PANICS} --nocapture --test-threads=1; stty -a",
            test.display()
        );
        let ran = Command::new("script")
            .args(["--quiet", "--command", &script, "/dev/null"])
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&ran.stdout);
        let place = |what: &str| {
            text.find(what)
                .unwrap_or_else(|| panic!("{what:?} is not in {text:?}"))
        };
        assert!(place("\u{1b}[?1049h") < place("\u{1b}[?1049l"), "{text:?}");
        assert!(place("\u{1b}[?1049l") < place("said on the way out"), "{text:?}");
        assert!(
            text.contains("\u{1b}[?25h"),
            "the cursor is there again: {text:?}"
        );
        assert!(
            text.contains(" icanon") && text.contains(" echo "),
            "keys are echoed again: {text:?}"
        );
    }
}
