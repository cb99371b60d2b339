//! The agent: the shell around the agent's pure core.
//!
//! [`core`] decides what to do with what the coordinator assigns; [`shell`] runs its commands:
//! fetch a scene and lay it out ([`scenes`]), keep Blenders ([`instances`]) on the host's devices
//! ([`gpu`]) in the sandbox ([`sandbox`]), verify and commit what they write ([`deliver`]), do work that needs no Blender
//! ([`work`]), relay what people want of their sessions ([`sessions`]), and keep the connection
//! ([`link`]).

mod agent;
pub mod config;
mod core;
pub mod daemon;
mod deliver;
pub mod devices;
mod gpu;
mod host;
mod instances;
mod link;
mod pictures;
pub mod sandbox;
mod scenes;
mod sessions;
mod shell;
mod space;
mod supply;
mod work;

pub use agent::{Agent, Pulse, Surroundings};
pub use instances::Stage;
