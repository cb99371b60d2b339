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

/// All tasks of a job, and what its completed attempts took.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Grid {
    steps: Vec<GridStep>,
    /// What completed attempts took on their devices, in milliseconds.
    cost: GridCost,
}

#[derive(Debug, Serialize, ToSchema)]
struct GridStep {
    /// A letter for each task, in their order: `w`aiting, re`a`dy, `r`unning, `c`ompleted,
    /// `f`ailed, canceled (`x`).
    states: String,
    /// The frames of the tasks, in their order, where every task is one frame.
    frames: Option<FrameSet>,
}

#[derive(Debug, Serialize, ToSchema)]
struct GridCost {
    /// From the first use of an instance to the last output.
    total_ms: u64,
    render_ms: u64,
    /// Starts of instances and opening of scenes.
    load_ms: u64,
    /// What starting Blender and opening the scene for every task would have taken besides, as far
    /// as that was measured.
    saved_ms: u64,
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
        let steps = steps.collect();
        let completed: u32 = job.steps.iter().map(|step| step.tasks.completed()).sum();
        let cost = job.cost;
        Some(Self {
            steps,
            cost: GridCost {
                total_ms: cost.total_ms,
                render_ms: cost.render_ms,
                load_ms: cost.load_ms,
                saved_ms: (u64::from(completed) * load_ms(farm, id)).saturating_sub(cost.load_ms),
            },
        })
    }
}

/// What one start took, by the footprints of the job's scene; 0 if nobody measured it.
fn load_ms(farm: &Farm, id: JobId) -> u64 {
    let Some(job) = farm.core.state().jobs.get(&id) else { return 0 };
    let blends = job.spec.steps.iter().filter_map(|step| Some(&step.work.render()?.blend));
    let blends: Vec<_> = blends.collect();
    let of_job = farm.core.state().footprints.iter();
    let of_job = of_job.filter(|(likeness, _)| blends.contains(&&likeness.blend));
    of_job.filter_map(|(_, footprint)| footprint.load_ms).min().map_or(0, u64::from)
}

fn frames(farm: &Farm, id: JobId, step: StepIndex) -> Option<FrameSet> {
    let render = farm.core.state().jobs.get(&id)?.spec.step(step)?.work.render()?;
    match render.shots.as_slice() {
        [shot] if render.chunk == 1 => Some(shot.frames.clone()),
        _ => None,
    }
}
