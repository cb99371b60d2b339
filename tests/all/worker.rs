//! The worker inside real Blenders, driven as an agent drives it, without a farm around.

mod devices;
mod errors;
mod live;
mod operations;
mod pictures;
mod stops;
mod truths;
