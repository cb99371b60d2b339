//! GPUs that do not exist: a stand-in for NVIDIA's `libnvidia-ml.so.1`, and the world of files
//! that it tells of.
//!
//! A directory is the world ([`World`]): `state.json` has the GPUs and other people's processes
//! ([`State`]), `alloc/PID.json` what fake Blenders hold ([`Allocation`]). Both are read anew at
//! each call, so a test changes a file and the driver fails, a GPU falls off the bus, or somebody
//! takes half of its memory. The library finds the directory beside itself, so each test may load a
//! copy of its own, or else in the environment variable [`world::DIR`].

mod exports;
pub mod world;

pub use world::{Allocation, Gpu, NotAllocated, Process, Slice, State, World};
