//! What keys mean, by what is being asked. Pure: keys in, actions out.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::model::Mode;

/// What somebody wants who has pressed a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Leave,
    Help,
    /// Lets go of what is being asked, shown or filtered; where there is nothing of that, leaves.
    Back,
    OtherPane,
    Move(Move),
    PauseOrResume,
    Cancel,
    Confirm,
    Retry,
    /// Steps of priority, up or down.
    Priority(i8),
    Filter,
    Type(char),
    Erase,
    EraseAll,
    EndFilter,
}

/// Where to in the pane that has the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
}

/// What the key asks for; `None` if it means nothing here.
pub(crate) fn action(mode: Mode, key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Action::Leave),
            KeyCode::Char('u') if mode == Mode::Filtering => Some(Action::EraseAll),
            _ => None,
        };
    }
    match mode {
        Mode::Looking => looking(key.code),
        Mode::Filtering => filtering(key.code),
        Mode::Canceling(_) => Some(match key.code {
            KeyCode::Char('y' | 'Y') => Action::Confirm,
            // Whatever else is pressed is no yes.
            _ => Action::Back,
        }),
        Mode::Help => Some(match key.code {
            KeyCode::Char('q') => Action::Leave,
            _ => Action::Back,
        }),
    }
}

fn looking(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Char('q') => Action::Leave,
        KeyCode::Esc => Action::Back,
        KeyCode::Char('?' | 'h') => Action::Help,
        KeyCode::Tab | KeyCode::BackTab => Action::OtherPane,
        KeyCode::Char('p') => Action::PauseOrResume,
        KeyCode::Char('c') => Action::Cancel,
        KeyCode::Char('r') => Action::Retry,
        // On many keyboards the plus is the equals sign with shift.
        KeyCode::Char('+' | '=') => Action::Priority(1),
        KeyCode::Char('-') => Action::Priority(-1),
        KeyCode::Char('/') => Action::Filter,
        KeyCode::Char('j') => Action::Move(Move::Down),
        KeyCode::Char('k') => Action::Move(Move::Up),
        KeyCode::Char('g') => Action::Move(Move::First),
        KeyCode::Char('G') => Action::Move(Move::Last),
        code => Action::Move(movement(code)?),
    })
}

fn filtering(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Enter => Action::EndFilter,
        KeyCode::Esc => Action::Back,
        KeyCode::Backspace => Action::Erase,
        KeyCode::Char(letter) => Action::Type(letter),
        code => Action::Move(movement(code)?),
    })
}

fn movement(code: KeyCode) -> Option<Move> {
    Some(match code {
        KeyCode::Up => Move::Up,
        KeyCode::Down => Move::Down,
        KeyCode::PageUp => Move::PageUp,
        KeyCode::PageDown => Move::PageDown,
        KeyCode::Home => Move::First,
        KeyCode::End => Move::Last,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use grange_protocol::JobId;

    fn press(mode: Mode, code: KeyCode) -> Option<Action> {
        action(mode, KeyEvent::from(code))
    }

    #[test]
    fn a_key_means_what_is_being_asked() {
        use KeyCode::{Backspace, Char, Down, Enter, Esc, F, Home, Tab};
        let canceling = Mode::Canceling(JobId(3));
        let story = [
            (Mode::Looking, Char('q'), Some(Action::Leave)),
            (Mode::Looking, Esc, Some(Action::Back)),
            (Mode::Looking, Char('?'), Some(Action::Help)),
            (Mode::Looking, Tab, Some(Action::OtherPane)),
            (Mode::Looking, Down, Some(Action::Move(Move::Down))),
            (Mode::Looking, Char('j'), Some(Action::Move(Move::Down))),
            (Mode::Looking, Char('k'), Some(Action::Move(Move::Up))),
            (Mode::Looking, Home, Some(Action::Move(Move::First))),
            (Mode::Looking, Char('p'), Some(Action::PauseOrResume)),
            (Mode::Looking, Char('c'), Some(Action::Cancel)),
            (Mode::Looking, Char('r'), Some(Action::Retry)),
            (Mode::Looking, Char('+'), Some(Action::Priority(1))),
            (Mode::Looking, Char('-'), Some(Action::Priority(-1))),
            (Mode::Looking, Char('/'), Some(Action::Filter)),
            (Mode::Looking, Char('y'), None),
            (Mode::Looking, F(7), None),
            // In a filter letters are letters.
            (Mode::Filtering, Char('q'), Some(Action::Type('q'))),
            (Mode::Filtering, Char('c'), Some(Action::Type('c'))),
            (Mode::Filtering, Backspace, Some(Action::Erase)),
            (Mode::Filtering, Down, Some(Action::Move(Move::Down))),
            (Mode::Filtering, Enter, Some(Action::EndFilter)),
            (Mode::Filtering, Esc, Some(Action::Back)),
            // Nothing but a yes is one.
            (canceling, Char('y'), Some(Action::Confirm)),
            (canceling, Char('n'), Some(Action::Back)),
            (canceling, Char('c'), Some(Action::Back)),
            (canceling, Enter, Some(Action::Back)),
            (Mode::Help, Char('q'), Some(Action::Leave)),
            (Mode::Help, Char('x'), Some(Action::Back)),
        ];
        for (mode, code, expected) in story {
            assert_eq!(press(mode, code), expected, "{code} in {mode:?}");
        }
    }

    #[test]
    fn ctrl_c_leaves_from_everywhere_and_releases_mean_nothing() {
        let ctrl = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
        for mode in [Mode::Looking, Mode::Filtering, Mode::Canceling(JobId(1)), Mode::Help] {
            assert_eq!(action(mode, ctrl('c')), Some(Action::Leave), "{mode:?}");
            let mut released = KeyEvent::from(KeyCode::Char('q'));
            released.kind = KeyEventKind::Release;
            assert_eq!(action(mode, released), None, "{mode:?}");
        }
        assert_eq!(action(Mode::Filtering, ctrl('u')), Some(Action::EraseAll));
        assert_eq!(action(Mode::Looking, ctrl('p')), None, "a pause is no Ctrl-P");
    }
}
