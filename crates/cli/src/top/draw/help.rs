//! What the keys do, and what the bars mean.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::look::Look;

/// As short as it can be: it fits into twelve lines of forty columns.
const KEYS: [(&str, &str); 8] = [
    ("↑↓ j k", "choose a job, scroll agents"),
    ("Tab", "jobs or agents"),
    ("p", "pause, resume"),
    ("c", "cancel: asks first"),
    ("r", "retry what failed"),
    ("+ -", "priority, by 5"),
    ("/", "filter: words, or #12"),
    ("q Esc", "leave; Esc first ends a filter"),
];
const COLUMNS: u16 = 42;

pub(super) fn draw(frame: &mut Frame<'_>, look: Look) {
    let mut lines: Vec<Line<'_>> = KEYS
        .iter()
        .map(|(key, what)| {
            Line::from(vec![
                Span::styled(format!("{key:<7}"), look.strong()),
                Span::styled(*what, look.plain()),
            ])
        })
        .collect();
    lines.push(Line::from(vec![
        Span::styled("memory ", look.strong()),
        Span::styled("▒", look.others()),
        Span::raw(" others "),
        Span::styled("█", look.good()),
        Span::raw(" instances"),
    ]));
    lines.push(Line::from(vec![
        Span::raw("       "),
        Span::styled("░", look.good()),
        Span::raw(" set aside "),
        Span::styled("·", look.soft()),
        Span::raw(" free"),
    ]));
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX) + 2;
    let area = middle(frame.area(), COLUMNS, height);
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(" keys ").border_style(look.rule(true));
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn middle(area: Rect, columns: u16, lines: u16) -> Rect {
    let [row] = Layout::vertical([Constraint::Length(lines.min(area.height))])
        .flex(ratatui::layout::Flex::Center)
        .areas(area);
    let [middle] = Layout::horizontal([Constraint::Length(columns.min(area.width))])
        .flex(ratatui::layout::Flex::Center)
        .areas(row);
    middle
}
