//! Who is in the farm, what is known of its devices, and how one joins.

use anyhow::Context;
use grange_protocol::client::Role;
use grange_protocol::join::JoinString;
use grange_transport::{Identity, enrol};

use super::Session;
use crate::args::{Agents, Join};
use crate::exit::Ending;
use crate::print;

pub(super) async fn agents(session: &Session, args: Agents) -> anyhow::Result<Ending> {
    if let Some(of) = args.why {
        return decisions(session, of.as_deref()).await;
    }
    let farm = session.farm().await?;
    let agents = farm.agents().await?;
    if session.json {
        print::json(&agents);
    } else {
        print::line(&print::agents(&agents));
        print::storage(&farm.farm().await?);
    }
    Ok(Ending::Done)
}

/// Why devices run as many instances as they do, the first decision first.
async fn decisions(session: &Session, of: Option<&str>) -> anyhow::Result<Ending> {
    let farm = session.farm().await?;
    let agents = farm.agents().await?;
    if let Some(name) = of {
        let known = agents.iter().any(|agent| agent.name.as_str() == name);
        anyhow::ensure!(
            known,
            "there is no agent {name}: `grange agents` lists the agents of this farm"
        );
    }
    let mut decisions = farm.decisions().await?;
    decisions.retain(|decision| of.is_none_or(|name| decision.agent.as_str() == name));
    decisions.sort_by_key(|decision| decision.decision.at);
    if session.json {
        print::json(&decisions);
    } else {
        print::line(&print::decisions(&decisions, &agents));
    }
    Ok(Ending::Done)
}

pub(super) async fn footprints(session: &Session) -> anyhow::Result<Ending> {
    let footprints = session.farm().await?.footprints().await?;
    if session.json {
        print::json(&footprints);
    } else {
        print::line(&print::footprints(&footprints));
    }
    Ok(Ending::Done)
}

pub(super) async fn join(session: &Session, args: Join) -> anyhow::Result<Ending> {
    let join: JoinString = args.join.parse()?;
    anyhow::ensure!(
        join.role != Role::Agent,
        "this join string is for a render host: run `grange-agent --join STRING` there"
    );
    let dir = session.identity_dir()?;
    if let Ok(identity) = Identity::load(&dir) {
        anyhow::bail!(
            "you are in farm {} already ({}): remove {} to leave it, or name another directory with --identity",
            identity.farm.name,
            identity.peer.role,
            dir.display()
        );
    }
    let name = args.name.unwrap_or_else(who);
    let name = name.parse().with_context(|| format!("you cannot be called `{name}`"))?;
    let identity = enrol::join(&join, name).await?;
    identity.save(&dir)?;
    if session.json {
        print::json(&serde_json::json!({
            "farm": identity.farm.name,
            "role": identity.peer.role,
            "name": identity.peer.name,
            "identity": dir,
        }));
    } else {
        print::line(&format!("joined farm {} as {}", identity.farm.name, identity.peer.role));
    }
    Ok(Ending::Done)
}

pub(super) fn who() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let host = grange_agent::config::host_name();
    user.map_or_else(|_| host.clone(), |user| format!("{user}@{host}"))
}
