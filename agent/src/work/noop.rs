//! Nothing, for a while.

use std::time::Duration;

use grange_protocol::job::NoopWork;

use super::Report;
use crate::core::Frame;

pub(super) async fn perform(work: &NoopWork) -> Report {
    if work.millis > 0 {
        tokio::time::sleep(Duration::from_millis(work.millis.into())).await;
    }
    Report { result: Ok(Frame::default()), log: String::new() }
}
