//! As many Blenders per GPU as really fit, found by measuring: what people see of it, and what it
//! makes of memory that is short, of GPUs that fail and of neighbours who come and go.
//!
//! GPUs and Blenders are fakes, which share memory and time as real ones do; coordinator, agents and
//! CLI are what people run.

mod devices;
mod memory;
mod mixed;
