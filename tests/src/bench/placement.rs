//! Whether GPUs are full and as fast as they can be, with no number typed.
//!
//! - **packing**: memory that the core sets aside on 1,000 GPUs, beside the most that is possible.
//! - **guesses**: wasted memory and instances that run out of it, beside a rule of
//!   `floor(free memory ÷ a number that somebody types)`.
//! - **sweep**: frames a minute with the number of instances that an agent finds, beside every
//!   fixed number, on a GPU that does not exist and on this host's processor.

use super::{Figures, guesses, packing, sweep, sweep_cpu};

const PARTS: [fn() -> anyhow::Result<Figures>; 4] =
    [packing::run, guesses::run, sweep::run, sweep_cpu::run];

pub(super) fn run() -> anyhow::Result<Figures> {
    let mut figures = Figures::new();
    for part in PARTS {
        figures.extend(part()?);
    }
    Ok(figures)
}
