//! Configuration files of the daemons, up to the settings that are complete and checked.

use std::fs;

use super::tree;
use crate::{Target, scratch};

pub(super) const COORDINATOR: Target = Target {
    name: "coordinator-settings",
    len_max: 8 << 10,
    memory: of_tables,
    seeds: || samples("deploy/config/coordinator.toml"),
    read: |input| {
        let file = scratch::file("coordinator.toml", input);
        if let Ok(config) = grange_coordinator::Settings::default().resolve(Some(&file)) {
            assert!(config.keep.uploads.as_secs() >= 3_600, "{:?}", config.keep);
            assert_ne!(config.keep.bytes, Some(0));
        }
    },
};

pub(super) const AGENT: Target = Target {
    name: "agent-settings",
    len_max: 8 << 10,
    memory: of_tables,
    seeds: || samples("deploy/config/agent.toml"),
    read: |input| {
        let file = scratch::file("agent.toml", input);
        if let Ok(config) = grange_agent::config::Settings::default().resolve(Some(&file)) {
            assert!(config.frames_per_instance > 0);
            assert_ne!(config.memory_mib, Some(0));
        }
    },
};

/// A file is read as text, as settings and as a table, one after the other.
fn of_tables(input: &[u8]) -> usize {
    (1 << 20) + 256 * input.len()
}

/// The commented sample, every setting of it as a file of its own, and all of them together.
fn samples(path: &str) -> Vec<Vec<u8>> {
    let sample = fs::read_to_string(tree(path)).expect("the sample is in the tree");
    let is_setting = |line: &&str| line.contains(" = ") && !line.starts_with("# ");
    let settings: Vec<&str> =
        sample.lines().filter_map(|line| line.strip_prefix('#')).filter(is_setting).collect();
    assert!(settings.len() > 8, "{path} has {} settings", settings.len());
    // A table is for the end.
    let (tables, plain): (Vec<&str>, Vec<&str>) =
        settings.iter().partition(|line| line.starts_with("  "));
    let table = tables.join("\n").replacen("  ", "[[device]]\n  ", 1);
    let mut seeds: Vec<Vec<u8>> = plain.iter().map(|line| line.as_bytes().to_vec()).collect();
    seeds.push(format!("{}\n{table}\n", plain.join("\n")).into_bytes());
    seeds.push(sample.into_bytes());
    seeds
}
