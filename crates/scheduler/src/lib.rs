//! The pure core of the coordinator: every decision of the farm, and nothing else.
//!
//! ```text
//! core.handle(now, event);                       // decide
//! journal.append(core.take_facts()).await?;      // remember
//! while let Some(command) = core.next_command() { shell.run(command) }
//! sleep_until(core.next_deadline());
//! ```
//!
//! - **Events in, facts and commands out.** The same events give the same facts and commands,
//!   always. There is no clock (`now` is handed in), no IO, no thread, no randomness, no order
//!   that depends on a hash; `clippy.toml` of this crate bans them.
//! - **Deciding and remembering are apart.** [`Core::handle`] decides. [`State::apply`] is the only
//!   thing that changes durable state, and it takes nothing but facts, so a newer program with
//!   other rules replays an old journal to the same state.
//! - **Leases are not facts.** Who renders what is volatile: after a restart agents say what they
//!   hold, and the core adopts it or has it dropped. So dispatch costs no disk write.
//! - **After every call** drain [`Core::take_facts`] and [`Core::next_command`], in this order, and
//!   call again with [`Event::Tick`] at [`Core::next_deadline`].

mod admission;
mod agent;
mod command;
mod core;
mod device;
mod dispatch;
mod event;
mod fact;
mod footprint;
mod format;
mod invariants;
mod job;
mod keeping;
mod learning;
mod lease;
mod live;
mod outcome;
mod placement;
mod saving;
mod standing;
mod state;
mod tasks;
mod token;

pub use agent::{Agent, Connection};
pub use command::{Answer, Changes, Command};
pub use core::{Core, Timing};
pub use event::{Event, Once, RequestId};
pub use fact::{Fact, Recorded};
pub use footprint::{
    Estimate, Footprint, Footprints, Likeness, MARGIN_MEASURED, Peak, SizeClass, class_of,
};
pub use format::{FORMAT, FORMAT_OLDEST, read_state};
pub use job::{AttemptFailure, Cost, Job, Phase, Step};
pub use keeping::{Ended, ROOM_AFTER_MS, Rules, due};
pub use lease::{Hold, Lease, Leases};
pub use standing::{Duty, Standing};
pub use state::{Inconsistent, State};
pub use tasks::{Mark, TaskTable};
pub use token::{ApiToken, Identity, TokenHash};
