//! `noop`: tasks that do nothing, to measure a farm itself.

use serde::{Deserialize, Serialize};

use super::{Plan, step_name};
use crate::job::{NoopWork, StepSpec, Work};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Noop {
    pub tasks: u32,
    /// How long each of them waits, in milliseconds.
    pub millis: u32,
}

impl Plan for Noop {
    fn plan(&self) -> Result<Vec<StepSpec>, String> {
        let work = Work::Noop(NoopWork { tasks: self.tasks, millis: self.millis });
        Ok(vec![StepSpec { name: step_name("noop"), after: Vec::new(), optional: false, work }])
    }
}
