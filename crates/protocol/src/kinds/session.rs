//! `session`: an instance that a person drives, for as long as they hold it.

use serde::{Deserialize, Serialize};

use super::{Plan, step_name};
use crate::FrameSet;
use crate::job::{RenderSettings, RenderWork, SceneNeeds, SessionWork, StepSpec, Work};
use crate::limits::SESSION_IDLE_S;
use crate::manifest::LayoutPath;
use crate::shot::Shot;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Session {
    pub blend: LayoutPath,
    pub needs: SceneNeeds,
    #[serde(default)]
    pub settings: RenderSettings,
    /// Seconds without a call after which the session ends.
    #[serde(default = "idle_s")]
    pub idle_s: u32,
}

impl Plan for Session {
    fn plan(&self) -> Result<Vec<StepSpec>, String> {
        if !SESSION_IDLE_S.contains(&self.idle_s) {
            return Err(format!(
                "a session may be idle for {} to {} seconds, not {}",
                SESSION_IDLE_S.start(),
                SESSION_IDLE_S.end(),
                self.idle_s
            ));
        }
        let shot = Shot {
            name: Default::default(),
            scene: None,
            view_layer: None,
            camera: None,
            frames: FrameSet::single(1),
            resolution: None,
            samples: None,
            output: "frame".parse().map_err(|error| format!("{error}"))?,
            extras: None,
        };
        let render = RenderWork {
            blend: self.blend.clone(),
            needs: self.needs.clone(),
            settings: self.settings.clone(),
            chunk: 1,
            shots: vec![shot],
        };
        Ok(vec![StepSpec {
            name: step_name("session"),
            after: Vec::new(),
            optional: false,
            work: Work::Session(SessionWork { render, idle_s: self.idle_s }),
        }])
    }
}

/// What `idle_s` is where JSON leaves it out: half an hour.
const fn idle_s() -> u32 {
    1_800
}
