//! What an instance prints, kept in bounded memory.
//!
//! The beginning of a log says what was started and the end what went wrong; the middle of a long
//! one is cut out.

use std::collections::VecDeque;

use grange_protocol::limits::LOG_MAX;

/// Bytes kept of the beginning; the rest of [`LOG_MAX`] goes to the end.
const HEAD_MAX: usize = LOG_MAX / 4;
const CUT_NOTE_MAX: usize = 64;
const TAIL_MAX: usize = LOG_MAX - HEAD_MAX - CUT_NOTE_MAX;
/// Bytes of one line; the rest of a longer one is dropped.
const LINE_MAX: usize = 4096;

/// Lines since the log was last taken.
#[derive(Debug, Default)]
pub(crate) struct Log {
    head: String,
    tail: VecDeque<String>,
    tail_len: usize,
    cut_lines: u64,
}

impl Log {
    pub(crate) fn push(&mut self, line: &str) {
        let line = clipped(line.trim_end());
        if line.is_empty() {
            return;
        }
        if self.tail.is_empty() && self.head.len() + line.len() < HEAD_MAX {
            self.head.push_str(line);
            self.head.push('\n');
            return;
        }
        self.tail_len += line.len() + 1;
        self.tail.push_back(line.into());
        while self.tail_len > TAIL_MAX {
            let Some(oldest) = self.tail.pop_front() else { break };
            self.tail_len -= oldest.len() + 1;
            self.cut_lines += 1;
        }
    }

    /// All of it, at most [`LOG_MAX`] bytes, and begins anew.
    pub(crate) fn take(&mut self) -> String {
        let text = self.text();
        *self = Self::default();
        text
    }

    /// The last lines, for a sentence about what went wrong.
    pub(crate) fn last_lines(&self, count: usize) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().rev().take(count).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn text(&self) -> String {
        let mut text = self.head.clone();
        if self.cut_lines > 0 {
            text.push_str(&format!("[… {} lines were cut out here …]\n", self.cut_lines));
        }
        for line in &self.tail {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

fn clipped(line: &str) -> &str {
    &line[..line.floor_char_boundary(LINE_MAX)]
}

/// Makes lines of chunks of bytes. A line without an end is given out in pieces, so that a flood
/// of bytes never takes more memory than a line.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    const PIECE_MAX: usize = 64 << 10;

    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut line: impl FnMut(&str)) {
        while let Some(at) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.rest.extend_from_slice(&bytes[..at]);
            self.flush(&mut line);
            bytes = &bytes[at + 1..];
        }
        self.rest.extend_from_slice(bytes);
        if self.rest.len() > Self::PIECE_MAX {
            self.flush(&mut line);
        }
    }

    /// Gives out what has no end yet.
    pub(crate) fn flush(&mut self, mut line: impl FnMut(&str)) {
        if !self.rest.is_empty() {
            line(&String::from_utf8_lossy(&self.rest));
            self.rest.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_short_log_is_whole_and_taken_once() {
        let mut log = Log::default();
        log.push("Blender 3.4.1");
        log.push("");
        log.push("Saved: a.png   ");
        assert_eq!(log.take(), "Blender 3.4.1\nSaved: a.png\n");
        assert_eq!(log.take(), "");
    }

    #[test]
    fn the_middle_of_a_long_log_is_cut_out() {
        let mut log = Log::default();
        for number in 0..20_000 {
            log.push(&format!("line {number}"));
        }
        let text = log.take();
        assert!(text.len() <= LOG_MAX, "{}", text.len());
        assert!(text.starts_with("line 0\nline 1\n"));
        assert!(text.ends_with("line 19998\nline 19999\n"));
        assert!(text.contains("lines were cut out here"));
    }

    #[test]
    fn a_flood_without_line_ends_stays_bounded() {
        let mut lines = Lines::default();
        let mut longest = 0;
        for _ in 0..100 {
            lines.feed(&[b'x'; 50_000], |line| longest = longest.max(line.len()));
        }
        assert!(longest <= 2 * Lines::PIECE_MAX);
        assert!(lines.rest.len() <= Lines::PIECE_MAX);
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(text in "[ab\n\r\u{e4}]{0,60}", size in 1usize..7) {
            let whole: Vec<String> =
                text.split(['\n', '\r']).filter(|line| !line.is_empty()).map(Into::into).collect();
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                lines.feed(chunk, |line| got.push(line.to_owned()));
            }
            lines.flush(|line| got.push(line.to_owned()));
            prop_assert_eq!(got, whole);
        }

        #[test]
        fn no_log_is_too_long(lines in proptest::collection::vec("\\PC{0,9000}", 0..30)) {
            let mut log = Log::default();
            for _ in 0..5 {
                for line in &lines {
                    log.push(line);
                }
            }
            prop_assert!(log.take().len() <= LOG_MAX);
        }
    }
}
