//! The scheduler, told as stories: what happens on a farm, and exactly what the core wants done.

mod failures;
mod farm;
mod format;
mod graph;
mod keeping;
mod memory;
mod placement;
mod random;
mod restart;
mod standing;
mod tokens;
