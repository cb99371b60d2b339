//! systemd's `Type=notify`: ready, watchdog, stopping. Nothing happens where systemd is not.

use std::future::Future;
use std::time::Duration;

use sd_notify::NotifyState;

/// The daemon serves now. `status` is what `systemctl status` shows.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The daemon has begun to stop, and may take a while.
pub fn stopping(status: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Pats systemd's watchdog, if the unit has one, for as long as `alive` answers in time. A daemon
/// whose heart has stopped is thereby restarted.
pub async fn watchdog<F, Fut>(mut alive: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let Some(period) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let pat_every = period / 3;
    loop {
        tokio::time::sleep(pat_every).await;
        let answer = tokio::time::timeout(pat_every.max(Duration::from_secs(1)), alive()).await;
        if answer == Ok(true) {
            send(&[NotifyState::Watchdog]);
        } else {
            tracing::warn!("the daemon does not answer its own watchdog");
        }
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("systemd cannot be notified: {error}");
    }
}
