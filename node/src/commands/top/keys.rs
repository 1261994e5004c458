//! What keys mean.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::model::PAGE_COUNT;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    Pause,
    /// Ask less often.
    Slower,
    /// Ask more often.
    Faster,
    /// Show a page, counted from 0.
    Page(usize),
    NextPage,
    PreviousPage,
    /// Lines, down or up.
    Scroll(i16),
    Help,
}

/// Lines of a screenful, about.
const SCREENFUL: i16 = 10;

/// What a key means, if anything.
pub(super) fn action(key: &KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if is_control => Some(Action::Quit),
        KeyCode::Char(_) if is_control => None,
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Some(Action::Quit),
        KeyCode::Char('p' | 'P' | ' ') => Some(Action::Pause),
        KeyCode::Char('+' | '=') => Some(Action::Slower),
        KeyCode::Char('-' | '_') => Some(Action::Faster),
        KeyCode::Char('?' | 'h') => Some(Action::Help),
        KeyCode::Char('j') | KeyCode::Down => Some(Action::Scroll(1)),
        KeyCode::Char('k') | KeyCode::Up => Some(Action::Scroll(-1)),
        KeyCode::PageDown => Some(Action::Scroll(SCREENFUL)),
        KeyCode::PageUp => Some(Action::Scroll(-SCREENFUL)),
        KeyCode::Tab | KeyCode::Right => Some(Action::NextPage),
        KeyCode::BackTab | KeyCode::Left => Some(Action::PreviousPage),
        KeyCode::Char(digit) => {
            let number = usize::try_from(digit.to_digit(10)?).ok()?;
            let index = number.checked_sub(1)?;
            (index < PAGE_COUNT).then_some(Action::Page(index))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_help() {
        let plain = KeyModifiers::NONE;
        let table = [
            (KeyCode::Char('q'), plain, Some(Action::Quit)),
            (KeyCode::Esc, plain, Some(Action::Quit)),
            (
                KeyCode::Char('c'),
                KeyModifiers::CONTROL,
                Some(Action::Quit),
            ),
            (KeyCode::Char('c'), plain, None),
            (KeyCode::Char('q'), KeyModifiers::CONTROL, None),
            (KeyCode::Char('p'), plain, Some(Action::Pause)),
            (
                KeyCode::Char('+'),
                KeyModifiers::SHIFT,
                Some(Action::Slower),
            ),
            (KeyCode::Char('-'), plain, Some(Action::Faster)),
            (KeyCode::Tab, plain, Some(Action::NextPage)),
            (
                KeyCode::BackTab,
                KeyModifiers::SHIFT,
                Some(Action::PreviousPage),
            ),
            (KeyCode::Char('1'), plain, Some(Action::Page(0))),
            (KeyCode::Char('5'), plain, Some(Action::Page(4))),
            (KeyCode::Char('6'), plain, None),
            (KeyCode::Char('0'), plain, None),
            (KeyCode::Char('?'), KeyModifiers::SHIFT, Some(Action::Help)),
            (KeyCode::Down, plain, Some(Action::Scroll(1))),
            (KeyCode::F(1), plain, None),
        ];
        for (code, modifiers, expected) in table {
            assert_eq!(
                action(&KeyEvent::new(code, modifiers)),
                expected,
                "{code:?}"
            );
        }
        let mut released = KeyEvent::new(KeyCode::Char('q'), plain);
        released.kind = KeyEventKind::Release;
        assert_eq!(action(&released), None);
    }
}
