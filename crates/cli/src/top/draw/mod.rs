//! The model as a picture. Pure: no terminal, no clock; the same model gives the same picture.

mod agents;
mod bars;
mod help;
mod jobs;
mod look;
mod text;

use std::time::Duration;

use grange_protocol::Millis;
use grange_protocol::view::AgentState;
use indicatif::FormattedDuration;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

pub(crate) use look::Look;

use super::model::{Link, Mode, Model, Notice, Pane, Shown};
use crate::print;
use agents::Agents;
use text::{fit, width};

/// Lines below which there is room for one pane only.
const BOTH_PANES_LINES: u16 = 8;
/// Lines below which the keys are not told.
const HINTS_LINES: u16 = 10;

/// Draws the model as it is at a moment; tells what of it was to be seen.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &Model, look: Look, now: Millis) -> Shown {
    let area = frame.area();
    let problem = u16::from(model.farm.storage_full.is_some());
    let hints = u16::from(area.height >= HINTS_LINES);
    let [header, problem, panes, status, hints] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(problem),
        Constraint::Min(0),
        Constraint::Length(1),
        Constraint::Length(hints),
    ])
    .areas(area);
    frame.render_widget(headline(model, look, now, header.width), header);
    if let Some(why) = &model.farm.storage_full {
        frame.render_widget(Line::styled(why.clone(), look.bad()), problem);
    }
    let shown = draw_panes(frame, model, look, now, panes);
    frame.render_widget(said(model, look, status.width), status);
    frame.render_widget(keys(model, look, hints.width), hints);
    if model.mode == Mode::Help {
        help::draw(frame, look);
    }
    shown
}

fn draw_panes(frame: &mut Frame<'_>, model: &Model, look: Look, now: Millis, area: Rect) -> Shown {
    // What was is dimmed while nobody knows what is.
    let look = if matches!(model.link, Link::Away { .. }) { look.dimmed() } else { look };
    let agents = Agents::of(model);
    let jobs_wanted = jobs::HEAD_LINES + lines_of(model.rows().len().max(1));
    let agents_wanted = agents::HEAD_LINES + lines_of(agents.lines_count());
    let jobs_height = match model.pane {
        Pane::Jobs if area.height < BOTH_PANES_LINES => area.height,
        Pane::Agents if area.height < BOTH_PANES_LINES => 0,
        // Each has half, and what the other does not need.
        _ => jobs_wanted.min((area.height / 2).max(area.height.saturating_sub(agents_wanted))),
    };
    let [of_jobs, of_agents] =
        Layout::vertical([Constraint::Length(jobs_height), Constraint::Min(0)]).areas(area);
    let jobs = jobs::draw(frame, model, look, of_jobs);
    let (agents, agents_from) = agents.draw(frame, look, now, of_agents);
    Shown { jobs, agents, agents_from }
}

fn lines_of(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX >> 1)
}

/// The farm in a line: who it is and whether it is there, then as much of how it does as fits.
fn headline(model: &Model, look: Look, now: Millis, room: u16) -> Line<'static> {
    let farm = &model.farm;
    let (state, style) = match &model.link {
        Link::Reading => ("reading the farm …".to_owned(), look.soft()),
        Link::Live => ("live".to_owned(), look.good()),
        Link::Away { since, .. } => {
            let seconds = Duration::from_millis(now.since(*since)).as_secs();
            let away = FormattedDuration(Duration::from_secs(seconds));
            (format!("away for {away}, connecting again"), look.warning())
        }
    };
    let mut spans = vec![
        Span::styled(format!(" {} ", fit(farm.farm.as_str(), 24)), look.title(true)),
        Span::raw(" "),
        Span::styled(state, style),
    ];
    let agents = model.agents();
    let online = agents.iter().filter(|agent| agent.state == AgentState::Online).count();
    let mut parts = vec![format!("{} frames/min", print::rate(farm.frames_per_minute))];
    parts.extend(farm.seconds_left.map(|left| format!("{} left", print::left(Some(left)))));
    parts.extend([
        format!("{online}/{} agents", agents.len()),
        format!("{}/{} jobs open", farm.jobs_open, model.jobs_count()),
        format!("{} tasks running", farm.tasks_running),
    ]);
    // Of nothing everything is done.
    parts.extend((farm.jobs_open > 0).then(|| print::percent(farm.fraction)));
    let taken: usize = spans.iter().map(Span::width).sum();
    let mut left = usize::from(room).saturating_sub(taken + 2);
    let mut told = String::new();
    for part in parts {
        let separator = if told.is_empty() { "" } else { " · " };
        let wanted = width(separator) + width(&part);
        if wanted > left {
            break;
        }
        left -= wanted;
        told = told + separator + &part;
    }
    let gap = usize::from(room).saturating_sub(taken + width(&told) + 1);
    spans.push(Span::raw(" ".repeat(gap)));
    spans.push(Span::raw(told));
    Line::from(spans)
}

