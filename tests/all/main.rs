//! Every test that needs more than one crate's code: real Blenders, real processes, real QUIC.
//! One binary, because linking many is what makes a suite slow.

mod blend_files;
mod runtimes;
mod worker;
