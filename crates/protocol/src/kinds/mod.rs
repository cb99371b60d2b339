//! Job kinds: what people ask for, and how it becomes steps.
//!
//! A new kind is one new file here and one line in [`job_kinds!`]. The coordinator plans, so
//! every client (CLI, Python, add-on) gets the same job from the same request.

mod animation;
mod noop;
mod session;
mod shots;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{BlobHash, StepIndex};
use crate::job::{JobSpec, Policy, RenderWork, StepSpec, Work};
use crate::quantity::Priority;
use crate::shot::Label;

pub use animation::{Animation, Preview};
pub use noop::Noop;
pub use session::Session;
pub use shots::Shots;

/// A request for a job. What has a default may be left out in JSON; on the wire it is always there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Submission {
    pub name: Label,
    #[serde(default)]
    pub priority: Priority,
    #[serde(default)]
    pub policy: Policy,
    /// The blob with the job's manifest, which the farm must have already.
    pub manifest: Option<BlobHash>,
    /// Accept the job although no agent of the farm could run it today.
    #[serde(default)]
    pub queue_anyway: bool,
    /// Only agents that have all of these tags get tasks of the job.
    #[serde(default)]
    pub tags: BTreeSet<Label>,
    pub kind: JobKind,
}

/// A way to make steps of a request.
trait Plan {
    /// The steps, or a sentence for the submitter that says what is wrong with the request.
    fn plan(&self) -> Result<Vec<StepSpec>, String>;
}

macro_rules! job_kinds {
    ($($variant:ident($request:ty) = $label:literal,)*) => {
        /// A request, by kind. Append-only: the order is the wire format.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        #[serde(rename_all = "lowercase")]
        pub enum JobKind {
            $($variant($request),)*
        }

        impl JobKind {
            /// The kind's name, as users know it.
            pub const fn label(&self) -> &'static str {
                match self { $(Self::$variant(_) => $label,)* }
            }

            fn plan(&self) -> Result<Vec<StepSpec>, String> {
                match self { $(Self::$variant(request) => request.plan(),)* }
            }
        }
    };
}

job_kinds! {
    Animation(Animation) = "animation",
    Shots(Shots) = "shots",
    Noop(Noop) = "noop",
    Session(Session) = "session",
}

impl Submission {
    /// The job that this asks for. The error is a sentence for the submitter.
    pub fn plan(&self) -> Result<JobSpec, String> {
        let spec = JobSpec {
            name: self.name.clone(),
            kind: self.kind.label().parse().map_err(|_| "a job kind's label is bad".to_string())?,
            priority: self.priority,
            manifest: self.manifest,
            policy: self.policy,
            steps: self.kind.plan()?,
        };
        match spec.problem() {
            Some(problem) => Err(problem),
            None => Ok(spec),
        }
    }
}

/// The step that every kind starts with: render, waiting for nothing.
fn render_step(work: RenderWork) -> StepSpec {
    StepSpec {
        name: step_name("render"),
        after: Vec::new(),
        optional: false,
        work: Work::Render(work),
    }
}

fn step_name(name: &str) -> Label {
    name.parse().unwrap_or_default()
}

/// What `chunk` is where JSON leaves it out.
const fn one_frame() -> u32 {
    1
}

const RENDER: StepIndex = StepIndex(0);
