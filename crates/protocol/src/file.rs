//! Files on the wire: each on a stream of its own, named by its hash, resumable.
//!
//! **Put.** `Open::PutBlob` or `Open::PutOutput` → ([`PutReply`] unless the header is `eager`) →
//! the bytes from the offset that the reply names, then the end of the stream → [`PutDone`].
//! An eager sender does not wait for the reply and sends from offset 0; it does so with small
//! files, where a round trip costs more than bytes sent in vain. The receiver stops the stream if
//! it has the file already.
//!
//! **Get.** `Open::GetBlob` → [`GetReply`] → the bytes from the offset asked for, then the end.
//!
//! **Pictures.** `Open::PutPictures` → the bytes of all, then the end of the stream → [`PutDone`].
//!
//! The receiver checks length and hash; a broken transfer goes on at the byte where it broke.

use serde::{Deserialize, Serialize};

use crate::ids::{BlobHash, LeaseId, TaskRef};
use crate::limits::picture_max;
use crate::name::OutputName;
use crate::refusal::Refusal;

/// Up to this size a file is sent without waiting for leave. Bytes.
pub const EAGER_MAX: u64 = 1 << 20;
/// The longer sides of a file's small pictures, at most, in pixels.
pub const PICTURE_SIDES: [u32; 3] = [192, 480, 1_600];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutBlob {
    pub blob: Blob,
    pub eager: bool,
}

/// A file by its hash and its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Blob {
    pub hash: BlobHash,
    pub len: u64,
}

/// An agent commits a file that its task wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutOutput {
    pub lease: LeaseId,
    pub task: TaskRef,
    pub output: Output,
    pub eager: bool,
}

/// A file that a task wrote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Output {
    pub name: OutputName,
    pub role: OutputRole,
    /// The frame it belongs to; 0 for outputs that belong to none.
    pub frame: i32,
    pub blob: Blob,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum OutputRole {
    /// The picture (or one of its views) that the scene's output path names.
    Frame,
    /// What else the frame wrote: File Output nodes.
    Extra,
    /// A video of the job's frames.
    Preview,
}

/// An agent sends small pictures of a file that it has committed, as JPEG, one for each of
/// [`PICTURE_SIDES`]. Their bytes follow, one picture after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutPictures {
    pub of: BlobHash,
    /// How long each is, in bytes.
    pub lens: [u32; PICTURE_SIDES.len()],
    /// Files of which the agent sent no pictures since the ones before, because it did not keep up.
    pub skipped: u32,
}

impl PutPictures {
    /// The bytes of all; `None` if one has none or more than it may have.
    pub fn total_len(&self) -> Option<usize> {
        let sizes = self.lens.iter().zip(PICTURE_SIDES);
        sizes
            .map(|(len, side)| (1..=picture_max(side)).contains(len).then_some(*len as usize))
            .sum()
    }

    /// Each picture of the bytes of all; `None` if those are more or fewer than was announced.
    pub fn split(&self, bytes: &[u8]) -> Option<[Vec<u8>; PICTURE_SIDES.len()]> {
        if self.total_len() != Some(bytes.len()) {
            return None;
        }
        let mut rest = bytes;
        let mut pictures = [const { Vec::new() }; PICTURE_SIDES.len()];
        for (picture, len) in pictures.iter_mut().zip(self.lens) {
            let (one, others) = rest.split_at_checked(len as usize)?;
            *picture = one.to_vec();
            rest = others;
        }
        Some(pictures)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PutReply {
    /// Send the bytes from this offset on.
    SendFrom(u64),
    /// The bytes are there: send none, read [`PutDone`].
    Have,
    Refused(Refusal),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PutDone {
    /// Durable, and for an output: committed. Pictures are kept, and need not be durable.
    Stored,
    Refused(Refusal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetBlob {
    pub hash: BlobHash,
    /// Bytes that the asker has already.
    pub offset: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GetReply {
    /// The file's whole length in bytes; what follows is its end from the offset on.
    Sending {
        len: u64,
    },
    Refused(Refusal),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_split_where_they_were_announced_to_end_or_not_at_all() {
        let put = |lens| PutPictures { of: BlobHash::of(b"frame"), lens, skipped: 0 };
        let pictures = [b"a".to_vec(), b"bcd".to_vec(), b"ef".to_vec()];
        assert_eq!(put([1, 3, 2]).split(b"abcdef"), Some(pictures));
        assert_eq!(put([1, 3, 2]).split(b"abcde"), None);
        assert_eq!(put([1, 3, 2]).split(b"abcdefg"), None);
        assert_eq!(put([1, 0, 5]).split(b"abcdef"), None, "one has no bytes");
        assert_eq!(put([1, 3, u32::MAX]).split(b"abcdef"), None);
    }
}
