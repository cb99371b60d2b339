use super::*;
use crate::top::keys::{Action, Move};
use crate::top::model::News;
use crate::top::samples::{NOW, agents, busy, catch_up, empty, farm, idle, job};
use grange_protocol::JobId;
use grange_protocol::view::{FarmView, JobState, WatchEvent};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

fn terminal(model: &Model, look: Look, columns: u16, lines: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
    terminal
        .draw(|frame| {
            draw(frame, model, look, NOW);
        })
        .unwrap();
    terminal
}

/// What somebody sees in so many columns and lines.
fn seen(model: &Model, columns: u16, lines: u16) -> String {
    let terminal = terminal(model, Look::new(true), columns, lines);
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(columns.into());
    let text = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
    text.map(|row| row.trim_end().to_owned() + "\n").collect()
}

#[test]
fn a_busy_farm_in_a_usual_terminal() {
    insta::assert_snapshot!(seen(&busy(), 80, 24));
}

#[test]
fn a_busy_farm_in_a_large_terminal() {
    insta::assert_snapshot!(seen(&busy(), 140, 40));
}

#[test]
fn a_busy_farm_in_a_corner() {
    insta::assert_snapshot!(seen(&busy(), 40, 12));
}

#[test]
fn a_farm_without_anybody_says_what_comes_next() {
    insta::assert_snapshot!(seen(&empty(), 80, 12));
}

#[test]
fn before_anything_is_told() {
    let mut model = Model::new(idle());
    model.arrange();
    insta::assert_snapshot!(seen(&model, 80, 10));
}

#[test]
fn a_farm_that_is_away_says_since_when_and_why() {
    let mut model = busy();
    let why = "the connection to the coordinator was lost (timed out)";
    model.hear(News::Away(Millis(NOW.0 - 83_000), why.into()));
    insta::assert_snapshot!(seen(&model, 80, 24));
}

#[test]
fn the_pane_of_agents_scrolls_to_its_end_and_no_further() {
    let mut model = busy();
    model.press(Action::OtherPane);
    model.press(Action::Move(Move::Last));
    insta::assert_snapshot!(seen(&model, 80, 24));
}

#[test]
fn help_lies_over_everything() {
    let mut model = busy();
    model.press(Action::Help);
    insta::assert_snapshot!(seen(&model, 80, 24));
    insta::assert_snapshot!(seen(&model, 40, 12));
}

#[test]
fn a_question_a_filter_an_answer_and_a_refusal_are_in_the_same_line() {
    let mut model = busy();
    let last_lines = |model: &Model| {
        let text = seen(model, 80, 24);
        let lines: Vec<&str> = text.lines().collect();
        lines[22..].join("\n")
    };
    model.press(Action::Move(Move::Down));
    model.press(Action::Cancel);
    let mut told = vec![last_lines(&model)];
    model.press(Action::Back);
    told.push(last_lines(&model));
    model.press(Action::Filter);
    "turn".chars().for_each(|letter| _ = model.press(Action::Type(letter)));
    model.arrange();
    told.push(last_lines(&model));
    model.press(Action::EndFilter);
    model.hear(News::Acted(JobId(3), Err("viewers change nothing".into())));
    told.push(last_lines(&model));
    insta::assert_snapshot!(told.join("\n──────\n"));
}

#[test]
fn a_farm_without_room_says_so_below_its_name() {
    let mut model = busy();
    let why = "the disk of the coordinator is full: free some room in /var/lib/grange";
    let full = FarmView { storage_full: Some(why.into()), ..farm() };
    model.hear(News::Event(WatchEvent::Farm(full)));
    let text = seen(&model, 80, 24);
    assert_eq!(text.lines().nth(1), Some(why));
}

#[test]
fn what_people_decided_of_the_selected_job_is_said_below() {
    let mut model = busy();
    let mut said = |letters: &str| {
        model.press(Action::Filter);
        model.press(Action::EraseAll);
        letters.chars().for_each(|letter| _ = model.press(Action::Type(letter)));
        model.press(Action::EndFilter);
        seen(&model, 120, 24).lines().nth(22).unwrap().to_owned()
    };
    assert_eq!(
        said("#3"),
        "job 3 by grace@attic · tags big, night · no agent that is online has a GPU for OptiX"
    );
    assert_eq!(said("#5"), "job 5 by ada@meadow · kept");
}

#[test]
fn a_list_that_is_too_long_keeps_the_selected_job_in_sight() {
    let mut model = Model::new(farm());
    let many = (1..=200).map(|id| job(id, &format!("shot{id}.blend"), JobState::Queued, "50"));
    catch_up(&mut model, many.collect(), agents());
    for (to, name) in [
        (Move::First, "shot1.blend"),
        (Move::Last, "shot200.blend"),
        (Move::PageUp, "shot190.blend"),
        (Move::Up, "shot189.blend"),
    ] {
        model.arrange();
        model.press(Action::Move(to));
        let drawn = terminal(&model, Look::new(true), 80, 30);
        let buffer = drawn.backend().buffer();
        let reversed = buffer
            .content()
            .iter()
            .filter(|cell| cell.modifier.contains(ratatui::style::Modifier::REVERSED));
        let row: String = reversed.map(|cell| cell.symbol()).collect();
        assert!(row.contains(name), "{name} is not to be seen, but `{row}`");
        model.shown(Shown { jobs: 10, ..Shown::default() });
    }
}

#[test]
fn without_colours_there_are_none() {
    let mut model = busy();
    model.hear(News::Away(NOW, "gone".into()));
    for (look, some) in [(Look::new(false), false), (Look::new(true), true)] {
        let drawn = terminal(&model, look, 140, 40);
        let cells = drawn.backend().buffer().content();
        let coloured = cells.iter().any(|cell| (cell.fg, cell.bg) != (Color::Reset, Color::Reset));
        assert_eq!(coloured, some, "{look:?}");
    }
}

/// Terminals are dragged to any size.
#[test]
fn no_size_is_too_small() {
    let mut models = [busy(), empty(), Model::new(farm())];
    models[0].hear(News::Event(WatchEvent::Farm(FarmView {
        storage_full: Some("full".into()),
        ..farm()
    })));
    for model in &mut models {
        for key in [Action::Help, Action::Back, Action::OtherPane, Action::Filter] {
            model.press(key);
            model.arrange();
            for (columns, lines) in (1..100).step_by(7).flat_map(|x| (1..30).map(move |y| (x, y))) {
                terminal(model, Look::new(false), columns, lines);
            }
        }
    }
}

/// What comes from others is shown and never obeyed.
#[test]
fn control_characters_do_not_reach_the_terminal() {
    let mut model = Model::new(farm());
    let mut odd = job(1, "odd", JobState::Queued, "50");
    odd.reason = Some("before\u{1b}[2Jafter\nmore\u{7}".into());
    catch_up(&mut model, vec![odd], Vec::new());
    model.arrange();
    let drawn = terminal(&model, Look::new(true), 80, 24);
    let mut cells = drawn.backend().buffer().content().iter();
    assert!(cells.all(|cell| !cell.symbol().chars().any(char::is_control)));
}
