//! Colours and weights: the terminal's own sixteen, so that every theme can be read. Without colours
//! everything that they say is said by letters and weights too.

use grange_protocol::view::{AgentState, JobState};
use ratatui::style::{Color, Modifier, Style};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    colours: bool,
    dimmed: bool,
}

impl Look {
    pub(crate) const fn new(colours: bool) -> Self {
        Self { colours, dimmed: false }
    }

    /// The same for what may not be true any more.
    pub(super) const fn dimmed(self) -> Self {
        Self { dimmed: true, ..self }
    }

    pub(super) const fn without_colours(self) -> Self {
        Self { colours: false, ..self }
    }

    pub(super) fn plain(self) -> Style {
        let style = Style::new();
        if self.dimmed { style.add_modifier(Modifier::DIM) } else { style }
    }

    pub(super) fn soft(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn strong(self) -> Style {
        self.plain().add_modifier(Modifier::BOLD)
    }

    pub(super) fn good(self) -> Style {
        self.of(Color::Green)
    }

    pub(super) fn busy(self) -> Style {
        self.of(Color::Cyan)
    }

    pub(super) fn warning(self) -> Style {
        self.of(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    pub(super) fn bad(self) -> Style {
        self.of(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Memory that the farm did not take.
    pub(super) fn others(self) -> Style {
        self.of(Color::Magenta)
    }

    pub(super) fn title(self, strong: bool) -> Style {
        if strong { self.strong() } else { self.plain() }
    }

    pub(super) fn rule(self, strong: bool) -> Style {
        if strong { self.busy() } else { self.soft() }
    }

    /// The row that the keys are for.
    pub(super) fn selected(self, keys_are_here: bool) -> Style {
        let style = Style::new().add_modifier(Modifier::REVERSED);
        if keys_are_here { style } else { style.add_modifier(Modifier::DIM) }
    }

    pub(super) fn job(self, state: JobState) -> Style {
        match state {
            JobState::Active => self.busy(),
            JobState::Queued => self.plain(),
            JobState::Paused => self.of(Color::Yellow),
            JobState::Completed => self.good(),
            JobState::Canceled => self.soft(),
            JobState::Failed => self.bad(),
        }
    }

    pub(super) fn agent(self, state: AgentState) -> Style {
        match state {
            AgentState::Online => self.good(),
            AgentState::Draining | AgentState::Asleep => self.of(Color::Yellow),
            AgentState::Offline => self.soft(),
        }
    }

    fn of(self, colour: Color) -> Style {
        if self.colours { self.plain().fg(colour) } else { self.plain() }
    }
}
