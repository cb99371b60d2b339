//! Every test that needs more than one crate's code: real Blenders, real processes, real QUIC.
//! One binary, because linking many is what makes a suite slow.

mod addon;
mod agents;
mod assets;
mod backup;
mod blend_files;
mod budget;
mod daemons;
mod disks;
mod fault_points;
mod faults;
mod gpu;
mod graph;
mod hostile;
mod http;
mod journal;
mod keeping;
mod kills;
mod mistakes;
mod multi_host;
mod network;
mod outputs;
mod pictures;
mod python;
mod real_gpu;
mod render;
mod runtimes;
mod sandbox;
mod shots;
mod sizing;
mod support;
mod top;
mod transfers;
mod web;
mod webhooks;
mod worker;
