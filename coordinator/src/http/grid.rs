//! A job's tasks as one letter each, for pictures of very many.

use axum::Json;
use axum::extract::State;
use grange_protocol::view::TaskState;
use grange_protocol::{FrameSet, JobId, StepIndex};
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::At;
use super::openapi::Problems;
use super::{Api, Problem};
use crate::connection::no_job;
use crate::farm::Farm;

/// All tasks of a job.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Grid {
    steps: Vec<GridStep>,
}

#[derive(Debug, Serialize, ToSchema)]
struct GridStep {
    /// A letter for each task, in their order: `w`aiting, re`a`dy, `r`unning, `c`ompleted,
    /// `f`ailed, canceled (`x`).
    states: String,
    /// The frames of the tasks, in their order, where every task is one frame.
    frames: Option<FrameSet>,
}

/// The state of every task of a job, as one letter
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/grid", operation_id = "grid", tag = "jobs",
    params(("id" = u32, Path, example = 1)),
    responses((status = 200, body = Grid), Problems),
)]
pub(super) async fn grid(State(api): State<Api>, At(id): At<u32>) -> Result<Json<Grid>, Problem> {
    let job = JobId(id);
    let look = api.shared.farm.look(move |farm| Grid::of(farm, job)).await?;
    match look {
        Some(grid) => Ok(Json(grid)),
        None => Err(no_job(&api.shared, job).await.into()),
    }
}

impl Grid {
    fn of(farm: &Farm, id: JobId) -> Option<Self> {
        let job = farm.core.state().jobs.get(&id)?;
        let steps = job.step_indices().map(|step| GridStep {
            states: farm.core.task_states(id, step, 0..u32::MAX).map(TaskState::letter).collect(),
            frames: frames(farm, id, step),
        });
        Some(Self { steps: steps.collect() })
    }
}

fn frames(farm: &Farm, id: JobId, step: StepIndex) -> Option<FrameSet> {
    let render = farm.core.state().jobs.get(&id)?.spec.step(step)?.work.render()?;
    match render.shots.as_slice() {
        [shot] if render.chunk == 1 => Some(shot.frames.clone()),
        _ => None,
    }
}
