//! The way to the dashboard: a link that signs one browser in.

use std::process::{Command, Stdio};

use grange_client::Farm;

use super::Session;
use crate::args::Dashboard;
use crate::exit::Ending;
use crate::print;

pub(super) async fn run(session: &Session, args: &Dashboard) -> anyhow::Result<Ending> {
    let link = session.farm().await?.page_link().await?;
    if session.json {
        print::json(&link);
    } else {
        print::note(&format!(
            "the dashboard, for one browser within five minutes, which is then signed in with the \
             role {}:",
            link.role
        ));
        print::line(&link.url);
    }
    if args.open {
        show(&link.url);
    }
    Ok(Ending::Done)
}

/// Opens a browser on the dashboard of a farm that this process runs.
pub(super) async fn open(farm: &Farm) -> anyhow::Result<()> {
    let url = farm.page_link().await?.url;
    print::note(&format!("the dashboard: {url}"));
    show(&url);
    Ok(())
}

/// A host without a browser has the link to copy.
fn show(url: &str) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut opening = Command::new(opener);
    opening.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if opening.spawn().is_err() {
        print::note("there is no browser here: open the link where there is one");
    }
}
