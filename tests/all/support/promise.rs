//! What a farm promises whatever happens: nothing acknowledged is lost, nothing is committed twice,
//! and what is committed is what was rendered.

use std::collections::BTreeMap;
use std::path::Path;

use grange_protocol::client::OutputsQuery;
use grange_protocol::file::Output;
use grange_protocol::{BlobHash, JobId};

use super::farm::Farm;

/// Frames of a job of fake Blenders, as [`grange_tests::noise`] draws them.
#[derive(Clone, Copy)]
pub(crate) struct Frames {
    pub(crate) count: i32,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl Frames {
    /// So many of the size that fake Blenders render unless told otherwise.
    pub(crate) fn small(count: i32) -> Self {
        Self { count, width: 8, height: 8 }
    }
}

impl Farm {
    /// Holds a completed job against what it should have come to: every frame is committed exactly
    /// once, as the file that it renders to, and the coordinator's disk has just these bytes.
    #[track_caller]
    pub(crate) fn keeps_its_promise(&self, job: u64, frames: Frames) {
        let expected: BTreeMap<String, BlobHash> = (1..=frames.count)
            .map(|frame| {
                let bytes = grange_tests::noise::png(frames.width, frames.height, frame);
                (format!("{frame:04}.png"), BlobHash::of(&bytes))
            })
            .collect();
        let outputs = self.all_outputs(job);
        assert_eq!(outputs.len(), expected.len(), "a name was committed twice or never");
        let committed: BTreeMap<String, BlobHash> =
            outputs.iter().map(|output| (output.name.to_string(), output.blob.hash)).collect();
        assert_eq!(committed, expected);
        let progress = &self.job(job)["job"]["progress"];
        assert_eq!(progress["tasks"]["completed"], frames.count, "{progress}");
        for output in outputs {
            let bytes = std::fs::read(blob_path(self.home(), output.blob.hash)).unwrap();
            assert_eq!(BlobHash::of(&bytes), output.blob.hash, "{} is damaged", output.name);
        }
        let files = files_of_store(&self.home().join("coordinator/store/blobs"));
        for (name, path) in files {
            let bytes = std::fs::read(path).unwrap();
            assert_eq!(BlobHash::of(&bytes).to_hex(), name, "a file is not what its name says");
        }
    }

    fn all_outputs(&self, job: u64) -> Vec<Output> {
        let job = JobId(u32::try_from(job).unwrap());
        self.ask(async |farm| {
            let (mut outputs, mut after) = (Vec::new(), Some(0));
            while let Some(cursor) = after {
                let query = OutputsQuery { job, step: None, after: cursor };
                let page = farm.outputs(query).await.unwrap();
                outputs.extend(page.rows.into_iter().map(|row| row.output));
                after = page.next;
            }
            outputs
        })
    }
}

fn blob_path(home: &Path, hash: BlobHash) -> std::path::PathBuf {
    let hex = hash.to_hex();
    home.join("coordinator/store/blobs").join(&hex[..1]).join(hex)
}

/// All files below a directory of directories: name and path.
pub(crate) fn files_of_store(blobs: &Path) -> Vec<(String, std::path::PathBuf)> {
    let shards = std::fs::read_dir(blobs).unwrap().flatten();
    shards
        .flat_map(|shard| std::fs::read_dir(shard.path()).unwrap().flatten())
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .collect()
}
