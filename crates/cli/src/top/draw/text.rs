//! Text in columns of a terminal, where a letter may take two.

use ratatui::text::Span;

pub(super) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// As much of a text as fits, with a sign that there is more.
pub(super) fn fit(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.into();
    }
    let mut kept = String::new();
    let mut taken = 1;
    for letter in text.chars() {
        taken += width(letter.encode_utf8(&mut [0; 4]));
        if taken > room {
            break;
        }
        kept.push(letter);
    }
    if room > 0 {
        kept.push('…');
    }
    kept
}

/// The text with spaces behind it, exactly so wide.
pub(super) fn left(text: &str, room: usize) -> String {
    let text = fit(text, room);
    let gap = room.saturating_sub(width(&text));
    text + &" ".repeat(gap)
}

/// The same with spaces before it.
pub(super) fn right(text: &str, room: usize) -> String {
    let text = fit(text, room);
    " ".repeat(room.saturating_sub(width(&text))) + &text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_says_so() {
        assert_eq!(fit("shot.blend", 10), "shot.blend");
        assert_eq!(fit("shot.blend", 9), "shot.ble…");
        assert_eq!(fit("shot", 1), "…");
        assert_eq!(fit("shot", 0), "");
        // Letters of two columns are not cut in half.
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(left("日", 4), "日  ");
        assert_eq!(right("日", 4), "  日");
        assert_eq!(left("shot", 2), "s…");
    }
}
