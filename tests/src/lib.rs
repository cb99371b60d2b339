//! Stand-ins and scaffolding for the tests of the whole farm, and its benchmarks. Nothing here is
//! part of the product.

pub mod bench;
pub mod noise;
pub mod puppet;
