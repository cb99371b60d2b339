//! What it takes to be a well-behaved daemon: layered settings, logs, signals, and systemd's
//! notifications. Knows nothing of farms.

pub mod clock;
pub mod logging;
pub mod notify;
pub mod settings;
pub mod signals;
