//! Which key means what.

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::model::{View, Wish};

/// Lines of a page that is turned.
const PAGE: i32 = 10;

/// The line at the bottom of the screen.
pub(super) const HELP: &str = "q leave  s streams  i instances  t stores  d letters  c cohorts  Esc back";

/// What is wished by pressing a key, or by making the terminal larger or smaller.
pub(super) fn wish(event: &Event) -> Option<Wish> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => of_key(*key),
        Event::Resize(_, _) => Some(Wish::Redraw),
        _ => None,
    }
}

fn of_key(key: KeyEvent) -> Option<Wish> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c' | 'd') => Some(Wish::Leave),
            KeyCode::Char('l') => Some(Wish::Redraw),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Char('q' | 'Q') => Wish::Leave,
        KeyCode::Char('s') => Wish::Look(View::Streams),
        KeyCode::Char('i') => Wish::Look(View::Instances),
        KeyCode::Char('t') => Wish::Look(View::Stores),
        KeyCode::Char('d') => Wish::Look(View::Letters),
        KeyCode::Char('c') => Wish::Look(View::Cohorts),
        KeyCode::Esc | KeyCode::Char('o') => Wish::Look(View::Overview),
        KeyCode::Down | KeyCode::Char('j') => Wish::Scroll(1),
        KeyCode::Up | KeyCode::Char('k') => Wish::Scroll(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => Wish::Scroll(PAGE),
        KeyCode::PageUp => Wish::Scroll(-PAGE),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_the_keys_that_there_are() {
        for (key, named) in [
            (KeyCode::Char('q'), "q leave"),
            (KeyCode::Char('s'), "s streams"),
            (KeyCode::Char('i'), "i instances"),
            (KeyCode::Char('t'), "t stores"),
            (KeyCode::Char('d'), "d letters"),
            (KeyCode::Char('c'), "c cohorts"),
            (KeyCode::Esc, "Esc back"),
        ] {
            let pressed = Event::Key(KeyEvent::new(key, KeyModifiers::NONE));
            assert!(wish(&pressed).is_some() && HELP.contains(named), "{named}");
        }
        assert!(HELP.chars().count() <= 78, "on the narrowest usual terminal");
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(wish(&Event::Key(interrupt)), Some(Wish::Leave));
        assert_eq!(
            wish(&Event::Key(KeyEvent::new(KeyCode::F(5), KeyModifiers::NONE))),
            None
        );
    }
}
