use super::*;
use crate::top::samples::{agents, busy, catch_up, empty, farm, job, rendering};

fn ids(model: &Model) -> Vec<u32> {
    model.rows().flatten().map(|job| job.id.0).collect()
}

fn press(model: &mut Model, keys: &[Action]) -> Vec<Request> {
    let requests = keys.iter().filter_map(|key| model.press(*key)).collect();
    model.arrange();
    requests
}

fn refused(model: &Model) -> &str {
    match &model.notice {
        Some(Notice::Refused(why)) => why,
        other => panic!("nothing was refused: {other:?}"),
    }
}

fn away(model: &mut Model, since: u64, why: &str) {
    model.hear(News::Away(Millis(since), why.into()));
}

#[test]
fn jobs_that_render_come_first_and_the_latest_end_last() {
    let model = busy();
    // Active by priority, queued, paused, then what has ended, the latest first.
    assert_eq!(ids(&model), [2, 1, 8, 3, 7, 4, 5, 6]);
    assert_eq!(model.selected().map(|job| job.id), Some(JobId(2)));
}

#[test]
fn the_selected_job_stays_selected_wherever_it_goes() {
    let mut model = busy();
    press(&mut model, &[Action::Move(Move::Down)]);
    assert_eq!(model.selected().map(|job| job.id), Some(JobId(1)));
    let ended = job(1, "shot.blend", JobState::Completed, "50");
    model.hear(News::Event(WatchEvent::Job(ended)));
    model.arrange();
    assert_eq!(model.selected().map(|job| job.id), Some(JobId(1)));
    assert_eq!(ids(&model), [2, 8, 3, 7, 1, 4, 5, 6]);
    assert_eq!(model.selected_row(), Some(4));
    // One that is not shown any more is not acted on.
    press(&mut model, &[Action::Filter, Action::Type('#'), Action::Type('7'), Action::EndFilter]);
    assert_eq!(model.selected().map(|job| job.id), Some(JobId(7)));
}

#[test]
fn moves_stop_at_the_ends() {
    let mut model = busy();
    model.shown(Shown { jobs: 3, agents: 4, agents_from: 0 });
    let mut at = |to| {
        press(&mut model, &[Action::Move(to)]);
        model.selected_row().unwrap()
    };
    let story = [
        (Move::Up, 0),
        (Move::PageDown, 3),
        (Move::Down, 4),
        (Move::Last, 7),
        (Move::Down, 7),
        (Move::PageUp, 4),
        (Move::First, 0),
    ];
    for (to, row) in story {
        assert_eq!(at(to), row, "{to:?}");
    }
    press(&mut model, &[Action::OtherPane, Action::Move(Move::PageDown)]);
    assert_eq!((model.agents_from, model.selected_row()), (4, Some(0)));
    press(&mut model, &[Action::Move(Move::Last)]);
    // What is drawn says how far that was.
    model.shown(Shown { jobs: 3, agents: 4, agents_from: 9 });
    press(&mut model, &[Action::Move(Move::Up)]);
    assert_eq!(model.agents_from, 8);
    let mut none = empty();
    assert_eq!(press(&mut none, &[Action::Move(Move::Last)]), []);
}

#[test]
fn a_filter_takes_words_and_numbers() {
    let mut model = busy();
    let mut like = |words: &str| {
        press(&mut model, &[Action::EraseAll]);
        let typed: Vec<Action> = words.chars().map(Action::Type).collect();
        press(&mut model, &typed);
        ids(&model)
    };
    assert_eq!(like("BLEND active"), [2, 1]);
    assert_eq!(like("grace"), [3]);
    assert_eq!(like("night"), [3]);
    assert_eq!(like("kept"), [5]);
    assert_eq!(like("session"), [8]);
    assert_eq!(like("#1"), [1]);
    assert_eq!(like("nothing"), [0; 0]);
    assert_eq!(press(&mut model, &[Action::Cancel]), []);
    assert_eq!(refused(&model), "there is no job to do that with");
    // Also for somebody who types faster than pictures come.
    model.press(Action::EraseAll);
    "#7".chars().for_each(|letter| _ = model.press(Action::Type(letter)));
    let resume = Request::Act(JobId(7), JobAction::Resume);
    assert_eq!(model.press(Action::PauseOrResume), Some(resume));
    // Back ends the filter, and then leaves.
    model.mode = Mode::Filtering;
    assert_eq!(press(&mut model, &[Action::Back]), []);
    assert_eq!((model.mode, model.filter.as_str()), (Mode::Looking, ""));
    assert_eq!(press(&mut model, &[Action::Back]), [Request::Leave]);
}

