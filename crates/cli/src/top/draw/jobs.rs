//! The pane of jobs: a row each, in as many columns as there is room for.

use grange_protocol::view::{JobState, JobView};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::look::Look;
use super::text::{fit, left, right, width};
use super::{bars, title};
use crate::print;
use crate::top::model::{Link, Model, Pane};

/// The pane's name, and the columns' names.
pub(super) const HEAD_LINES: u16 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Job,
    Name,
    State,
    Bar,
    Done,
    Frames,
    Rate,
    Left,
    Priority,
    By,
}

use Column::{Bar, By, Done, Frames, Job, Left, Name, Priority, Rate, State};

/// From left to right.
const COLUMNS: [Column; 10] = [Job, Name, State, Bar, Done, Frames, Rate, Left, Priority, By];
/// Those that are left out last come first.
const WORTH: [Column; 10] = [Name, State, Done, Job, Bar, Left, Frames, Priority, Rate, By];
/// Who gets the room that is left, in turn, and up to which width.
const GROWTH: [(Column, usize); 6] =
    [(Name, 20), (Bar, 12), (Name, 28), (Bar, 20), (Name, 44), (Bar, 32)];

impl Column {
    const fn name(self) -> &'static str {
        match self {
            Job => "JOB",
            Name => "NAME",
            State => "STATE",
            Bar => "PROGRESS",
            Done => "DONE",
            Frames => "FRAMES",
            Rate => "PER MIN",
            Left => "LEFT",
            Priority => "PRIO",
            By => "BY",
        }
    }

    const fn is_figure(self) -> bool {
        matches!(self, Job | Done | Frames | Rate | Left | Priority)
    }

    fn text(self, job: &JobView) -> String {
        let progress = &job.progress;
        match self {
            Job => job.id.to_string(),
            Name => job.name.to_string(),
            State => job.state.to_string(),
            Bar => String::new(),
            Done => print::percent(progress.fraction),
            Frames => print::frames(progress).unwrap_or_else(|| print::UNKNOWN.into()),
            Rate => print::rate(progress.frames_per_minute),
            Left => print::left(progress.seconds_left),
            Priority => job.priority.to_string(),
            By => job.submitter.to_string(),
        }
    }

    /// What it needs for these jobs, or wants at least.
    fn room(self, jobs: &[&JobView]) -> usize {
        let needed = || jobs.iter().map(|job| width(&self.text(job))).max().unwrap_or(0);
        match self {
            Name => 12,
            Bar => 8,
            State => 9,
            Done => 5,
            By => needed().clamp(14, 24),
            _ => needed().clamp(width(self.name()), 20),
        }
    }
}

/// Draws them; tells how many rows there are room for.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, look: Look, area: Rect) -> usize {
    let rows = usize::from(area.height.saturating_sub(HEAD_LINES));
    let count = model.rows().len();
    // The selected one stays in sight.
    let at = model.selected_row().unwrap_or(0);
    let from = (at + 1).saturating_sub(rows.div_ceil(2).max(1)).min(count.saturating_sub(rows));
    let jobs: Vec<&JobView> = model.rows().skip(from).take(rows).flatten().collect();
    let here = model.pane == Pane::Jobs;
    let mut name = String::from("Jobs");
    if !model.filter.is_empty() {
        name += &format!(" · /{}", model.filter);
    }
    if count > rows && rows > 0 {
        name += &format!(" · {}–{} of {count}", from + 1, (from + rows).min(count));
    }
    let room = usize::from(area.width);
    let columns = columns(&jobs, room);
    let mut lines = vec![title(&name, here, look, area.width), head(&columns, look)];
    for job in &jobs {
        let selected = model.selected().is_some_and(|selected| selected.id == job.id);
        let style = selected.then(|| look.selected(here));
        let line = row(job, &columns, if selected { look.without_colours() } else { look });
        lines.push(match style {
            Some(style) => filled(line, room).style(style),
            None => line,
        });
    }
    if jobs.is_empty() {
        let none = match (&model.link, model.filter.is_empty()) {
            (Link::Reading, _) => "reading the farm …",
            (_, true) => print::NO_JOBS,
            (_, false) => "no job is like that",
        };
        lines.push(Line::styled(fit(none, room), look.soft()));
    }
    lines.truncate(area.height.into());
    for (line, area) in lines.into_iter().zip(area.rows()) {
        frame.render_widget(line, area);
    }
    rows
}

/// Which columns there is room for, and how wide they are.
fn columns(jobs: &[&JobView], room: usize) -> Vec<(Column, usize)> {
    let mut kept: Vec<(Column, usize)> = Vec::new();
    let mut left = room + 1;
    for column in WORTH {
        let wanted = column.room(jobs) + 1;
        if wanted <= left {
            left -= wanted;
            kept.push((column, wanted - 1));
        }
    }
    for (column, upto) in GROWTH {
        let longest = jobs.iter().map(|job| width(job.name.as_str())).max().unwrap_or(0);
        let upto = if column == Name { upto.min(longest) } else { upto };
        if let Some((_, width)) = kept.iter_mut().find(|(kept, _)| *kept == column) {
            let more = upto.saturating_sub(*width).min(left);
            *width += more;
            left -= more;
        }
    }
    let order = |(column, _): &(Column, usize)| COLUMNS.iter().position(|other| other == column);
    kept.sort_by_key(order);
    kept
}

fn head(columns: &[(Column, usize)], look: Look) -> Line<'static> {
    let cells: Vec<String> = columns
        .iter()
        .map(|(column, room)| {
            if column.is_figure() {
                right(column.name(), *room)
            } else {
                left(column.name(), *room)
            }
        })
        .collect();
    Line::styled(cells.join(" "), look.soft())
}

fn row(job: &JobView, columns: &[(Column, usize)], look: Look) -> Line<'static> {
    let mut spans: Vec<Span<'static>> = Vec::new();
    for (column, room) in columns {
        if !spans.is_empty() {
            spans.push(Span::raw(" "));
        }
        let text = column.text(job);
        match column {
            Bar => {
                let style = match job.state {
                    JobState::Queued | JobState::Canceled => look.plain(),
                    state => look.job(state),
                };
                spans.extend(bars::progress(job.progress.fraction, *room, style, look));
            }
            State => spans.push(Span::styled(left(&text, *room), look.job(job.state))),
            column if column.is_figure() => {
                spans.push(Span::styled(right(&text, *room), look.plain()));
            }
            _ => spans.push(Span::styled(left(&text, *room), look.plain())),
        }
    }
    Line::from(spans)
}

/// The line, to the end of the pane.
fn filled(mut line: Line<'static>, room: usize) -> Line<'static> {
    let gap = room.saturating_sub(line.width());
    line.spans.push(Span::raw(" ".repeat(gap)));
    line
}
