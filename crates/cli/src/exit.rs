//! How `grange` ends: what it says last, and its exit code.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done; of a render: every frame is there |
//! | 1 | not done: the reason is on standard error |
//! | 2 | the command line makes no sense |
//! | 3 | the coordinator cannot be reached |
//! | 130 | canceled with Ctrl-C |

use std::process::ExitCode;

use grange_client::download::DownloadError;
use grange_client::{ClientError, MayBeLost, PackageError};

/// How a command ended that did what it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Done,
    /// It was said why.
    NotDone,
    Canceled,
    /// It was said what to do instead.
    Misused,
}

const MISUSED: u8 = 2;
const UNREACHABLE: u8 = 3;
pub(crate) const CANCELED: u8 = 130;

#[expect(clippy::print_stderr, reason = "the program's last words, where a person looks for them")]
pub(crate) fn report(result: anyhow::Result<Ending>) -> ExitCode {
    match result {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::NotDone) => ExitCode::FAILURE,
        Ok(Ending::Canceled) => ExitCode::from(CANCELED),
        Ok(Ending::Misused) => ExitCode::from(MISUSED),
        Err(error) => {
            eprintln!("grange: {error:#}");
            if is_unreachable(&error) { ExitCode::from(UNREACHABLE) } else { ExitCode::FAILURE }
        }
    }
}

fn is_unreachable(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let client = cause.downcast_ref::<ClientError>().or_else(|| {
            match (cause.downcast_ref::<PackageError>(), cause.downcast_ref::<DownloadError>()) {
                (Some(PackageError::Farm(error)), _) | (_, Some(DownloadError::Farm(error))) => {
                    Some(error)
                }
                _ => None,
            }
        });
        client.is_some_and(MayBeLost::is_lost)
    })
}
