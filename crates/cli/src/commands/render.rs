//! One machine, nothing configured: a whole farm in this process.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use grange_client::{Farm, Folder};
use grange_coordinator::HttpListen;
use grange_protocol::JobId;
use grange_protocol::client::JobAction;
use grange_protocol::job::Policy;
use grange_protocol::kinds::Submission;
use grange_protocol::view::JobState;

use super::{Session, dashboard};
use crate::args::Render;
use crate::display::Display;
use crate::exit::{CANCELED, Ending};
use crate::follow::Follow;
use crate::local::{LocalFarm, Plan};
use crate::missing::{Count, leave_out_what_is_there};
use crate::print;

pub(super) async fn run(session: &Session, args: Render) -> anyhow::Result<Ending> {
    let opened = args.scene.open()?;
    let mut kind = opened.kind(&args.scene, args.preview)?;
    let folder = Folder::open(&args.output)?;
    if !args.overwrite {
        let Count { wanted, there } =
            leave_out_what_is_there(&mut kind, &opened.summary, folder.path())?;
        if there == wanted {
            print::note(&format!("all {wanted} frames are in {} already", folder.path().display()));
            return Ok(Ending::Done);
        }
        if there > 0 {
            print::note(&format!("{there} of {wanted} frames are there already"));
        }
    }
    let package = tokio::task::block_in_place(|| opened.pack(args.scene.allow_missing))?;
    let engines = opened.summary.scenes.iter().map(|scene| scene.engine.clone());
    let engines = engines.collect::<BTreeSet<_>>().into_iter().collect();
    let http = match args.open {
        true => HttpListen::At(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        false => HttpListen::Off,
    };
    let plan = Plan { host: &args.host, engines, memory_mib: None, http };
    let local = tokio::select! {
        local = LocalFarm::start(plan) => local?,
        interrupted = interrupt() => return interrupted,
    };
    let farm = local.farm().clone();
    let rendering = async {
        if args.open {
            dashboard::open(&farm).await?;
        }
        let (manifest, _) = package.upload(&farm, |_, _| {}).await?;
        let name = package.blend.file_name().parse()?;
        let submission = Submission {
            name,
            priority: grange_protocol::Priority::DEFAULT,
            policy: Policy::default(),
            manifest: Some(manifest),
            queue_anyway: false,
            tags: BTreeSet::new(),
            kind,
        };
        let job = farm.submit(submission).await?;
        render(session, &farm, job, folder).await
    };
    let ending = rendering.await;
    local.stop().await;
    ending
}

/// Follows the job; Ctrl-C cancels it.
async fn render(
    session: &Session,
    farm: &Farm,
    job: JobId,
    folder: Folder,
) -> anyhow::Result<Ending> {
    let mut display = Display::new(session.json);
    let mut follow = Follow::new(farm.clone(), job, Some(folder));
    let ended = tokio::select! {
        ended = follow.until_the_end(&mut display) => Some(ended),
        interrupted = interrupt() => interrupted.map(|_| None)?,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            die_on_the_next_interrupt();
            farm.act(job, JobAction::Cancel).await?;
            follow.until_the_end(&mut display).await
        }
    };
    display.finish();
    let ended = ended?;
    if !session.json {
        let reason = ended.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
        print::note(&format!("{} · {}{reason}", ended.state, print::summary(&ended)));
    }
    Ok(match ended.state {
        JobState::Completed => Ending::Done,
        JobState::Canceled => Ending::Canceled,
        _ => Ending::NotDone,
    })
}

/// The first Ctrl-C (or SIGTERM).
async fn interrupt() -> anyhow::Result<Ending> {
    let mut signals = grange_daemon::signals::StopSignals::catch().context("no signals")?;
    signals.next().await;
    Ok(Ending::Canceled)
}

/// The second one does not wait for anything. Blender dies with this process.
fn die_on_the_next_interrupt() {
    tokio::spawn(async {
        if interrupt().await.is_ok() {
            std::process::exit(i32::from(CANCELED));
        }
    });
}
