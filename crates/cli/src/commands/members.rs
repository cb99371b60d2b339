//! Who is in the farm, what is known of its devices, and how one joins.

use anyhow::Context;
use grange_protocol::AgentId;
use grange_protocol::client::{MemberView, Role};
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

/// Everybody who has joined.
pub(super) async fn list(session: &Session) -> anyhow::Result<Ending> {
    let members = session.farm().await?.members().await?;
    if session.json {
        print::json(&members);
    } else {
        print::line(&print::members(&members));
    }
    Ok(Ending::Done)
}

pub(super) async fn remove(session: &Session, names: &[String]) -> anyhow::Result<Ending> {
    let farm = session.farm().await?;
    let members = farm.members().await?;
    // First of all: is each of the names good?
    let ids = names.iter().map(|name| named(&members, name)).collect::<Result<Vec<_>, _>>()?;
    for (name, id) in names.iter().zip(ids) {
        farm.remove_member(id).await?;
        if session.json {
            print::json(&serde_json::json!({ "id": id, "removed": true }));
        } else {
            print::line(&format!("{name} is removed; to come back they join anew"));
        }
    }
    Ok(Ending::Done)
}

/// The member of that name, or id.
fn named(members: &[MemberView], name: &str) -> anyhow::Result<AgentId> {
    let is_meant =
        |member: &&MemberView| member.name.as_str() == name || member.id.to_string() == name;
    let meant: Vec<&MemberView> = members.iter().filter(is_meant).collect();
    match meant[..] {
        [member] => Ok(member.id),
        [] => anyhow::bail!(
            "there is no member {name}: `grange member list` lists those of this farm, and `grange \
             token list` the tokens of the HTTP API"
        ),
        _ => {
            let ids: Vec<String> =
                meant.iter().map(|member| format!("{} ({})", member.id, member.role)).collect();
            anyhow::bail!("several are called {name}; name one by its id: {}", ids.join(", "))
        }
    }
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
