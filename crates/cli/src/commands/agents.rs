//! Acting on render hosts.

use grange_client::Farm;
use grange_protocol::AgentId;
use grange_protocol::client::AgentAction;
use grange_protocol::view::AgentView;

use super::Session;
use crate::args::AgentCommand;
use crate::exit::Ending;
use crate::print;

pub(super) async fn act(session: &Session, command: AgentCommand) -> anyhow::Result<Ending> {
    let (names, action) = match command {
        AgentCommand::Drain { agents } => (agents, AgentAction::Drain),
        AgentCommand::Resume { agents } => (agents, AgentAction::Resume),
        AgentCommand::Remove { agents } => (agents, AgentAction::Remove),
        AgentCommand::Tag { agent, tags } => {
            (vec![agent], AgentAction::Tag(tags.into_iter().collect()))
        }
        AgentCommand::Schedule { agent, hours, .. } => (vec![agent], AgentAction::Schedule(hours)),
    };
    let farm = session.farm().await?;
    let agents = farm.agents().await?;
    // First of all: is each of the names good?
    let ids = names.iter().map(|name| named(&agents, name)).collect::<Result<Vec<_>, _>>()?;
    for (name, id) in names.iter().zip(ids) {
        farm.act_on_agent(id, action.clone()).await?;
        if action == AgentAction::Remove {
            told_of_removal(session, name, id);
        } else {
            tell(session, &farm, id).await?;
        }
    }
    Ok(Ending::Done)
}

/// The agent of that name, or id.
pub(super) fn named(agents: &[AgentView], name: &str) -> anyhow::Result<AgentId> {
    let is_meant = |agent: &&AgentView| agent.name.as_str() == name || agent.id.to_string() == name;
    let meant: Vec<&AgentView> = agents.iter().filter(is_meant).collect();
    match meant[..] {
        [agent] => Ok(agent.id),
        [] => {
            anyhow::bail!("there is no agent {name}: `grange agents` lists the agents of this farm")
        }
        _ => {
            let ids: Vec<String> =
                meant.iter().map(|agent| format!("{} ({})", agent.id, agent.state)).collect();
            anyhow::bail!(
                "several agents are called {name}; name one by its id: {}",
                ids.join(", ")
            )
        }
    }
}

fn told_of_removal(session: &Session, name: &str, id: AgentId) {
    if session.json {
        print::json(&serde_json::json!({ "id": id, "removed": true }));
    } else {
        print::line(&format!("{name} is removed; to come back it joins anew"));
    }
}

async fn tell(session: &Session, farm: &Farm, id: AgentId) -> anyhow::Result<()> {
    let agents = farm.agents().await?;
    let Some(agent) = agents.iter().find(|agent| agent.id == id) else { return Ok(()) };
    if session.json {
        print::json(agent);
    } else {
        print::line(&print::agent(agent));
    }
    Ok(())
}
