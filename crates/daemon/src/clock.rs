//! Time that never jumps.

use std::time::{Duration, Instant, SystemTime};

/// Milliseconds since the Unix epoch that advance with the monotonic clock: the wall clock is read
/// once, so a clock that is set meanwhile changes nothing.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_unix: Duration,
}

impl Clock {
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self { started: Instant::now(), started_unix: since_epoch.unwrap_or_default() }
    }

    pub fn now_ms(&self) -> u64 {
        (self.started_unix + self.started.elapsed()).as_millis() as u64
    }

    /// The moment of the monotonic clock at which [`Clock::now_ms`] will be `at_ms`.
    pub fn instant_at(&self, at_ms: u64) -> Instant {
        let until = Duration::from_millis(at_ms).saturating_sub(self.started_unix);
        self.started + until
    }
}
