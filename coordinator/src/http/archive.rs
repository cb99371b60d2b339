//! All that a job has rendered, as one zip that is made while it is sent.
//!
//! Files are stored and not compressed: pictures are already. Nothing is kept but the list of names,
//! which stands at the end of a zip.

use std::io::{self, Write};
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use grange_protocol::client::OutputsQuery;
use grange_protocol::file::Output;
use grange_protocol::{BlobHash, JobId};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::extract::At;
use super::openapi::Problems;
use super::outgoing::Pieces;
use super::{Api, Problem};
use crate::connection::no_job;

const PIECE_BYTES: usize = 256 << 10;
/// Pieces that wait for the network, and names that wait for the disk. Full, the other side waits.
const PIECES: usize = 4;
const NAMES: usize = 1_024;
/// How long a transfer waits for one of the others to end.
const TURN: Duration = Duration::from_secs(20);
/// From this size on a file's lengths need more than 32 bits.
const LARGE: u64 = u32::MAX as u64;

/// All outputs of a job
///
/// As a zip without compression, of what is there when it is asked for.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/outputs.zip", operation_id = "outputs_zip", tag = "outputs",
    params(("id" = u32, Path, example = 1)),
    responses((status = 200, body = Vec<u8>, content_type = "application/zip"), Problems),
)]
pub(super) async fn zip(State(api): State<Api>, At(id): At<u32>) -> Result<Response, Problem> {
    let job = JobId(id);
    let look = move |farm: &mut crate::farm::Farm| farm.core.state().jobs.contains_key(&job);
    if !api.shared.farm.look(look).await? {
        return Err(no_job(&api.shared, job).await.into());
    }
    let permit = tokio::time::timeout(TURN, api.transfers.clone().acquire_owned()).await;
    let Ok(Ok(permit)) = permit else {
        return Err(Problem::busy("too many files are on their way: try again in a moment"));
    };
    let (names, listed) = mpsc::channel(NAMES);
    let (pieces, body) = Pieces::new(PIECES);
    tokio::spawn(list(api.clone(), job, names));
    let store = api.shared.store.clone();
    spawn_blocking(move || {
        let _permit = permit;
        if let Err(error) = pack(listed, |hash| store.read(hash), pieces) {
            tracing::debug!("the zip of job {job} is not whole: {error}");
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "application/zip".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"job-{job}.zip\"")),
        (header::CACHE_CONTROL, "private, no-store".to_owned()),
    ];
    Ok((headers, body).into_response())
}

/// Tells the outputs in the order of their commit; an error ends them.
async fn list(api: Api, job: JobId, names: mpsc::Sender<io::Result<Output>>) {
    let mut after = Some(0);
    while let Some(cursor) = after {
        let query = OutputsQuery { job, step: None, after: cursor };
        let page = match api.shared.archive.outputs(query).await {
            Ok(page) => page,
            Err(error) => {
                let _ = names.send(Err(io::Error::other(error.to_string()))).await;
                return;
            }
        };
        after = page.next;
        for row in page.rows {
            if names.send(Ok(row.output)).await.is_err() {
                return;
            }
        }
    }
}

/// Writes the zip. One that breaks off does not end as a whole one does.
fn pack(
    mut listed: mpsc::Receiver<io::Result<Output>>,
    read: impl Fn(BlobHash) -> io::Result<std::fs::File>,
    pieces: Pieces,
) -> io::Result<()> {
    let buffer = Vec::with_capacity(PIECE_BYTES);
    let mut zip = ZipWriter::new_stream(Buffered { buffer, pieces });
    while let Some(output) = listed.blocking_recv() {
        let output = output?;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(output.blob.len >= LARGE);
        zip.start_file(output.name.to_string(), options)?;
        io::copy(&mut read(output.blob.hash)?, &mut zip)?;
    }
    let mut written = zip.finish()?.into_inner();
    written.flush()?;
    written.pieces.end();
    Ok(())
}

/// Bytes on their way to the network, a piece at a time.
struct Buffered {
    buffer: Vec<u8>,
    pieces: Pieces,
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES));
        if piece.is_empty() { Ok(()) } else { self.pieces.send(piece.into()) }
    }
}
