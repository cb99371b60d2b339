//! Farms of up to 1,000 agents on which everything goes wrong, in a time of their own.
//!
//! `cargo xtask sim` runs more of them, for longer, and one again.

mod world;

use world::{Runs, Scale};

#[test]
fn whatever_goes_wrong_nothing_is_lost_and_nothing_happens_twice() {
    let runs = Runs { scale: Scale::Short, first_seed: 1, seeds: Some(200), hours: None };
    let verdict = runs.run();
    assert!(verdict.is_good(), "\n{verdict}");
}

/// One in a few thousand of what `cargo xtask sim` runs.
#[test]
fn a_farm_of_hours_is_no_different() {
    let runs = Runs { scale: Scale::Long, first_seed: 2, seeds: Some(1), hours: None };
    let verdict = runs.run();
    assert!(verdict.is_good(), "\n{verdict}");
}
