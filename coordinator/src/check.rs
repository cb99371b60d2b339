//! `check`: whether a coordinator's state is whole, without changing it.
//!
//! What a journal says twice must agree: a snapshot is what the one before it and the facts since
//! then make. And the store must have every file that jobs have committed.

use crate::backup::lost;
use crate::config::Config;
use crate::journal::Looked;

/// Looks at a state, up to a fact of its journal. Returns one line for people.
pub(crate) async fn check(config: &Config, as_of: Option<u64>) -> anyhow::Result<String> {
    let (state_dir, place) = (&config.state_dir, config.journal_of_a_state()?);
    let Looked { replayed, compared, is_earlier } = place.look(as_of.unwrap_or(u64::MAX)).await?;
    let lost = lost(&place, state_dir).await?;
    if let Some(first) = lost.first() {
        anyhow::bail!(
            "{} files that jobs have committed are not in the store, such as {first}: restore them \
             from a backup",
            lost.len()
        );
    }
    let earlier = if is_earlier { ", written by an earlier Grange" } else { "" };
    Ok(format!(
        "{}: {} jobs, fact {}, state {}, {compared} snapshots agree with the facts before them, all \
         committed files are there{earlier}",
        state_dir.display(),
        replayed.state.jobs.len(),
        replayed.seq,
        replayed.state.hash()?,
    ))
}