#[test]
fn a_job_is_canceled_only_after_a_yes_and_it_is_the_one_that_was_asked_about() {
    let mut model = busy();
    assert_eq!(press(&mut model, &[Action::Cancel]), []);
    assert_eq!(model.mode, Mode::Canceling(JobId(2)));
    assert_eq!(press(&mut model, &[Action::Back]), []);
    assert_eq!(model.notice, Some(Notice::Said("job 2 goes on".into())));
    press(&mut model, &[Action::Cancel]);
    // Meanwhile another one has come to the top.
    let urgent = rendering(job(9, "now.blend", JobState::Active, "100"), 0, 0.0, 1);
    model.hear(News::Event(WatchEvent::Job(urgent)));
    model.arrange();
    assert_eq!(ids(&model)[0], 9);
    let asked = press(&mut model, &[Action::Confirm]);
    assert_eq!(asked, [Request::Act(JobId(2), JobAction::Cancel)]);
    assert_eq!(model.mode, Mode::Looking);
    let canceled = job(2, "urgent.blend", JobState::Canceled, "95");
    model.hear(News::Acted(JobId(2), Ok(canceled)));
    assert_eq!(model.notice, Some(Notice::Said("job 2: canceled, priority 95".into())));
    model.hear(News::Acted(JobId(2), Err("viewers change nothing".into())));
    assert_eq!(refused(&model), "job 2: viewers change nothing");
}

#[test]
fn a_key_does_what_fits_the_state_of_the_job() {
    let mut model = busy();
    let mut on = |id: u32, action: Action| {
        model.selected = Some(JobId(id));
        press(&mut model, &[action])
    };
    let act = |id, action| vec![Request::Act(JobId(id), action)];
    assert_eq!(on(1, Action::PauseOrResume), act(1, JobAction::Pause));
    assert_eq!(on(3, Action::PauseOrResume), act(3, JobAction::Pause));
    assert_eq!(on(7, Action::PauseOrResume), act(7, JobAction::Resume));
    assert_eq!(on(4, Action::Retry), act(4, JobAction::Retry));
    assert_eq!(on(5, Action::PauseOrResume), []);
    assert_eq!(on(4, Action::Cancel), []);
    assert_eq!(refused(&model), "job 4 is failed: there is nothing to cancel");
    assert_eq!(model.mode, Mode::Looking);
}

#[test]
fn presses_in_a_row_add_up_before_the_farm_has_answered() {
    let mut model = busy();
    let to =
        |priority: &str| Request::Act(JobId(2), JobAction::SetPriority(priority.parse().unwrap()));
    let down = Action::Priority(-1);
    assert_eq!(press(&mut model, &[down, down]), [to("90"), to("85")]);
    model.hear(News::Acted(JobId(2), Ok(job(2, "urgent.blend", JobState::Active, "90"))));
    assert_eq!(press(&mut model, &[down]), [to("80")]);
    for priority in ["85", "80"] {
        model.hear(News::Acted(JobId(2), Ok(job(2, "urgent.blend", JobState::Active, priority))));
    }
    // All is answered: the farm's word counts, whoever else has changed it.
    let changed = job(2, "urgent.blend", JobState::Active, "98");
    model.hear(News::Event(WatchEvent::Job(changed)));
    let up = Action::Priority(1);
    assert_eq!(press(&mut model, &[up, up]), [to("100"), to("100")]);
}

#[test]
fn what_went_while_it_was_too_slow_to_hear_it_is_not_shown() {
    let mut model = busy();
    model.hear(News::Event(WatchEvent::Anew));
    model.arrange();
    assert_eq!(ids(&model).len(), 8, "what was is better than a part");
    model.hear(News::Event(WatchEvent::Job(job(11, "new.blend", JobState::Queued, "50"))));
    model.hear(News::Event(WatchEvent::CaughtUp));
    model.arrange();
    assert_eq!((model.link.clone(), ids(&model)), (Link::Live, vec![11]));
}

