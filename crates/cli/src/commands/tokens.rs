//! Secrets to hand on: join strings for newcomers, connect strings for the HTTP API.

use std::time::Duration;

use anyhow::Context;
use grange_protocol::client::Role;
use grange_protocol::shot::Label;

use super::{Session, members};
use crate::args::CreateToken;
use crate::exit::Ending;
use crate::print;

const JOIN_TTL: Duration = Duration::from_secs(15 * 60);
const API_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

pub(super) async fn create(session: &Session, args: CreateToken) -> anyhow::Result<Ending> {
    let ttl = args.ttl.unwrap_or(JOIN_TTL);
    let token = session.farm().await?.create_token(args.role, ttl).await?;
    if session.json {
        print::json(&token);
        return Ok(Ending::Done);
    }
    let ttl = humantime::format_duration(ttl);
    let how = match args.role {
        Role::Agent => "on the render host: grange-agent --join STRING",
        Role::Submitter | Role::Admin | Role::Viewer => "there: grange join STRING",
    };
    print::note(&format!("good for one {} within {ttl}; {how}", args.role));
    print::line(&token.join);
    Ok(Ending::Done)
}

pub(super) async fn create_for_api(session: &Session, args: CreateToken) -> anyhow::Result<Ending> {
    let ttl = args.ttl.unwrap_or(API_TTL);
    let name = match args.name {
        Some(name) => name,
        None => {
            let who = members::who();
            who.parse().with_context(|| format!("a token cannot be called `{who}`"))?
        }
    };
    let token = session.farm().await?.create_api_token(name, args.role, ttl).await?;
    if session.json {
        print::json(&token);
        return Ok(Ending::Done);
    }
    let ttl = humantime::format_duration(ttl);
    print::note(&format!(
        "token {} of a {}, good for {ttl}; whoever has this line can use it, and it is not shown \
         again:",
        token.name, token.role
    ));
    print::line(&token.connect);
    Ok(Ending::Done)
}

pub(super) async fn list(session: &Session) -> anyhow::Result<Ending> {
    let tokens = session.farm().await?.api_tokens().await?;
    if session.json {
        print::json(&tokens);
    } else {
        print::line(&print::tokens(&tokens));
    }
    Ok(Ending::Done)
}

pub(super) async fn revoke(session: &Session, name: Label) -> anyhow::Result<Ending> {
    session.farm().await?.revoke_api_token(name.clone()).await?;
    if session.json {
        print::json(&serde_json::json!({ "revoked": name }));
    } else {
        print::line(&format!("token {name} is good for nothing any more"));
    }
    Ok(Ending::Done)
}
