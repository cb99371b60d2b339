//! The agent: the shell around the agent's pure core.

pub mod config;
mod core;
mod devices;
mod host;
mod link;
pub mod sandbox;
mod scenes;
mod supply;
mod work;
