//! `animation`: the frames of a scene, then a preview video of them.

use serde::{Deserialize, Serialize};

use super::{Plan, RENDER, render_step, step_name};
use crate::job::{FrameRate, RenderSettings, RenderWork, SceneNeeds, StepSpec, VideoWork, Work};
use crate::manifest::LayoutPath;
use crate::name::OutputName;
use crate::shot::Shot;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Animation {
    pub blend: LayoutPath,
    pub needs: SceneNeeds,
    #[serde(default)]
    pub settings: RenderSettings,
    /// Frames of one task.
    #[serde(default = "super::one_frame")]
    pub chunk: u32,
    /// The scene's frames; its output pattern gets a frame number if it has none.
    pub shot: Shot,
    pub preview: Option<Preview>,
}

/// A video of the finished frames, made by an agent that has ffmpeg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Preview {
    pub fps: FrameRate,
    /// The video's name, with the extension of the container.
    pub output: OutputName,
}

impl Plan for Animation {
    fn plan(&self) -> Result<Vec<StepSpec>, String> {
        let shot = Shot { output: self.shot.output.numbered(), ..self.shot.clone() };
        let mut steps = vec![render_step(RenderWork {
            blend: self.blend.clone(),
            needs: self.needs.clone(),
            settings: self.settings.clone(),
            chunk: self.chunk,
            shots: vec![shot],
        })];
        if let Some(preview) = &self.preview {
            if !(preview.fps.fps >= 1 && preview.fps.base.is_finite() && preview.fps.base > 0.0) {
                return Err("the scene's frame rate is not a positive number".into());
            }
            steps.push(StepSpec {
                name: step_name("preview"),
                after: vec![RENDER],
                optional: true,
                work: Work::Video(VideoWork {
                    source: RENDER,
                    fps: preview.fps,
                    output: preview.output.clone(),
                }),
            });
        }
        Ok(steps)
    }
}
