//! Handing a scene to the farm.

use std::fmt::Display;

use grange_client::farm::new_key;
use grange_client::{ClientError, Farm, Folder};
use grange_protocol::RefusalCode;
use grange_protocol::job::Policy;
use grange_protocol::kinds::Submission;
use indicatif::DecimalBytes;

use super::Session;
use super::watch::follow;
use crate::args::Submit;
use crate::exit::Ending;
use crate::follow::PATIENCE;
use crate::print;

pub(super) async fn run(session: &Session, args: Submit) -> anyhow::Result<Ending> {
    let opened = args.scene.open()?;
    let kind = opened.kind(&args.scene, !args.no_preview)?;
    // Before a gigabyte is sent: does the folder work?
    let folder = args.output.as_deref().map(Folder::open).transpose()?;
    let mut farm = session.farm().await?;
    let package = tokio::task::block_in_place(|| opened.pack(args.scene.allow_missing))?;
    let send = |farm: Farm| {
        let package = &package;
        async move { package.upload(&farm, |_, _| {}).await }
    };
    let (manifest, uploaded) = farm.insist(PATIENCE, says_why, send).await?;
    let name = args.name.clone().unwrap_or_else(|| package.blend.file_name().to_owned());
    let submission = Submission {
        name: name.parse()?,
        priority: args.priority,
        policy: Policy {
            attempts_max: args.attempts,
            failed_tasks_max_percent: args.failed_max,
            stall_s: args.stall.as_secs().clamp(1, u32::MAX.into()) as u32,
            ..Policy::default()
        },
        manifest: Some(manifest),
        queue_anyway: args.queue_anyway,
        tags: args.tags.iter().cloned().collect(),
        kind,
    };
    let key = new_key()?;
    let submit = |farm: Farm| {
        let submission = submission.clone();
        async move { farm.submit_once(submission, key).await }
    };
    let job = farm.insist(PATIENCE, says_why, submit).await.map_err(advised)?;
    if session.json {
        print::json(&serde_json::json!({
            "job": job,
            "files": uploaded.total_files,
            "bytes": uploaded.total_bytes,
            "uploaded_files": uploaded.files,
            "uploaded_bytes": uploaded.bytes,
        }));
    } else {
        print::line(&format!(
            "job {job}: {name}, {} files ({}), {} of them uploaded ({})",
            uploaded.total_files,
            DecimalBytes(uploaded.total_bytes),
            uploaded.files,
            DecimalBytes(uploaded.bytes)
        ));
    }
    if args.wait { follow(session, farm, job, folder).await } else { Ok(Ending::Done) }
}

/// What is done again says why it takes so long.
fn says_why(error: &impl Display) {
    print::note(&format!("{error}; connecting again"));
}

/// A farm may get tomorrow what it lacks today.
fn advised(error: ClientError) -> anyhow::Error {
    let lacks =
        matches!(&error, ClientError::Refused(refusal) if refusal.code == RefusalCode::NoAgentFits);
    match lacks {
        true => anyhow::anyhow!(
            "{error}, or submit with --queue-anyway to wait for a host that can render it"
        ),
        false => error.into(),
    }
}
