//! `shots`: many pictures of one scene, each to its own name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Plan, render_step};
use crate::job::{RenderSettings, RenderWork, SceneNeeds, StepSpec};
use crate::limits::SHOTS_MAX;
use crate::manifest::LayoutPath;
use crate::shot::{OutputPattern, Shot};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Shots {
    pub blend: LayoutPath,
    pub needs: SceneNeeds,
    #[serde(default)]
    pub settings: RenderSettings,
    /// Frames of one task.
    #[serde(default = "super::one_frame")]
    pub chunk: u32,
    /// A shot of one frame keeps its output's name as it is; one of several frames gets a frame
    /// number if its name has none.
    pub shots: Vec<Shot>,
}

impl Shots {
    /// Gives every shot the names that its files get, which no later change of its frames
    /// changes. The error is a sentence for the submitter.
    pub fn settle(&mut self) -> Result<(), String> {
        let count = self.shots.len();
        if count == 0 {
            return Err("the job has no shots: name at least one".into());
        }
        if count > SHOTS_MAX {
            return Err(format!("{count} shots are more than {SHOTS_MAX}: submit several jobs"));
        }
        let mut owners: BTreeMap<OutputPattern, String> = BTreeMap::new();
        for shot in &mut self.shots {
            if shot.name.is_empty() {
                return Err("a shot has no name: give every shot one".into());
            }
            shot.output = output(shot)?;
            if let Some(other) = owners.insert(shot.output.clone(), shot.name.to_string()) {
                return Err(format!(
                    "shots `{other}` and `{}` both write `{}`: give one of them another output",
                    shot.name, shot.output
                ));
            }
            if count > 1 && shot.extras.is_none() {
                shot.extras = Some(extras_folder(&shot.output)?);
            }
        }
        Ok(())
    }
}

impl Plan for Shots {
    fn plan(&self) -> Result<Vec<StepSpec>, String> {
        let mut settled = self.clone();
        settled.settle()?;
        let Self { blend, needs, settings, chunk, shots } = settled;
        Ok(vec![render_step(RenderWork { blend, needs, settings, chunk, shots })])
    }
}

/// The name that a shot's pictures get: that of several frames is numbered.
fn output(shot: &Shot) -> Result<OutputPattern, String> {
    if shot.frames.len() == 1 || shot.output.is_numbered() {
        return Ok(shot.output.clone());
    }
    format!("{}_####", shot.output)
        .parse()
        .map_err(|error| format!("shot `{}`: {error}", shot.name))
}

/// The output's name without its frame number: unique because outputs are.
fn extras_folder(output: &OutputPattern) -> Result<crate::OutputName, String> {
    let folder = output.as_str().replace('#', "");
    let folder = folder.trim_end_matches(['_', '-', '.', '/']);
    let folder = if folder.is_empty() { "shot" } else { folder };
    format!("{folder}_files").parse().map_err(|error| format!("{error}"))
}
