//! The terminal while it is ours. Given back however the program ends: by leaving, by an error, or by
//! a panic, which ratatui's hook sees to before it is told.

use anyhow::Context;
use crossterm::terminal::is_raw_mode_enabled;
use grange_protocol::Millis;
use ratatui::DefaultTerminal;

use super::draw::{self, Look};
use super::model::{Model, Shown};

pub(super) struct Screen {
    terminal: DefaultTerminal,
    look: Look,
}

impl Screen {
    /// Takes the terminal: its keys, and a screen beside the one that it has.
    pub(super) fn open() -> anyhow::Result<Self> {
        // <https://no-color.org>: set and not empty.
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let opened = ratatui::try_init().inspect_err(|_| ratatui::restore());
        let terminal = opened.context("this terminal cannot be filled")?;
        Ok(Self { terminal, look: Look::new(colours) })
    }

    pub(super) fn draw(&mut self, model: &Model, now: Millis) -> anyhow::Result<Shown> {
        let mut shown = Shown::default();
        self.terminal
            .draw(|frame| shown = draw::draw(frame, model, self.look, now))
            .context("the terminal cannot be written to")?;
        Ok(shown)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Twice would put the cursor back over what a panic has said.
        if is_raw_mode_enabled().unwrap_or(true) {
            ratatui::restore();
        }
    }
}