/// What is asked or was answered, else more about the selected job.
fn said(model: &Model, look: Look, room: u16) -> Line<'static> {
    let (text, style) = match (&model.mode, &model.notice, &model.link) {
        (Mode::Filtering, ..) => {
            let found = format!("  {} of {} jobs", model.rows().len(), model.jobs_count());
            return Line::from(vec![
                Span::styled(format!("/{}", model.filter), look.strong()),
                Span::styled("▏", look.strong()),
                Span::styled(found, look.soft()),
            ]);
        }
        (Mode::Canceling(job), ..) => {
            let name = model.job(*job).map_or("", |job| job.name.as_str());
            // The question stays whole, however long the name is.
            let question =
                |name: &str| format!("cancel job {job}{name}? finished frames are kept: y or n");
            let left = usize::from(room).saturating_sub(width(&question(" ")));
            (question(&format!(" {}", fit(name, left))), look.warning())
        }
        (_, Some(Notice::Said(text)), _) => (text.clone(), look.strong()),
        (_, Some(Notice::Refused(text)), _) => (text.clone(), look.bad()),
        (_, None, Link::Away { why, .. }) => (why.clone(), look.soft()),
        (_, None, _) => (about_selected(model), look.soft()),
    };
    Line::styled(fit(&text, room.into()), style)
}

fn about_selected(model: &Model) -> String {
    let Some(job) = model.selected() else { return String::new() };
    let mut parts = vec![format!("job {} by {}", job.id, job.submitter)];
    parts.extend(job.kept.then(|| "kept".into()));
    if !job.tags.is_empty() {
        parts.push(format!("tags {}", print::tags(&job.tags)));
    }
    if job.progress.tasks.failed > 0 {
        parts.push(format!("{} failed", job.progress.tasks.failed));
    }
    parts.extend(job.reason.clone());
    parts.join(" · ")
}

/// The keys, as many as fit, those that help on first.
fn keys(model: &Model, look: Look, room: u16) -> Line<'static> {
    let paused = model.selected().map(|job| job.state.to_string()) == Some("paused".into());
    let of_jobs = [
        ("c", "cancel"),
        ("p", if paused { "resume" } else { "pause" }),
        ("r", "retry"),
        ("+-", "priority"),
        ("/", "filter"),
        ("↑↓", "choose"),
        ("Tab", "agents"),
    ];
    let told: &[(&str, &str)] = match (model.mode, model.pane) {
        (Mode::Filtering, _) => &[("Enter", "done"), ("Esc", "drop the filter")],
        (Mode::Canceling(_), _) => &[("y", "yes"), ("n", "no")],
        (_, Pane::Jobs) => &of_jobs,
        (_, Pane::Agents) => &[("↑↓", "scroll"), ("Tab", "jobs")],
    };
    let general: &[(&str, &str)] = match model.mode {
        Mode::Looking | Mode::Help => &[("?", "help"), ("q", "leave")],
        Mode::Filtering | Mode::Canceling(_) => &[],
    };
    let mut spans: Vec<Span<'static>> = Vec::new();
    let mut left = usize::from(room);
    for (key, what) in general.iter().chain(told) {
        let wanted = width(key) + width(what) + 3;
        if wanted > left {
            break;
        }
        left -= wanted;
        spans.push(Span::styled((*key).to_owned(), look.strong()));
        spans.push(Span::styled(format!(" {what}  "), look.soft()));
    }
    Line::from(spans)
}

/// A pane's first line: its name in a rule, stronger where the keys are.
fn title(text: &str, keys_are_here: bool, look: Look, room: u16) -> Line<'static> {
    let rule = if keys_are_here { "━" } else { "─" };
    let text = fit(text, usize::from(room).saturating_sub(4));
    let rest = usize::from(room).saturating_sub(width(&text) + 4);
    let style: Style = look.title(keys_are_here);
    Line::from(vec![
        Span::styled(rule.repeat(2), look.rule(keys_are_here)),
        Span::styled(format!(" {text} "), style),
        Span::styled(rule.repeat(rest), look.rule(keys_are_here)),
    ])
}

#[cfg(test)]
mod tests;
