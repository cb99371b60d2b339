//! Time that never jumps.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Milliseconds since the Unix epoch that advance with the monotonic clock: the wall clock is read
/// once, so a clock that is set meanwhile changes nothing. The monotonic clock is tokio's, by which
/// everybody sleeps: in a simulation its time is the simulated one.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_unix: Duration,
}

impl Clock {
    pub fn start() -> Self {
        Self::start_after(0)
    }

    /// Begins at `latest_ms` if the wall clock says that this is yet to come: it was set back since,
    /// and what was remembered then must not lie ahead now, or everybody waits for it.
    pub fn start_after(latest_ms: u64) -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let started_unix = since_epoch.unwrap_or_default().max(Duration::from_millis(latest_ms));
        Self { started: Instant::now(), started_unix }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_was_set_back_does_not_stop_time() {
        let an_hour_ahead = Clock::start().now_ms() + 3_600_000;
        let clock = Clock::start_after(an_hour_ahead);
        assert!(clock.now_ms() >= an_hour_ahead);
        std::thread::sleep(Duration::from_millis(5));
        assert!(clock.now_ms() >= an_hour_ahead + 5);
    }
}
