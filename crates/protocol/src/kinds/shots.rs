//! `shots`: many pictures of one scene, each to its own name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Plan, render_step};
use crate::job::{RenderSettings, RenderWork, SceneNeeds, StepSpec};
use crate::limits::SHOTS_MAX;
use crate::manifest::LayoutPath;
use crate::shot::{OutputPattern, Shot};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shots {
    pub blend: LayoutPath,
    pub needs: SceneNeeds,
    pub settings: RenderSettings,
    /// Frames of one task.
    pub chunk: u32,
    /// A shot of one frame keeps its output's name as it is; one of several frames gets a frame
    /// number if its name has none.
    pub shots: Vec<Shot>,
}

impl Plan for Shots {
    fn plan(&self) -> Result<Vec<StepSpec>, String> {
        if self.shots.is_empty() {
            return Err("the job has no shots: name at least one".into());
        }
        if self.shots.len() > SHOTS_MAX {
            return Err(format!(
                "{} shots are more than {SHOTS_MAX}: submit several jobs",
                self.shots.len()
            ));
        }
        let mut shots = self.shots.clone();
        let mut owners: BTreeMap<OutputPattern, String> = BTreeMap::new();
        for shot in &mut shots {
            if shot.name.is_empty() {
                return Err("a shot has no name: give every shot one".into());
            }
            if shot.frames.len() > 1 {
                shot.output = match shot.output.is_numbered() {
                    true => shot.output.clone(),
                    false => format!("{}_####", shot.output)
                        .parse()
                        .map_err(|error| format!("shot `{}`: {error}", shot.name))?,
                };
            }
            if let Some(other) = owners.insert(shot.output.clone(), shot.name.to_string()) {
                return Err(format!(
                    "shots `{other}` and `{}` both write `{}`: give one of them another output",
                    shot.name, shot.output
                ));
            }
            if self.shots.len() > 1 && shot.extras.is_none() {
                shot.extras = Some(extras_folder(&shot.output)?);
            }
        }
        Ok(vec![render_step(RenderWork {
            blend: self.blend.clone(),
            needs: self.needs.clone(),
            settings: self.settings.clone(),
            chunk: self.chunk,
            shots,
        })])
    }
}

/// The output's name without its frame number: unique because outputs are.
fn extras_folder(output: &OutputPattern) -> Result<crate::OutputName, String> {
    let folder = output.as_str().replace('#', "");
    let folder = folder.trim_end_matches(['_', '-', '.', '/']);
    let folder = if folder.is_empty() { "shot" } else { folder };
    format!("{folder}_files").parse().map_err(|error| format!("{error}"))
}
