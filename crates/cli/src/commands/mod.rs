//! Each command in a file of its own, or with its like.

mod agents;
mod dashboard;
mod history;
mod jobs;
mod local;
mod members;
mod render;
mod submit;
mod tokens;
mod top;
mod watch;

use std::path::{Path, PathBuf};

use anyhow::Context;
use grange_client::Farm;
use grange_protocol::JobId;
use grange_protocol::client::JobAction;
use grange_transport::Identity;
use tokio::sync::OnceCell;

use crate::args::{Cli, Command, MemberCommand, Token};
use crate::exit::Ending;

/// What every command knows.
pub(crate) struct Session {
    pub(crate) json: bool,
    identity: Option<PathBuf>,
    farm: OnceCell<Farm>,
}

pub(crate) async fn run(cli: Cli) -> anyhow::Result<Ending> {
    let session = Session { json: cli.json, identity: cli.identity, farm: OnceCell::new() };
    let ending = dispatch(&session, cli.command).await;
    if let Some(farm) = session.farm.get() {
        farm.close().await;
    }
    ending
}

async fn dispatch(session: &Session, command: Command) -> anyhow::Result<Ending> {
    match command {
        Command::Render(args) => render::run(session, *args).await,
        Command::Local(args) => local::run(session, args).await,
        Command::Submit(args) => submit::run(session, *args).await,
        Command::Jobs => jobs::list(session).await,
        Command::Job(args) => jobs::show(session, JobId(args.job)).await,
        Command::Watch(args) => watch::watch(session, args.job.map(JobId)).await,
        Command::Top => top::run(session).await,
        Command::Fetch(args) => watch::fetch(session, args).await,
        Command::Cancel(args) => jobs::act(session, &args.jobs, JobAction::Cancel).await,
        Command::Pause(args) => jobs::act(session, &args.jobs, JobAction::Pause).await,
        Command::Resume(args) => jobs::act(session, &args.jobs, JobAction::Resume).await,
        Command::Keep(args) => jobs::act(session, &args.jobs, JobAction::Keep).await,
        Command::Release(args) => jobs::act(session, &args.jobs, JobAction::Release).await,
        Command::Retry(args) => jobs::act(session, &args.jobs, JobAction::Retry).await,
        Command::Delete(args) => jobs::act(session, &args.jobs, JobAction::Delete).await,
        Command::Agent(command) => agents::act(session, command).await,
        Command::Priority(args) => {
            jobs::act(session, &[args.job], JobAction::SetPriority(args.priority)).await
        }
        Command::Agents(args) => members::agents(session, args).await,
        Command::Footprints => members::footprints(session).await,
        Command::History(args) => history::run(session, args).await,
        Command::Logs(args) => jobs::logs(session, args).await,
        Command::Token(Token::Create(args)) if args.api => {
            tokens::create_for_api(session, args).await
        }
        Command::Token(Token::Create(args)) => tokens::create(session, args).await,
        Command::Token(Token::List) => tokens::list(session).await,
        Command::Token(Token::Revoke { name }) => tokens::revoke(session, name).await,
        Command::Member(MemberCommand::List) => members::list(session).await,
        Command::Member(MemberCommand::Remove { members }) => {
            members::remove(session, &members).await
        }
        Command::Join(args) => members::join(session, args).await,
        Command::Dashboard(args) => dashboard::run(session, &args).await,
    }
}

impl Session {
    /// The farm, as the identity of this session.
    pub(crate) async fn farm(&self) -> anyhow::Result<Farm> {
        let connect = async {
            let identity = Identity::load(&self.identity_dir()?)?;
            anyhow::Ok(Farm::connect(&identity).await?)
        };
        Ok(self.farm.get_or_try_init(|| connect).await?.clone())
    }

    pub(crate) fn identity_dir(&self) -> anyhow::Result<PathBuf> {
        if let Some(dir) = &self.identity {
            return Ok(dir.clone());
        }
        let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
        let base =
            config.or_else(home).context("there is no home directory: name one with --identity")?;
        Ok(base.join("grange"))
    }
}
