//! The agent: the shell around the agent's pure core.

mod core;