#[test]
fn while_the_farm_is_away_what_was_stays_and_nothing_is_asked() {
    let mut model = busy();
    away(&mut model, 1_000, "the connection is lost");
    away(&mut model, 9_000, "it cannot be reached");
    let link = Link::Away { since: Millis(1_000), why: "it cannot be reached".into() };
    assert_eq!(model.link, link);
    assert_eq!(press(&mut model, &[Action::PauseOrResume]), []);
    assert_eq!(refused(&model), "the farm is not connected: try again when it is");

    // It is back, but before all is told the old state is better than a part of the new one.
    model.hear(News::Begins);
    model.hear(News::Event(WatchEvent::Job(job(11, "new.blend", JobState::Queued, "50"))));
    model.arrange();
    assert_eq!((model.link.clone(), ids(&model).len()), (link, 8));
    // It is lost again halfway.
    away(&mut model, 10_000, "lost again");
    model.arrange();
    assert_eq!(ids(&model).len(), 8);
    // Jobs that were collected meanwhile are gone.
    catch_up(&mut model, vec![job(11, "new.blend", JobState::Queued, "50")], agents());
    model.arrange();
    assert_eq!((model.link.clone(), ids(&model)), (Link::Live, vec![11]));
    assert_eq!(model.selected().map(|job| job.id), Some(JobId(11)));
}

#[test]
fn what_runs_is_listed_by_device_and_nearest_first() {
    let model = busy();
    let agents = model.agents();
    let names: Vec<&str> = agents.iter().map(|agent| agent.name.as_str()).collect();
    assert_eq!(names, ["attic", "render-01", "laptop.studio"]);
    let running: Vec<Vec<(u32, u32)>> = model
        .running_on(agents[1])
        .iter()
        .map(|device| device.iter().map(|at| (at.job.id.0, at.task.task.0)).collect())
        .collect();
    assert_eq!(
        running,
        [vec![(1, 104), (2, 12), (1, 106), (1, 107), (1, 105)], vec![(1, 108)], vec![],]
    );
    // Of a host that is off nobody knows its devices, or a device is not there any more.
    let bare = AgentView { devices: Vec::new(), ..agents[1].clone() };
    assert!(model.running_on(&bare).is_empty());
    let decision = model.decision(agents[1], 0).map(|decision| decision.text.as_str());
    assert_eq!(decision, Some("2 instances: 41.0 frames/min, 3: 52.1 (+27 %): staying with 3"));
    assert_eq!(model.decision(agents[1], 1), None);
}

#[test]
fn what_runs_is_asked_of_few_jobs_and_of_the_selected_one_first() {
    let mut model = Model::new(farm());
    let many = (1..=30).map(|id| rendering(job(id, "a", JobState::Active, "50"), 1, 0.1, 1));
    let mut many: Vec<JobView> = many.collect();
    many.push(job(31, "b", JobState::Queued, "90"));
    catch_up(&mut model, many, Vec::new());
    model.arrange();
    press(&mut model, &[Action::Move(Move::Last), Action::Move(Move::Up)]);
    let (asked, running) = model.worth_asking();
    let asked: Vec<u32> = asked.iter().map(|job| job.0).collect();
    assert_eq!(asked, [30, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(running, 30);
}

/// Of a farm that never rests every event is taken in.
#[test]
fn a_hundred_thousand_events_leave_the_last_word_of_each_job() {
    let mut model = Model::new(farm());
    let many: Vec<JobView> =
        (0..10_000).map(|id| job(id, "shot.blend", JobState::Active, "50")).collect();
    catch_up(&mut model, many.clone(), agents());
    for round in 1..=10 {
        for view in &many {
            let view = rendering(view.clone(), round, 0.1 * round as f32, 1);
            model.hear(News::Event(WatchEvent::Job(view)));
        }
    }
    model.arrange();
    assert_eq!(model.rows().len(), 10_000);
    assert!(model.rows().flatten().all(|job| job.progress.frames_done == 10));
    assert_eq!(model.link, Link::Live);
}
