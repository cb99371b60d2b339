//! `grange local`: a farm of this machine for programs, as long as somebody wants it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use grange_agent::config::{ALL_ENGINES, memory_mib};
use grange_coordinator::HttpListen;
use grange_daemon::logging;
use grange_daemon::signals::StopSignals;
use grange_protocol::client::Role;
use tokio::sync::oneshot;

use super::{Session, members};
use crate::args::Local;
use crate::exit::Ending;
use crate::local::{LocalFarm, Plan};
use crate::print;

/// The token dies with the farm, so this only needs to be long enough.
const TOKEN_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) async fn run(session: &Session, args: Local) -> anyhow::Result<Ending> {
    logging::init(&args.log, logging::Format::Text);
    let told_to_stop = told_to_stop(args.until_stdin_closes)?;
    tokio::pin!(told_to_stop);
    let plan = Plan {
        host: &args.host,
        engines: ALL_ENGINES.to_vec(),
        memory_mib: args.memory_gib.map(memory_mib).transpose()?,
        http: HttpListen::At(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
    };
    let local = tokio::select! {
        local = LocalFarm::start(plan) => local?,
        () = &mut told_to_stop => return Ok(Ending::Done),
    };
    let said = say(session, &local).await;
    if said.is_ok() {
        told_to_stop.await;
    }
    local.stop().await;
    said.map(|()| Ending::Done)
}

/// Prints where the farm is and the secret that lets a program in.
async fn say(session: &Session, local: &LocalFarm) -> anyhow::Result<()> {
    let who = members::who();
    let name = who.parse().with_context(|| format!("a token cannot be called `{who}`"))?;
    let token = local.farm().create_api_token(name, Role::Submitter, TOKEN_TTL).await?;
    if session.json {
        print::json(&serde_json::json!({ "connect": token.connect }));
    } else {
        print::note("a farm of this machine, until Ctrl-C; programs get in with this line:");
        print::line(&token.connect);
    }
    Ok(())
}

/// Ends with the first Ctrl-C or SIGTERM, or if wanted with standard input.
fn told_to_stop(until_stdin_closes: bool) -> anyhow::Result<impl Future<Output = ()>> {
    let mut signals = StopSignals::catch().context("no signals")?;
    let (open, mut closed) = oneshot::channel::<()>();
    // Whoever holds `open` keeps the farm going: this future, or the thread that reads.
    let held = if until_stdin_closes {
        // A thread of its own: the runtime would wait for one of its own at the end, and a read
        // of standard input cannot be interrupted.
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            drop(open);
        });
        None
    } else {
        Some(open)
    };
    Ok(async move {
        let _held = held;
        tokio::select! {
            () = signals.next() => {}
            _ = &mut closed => {}
        }
    })
}
