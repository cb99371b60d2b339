//! The farm, filling the terminal.

use std::io::IsTerminal;

use super::Session;
use crate::exit::Ending;
use crate::{print, top};

pub(super) async fn run(session: &Session) -> anyhow::Result<Ending> {
    if session.json || !is_for_people() {
        print::note(
            "grange: `grange top` needs a terminal to fill: `grange watch` prints what happens line \
             by line, and `grange jobs --json` is for programs",
        );
        return Ok(Ending::Misused);
    }
    top::run(session.farm().await?).await
}

/// Whether somebody sits there, before something on which text can be placed.
fn is_for_people() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !dumb
}
