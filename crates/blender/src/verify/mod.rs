//! Whether an output is a whole file of its format.
//!
//! A full disk leaves a cut PNG or an EXR of no bytes, and Blender calls that saved. So every
//! output is read here before it counts: hashed, and decoded where a decoder is at hand. Formats
//! that nobody here can decode are checked by how they begin and by the lengths they declare.
//!
//! Never changes a file, never judges what the picture shows.

mod exr;
mod format;
mod jpeg;
mod movie;
mod pixels;
mod png;
mod tiff;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use grange_protocol::BlobHash;
use grange_protocol::limits::BLOB_MAX;

use format::Format;

/// Files up to this size are read into memory, once; larger ones are read twice. Bytes.
const IN_MEMORY_MAX: u64 = 256 << 20;
const CHUNK: usize = 1 << 20;

/// A whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Length in bytes.
    pub len: u64,
    pub hash: BlobHash,
}

#[derive(Debug, thiserror::Error)]
pub enum BadOutput {
    #[error("the file is empty: is the disk full?")]
    Empty,
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("the file is larger than {BLOB_MAX} bytes")]
    TooLarge,
    #[error("the file is named like {0}, and is none")]
    OtherFormat(Format),
    #[error("the {format} is not whole: {why}")]
    Broken { format: Format, why: String },
}

/// Reads a file through and hashes it. Blocks; takes as long as decoding does.
pub fn verify(path: &Path) -> Result<Verified, BadOutput> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    match len {
        0 => Err(BadOutput::Empty),
        1..=IN_MEMORY_MAX => {
            let mut bytes = Vec::with_capacity(len as usize);
            file.take(IN_MEMORY_MAX + 1).read_to_end(&mut bytes)?;
            let verified = Verified { len: bytes.len() as u64, hash: BlobHash::of(&bytes) };
            check(path, Cursor::new(&bytes[..]), verified.len)?;
            Ok(verified)
        }
        len if len <= BLOB_MAX => {
            let hash = hash(&mut file)?;
            file.seek(SeekFrom::Start(0))?;
            check(path, BufReader::with_capacity(CHUNK, file), len)?;
            Ok(Verified { len, hash })
        }
        _ => Err(BadOutput::TooLarge),
    }
}

fn hash(file: &mut File) -> io::Result<BlobHash> {
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hasher.finalize().into()),
            read => hasher.update(&chunk[..read]),
        };
    }
}

/// Why a file is not whole, as a fragment of a sentence.
type Why = String;

/// What every decoder here reads from.
trait Source: BufRead + Seek {}
impl<T: BufRead + Seek> Source for T {}

fn check(path: &Path, mut source: impl Source, len: u64) -> Result<(), BadOutput> {
    let mut head = [0; format::HEAD];
    let filled = read_up_to(&mut source, &mut head)?;
    let head = &head[..filled];
    source.seek(SeekFrom::Start(0))?;
    let format = match Format::from_name(path) {
        Some(format) if !format.begins(head) => return Err(BadOutput::OtherFormat(format)),
        Some(format) => format,
        None => Format::sniff(head),
    };
    // Decoders are others' code, and files are strangers': a panic there is a bad file here.
    let checked = catch_unwind(AssertUnwindSafe(|| decode(format, source, head, len)));
    match checked {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why)) => Err(BadOutput::Broken { format, why }),
        Err(_) => Err(BadOutput::Broken { format, why: "its decoder gave up".into() }),
    }
}

fn decode(format: Format, source: impl Source, head: &[u8], len: u64) -> Result<(), Why> {
    match format {
        Format::Png => png::check(source),
        Format::Jpeg => jpeg::check(source, len),
        Format::Tiff => tiff::check(source, len),
        Format::Exr => exr::check(source),
        Format::Bmp | Format::Tga | Format::Hdr | Format::WebP => {
            pixels::check(format, source, len)
        }
        Format::Mp4 => movie::boxes(source, len),
        Format::Avi => movie::riff(head, len),
        Format::Dpx | Format::Cineon => format::declared_len(format, head, len),
        Format::Jpeg2000 => jpeg::ends_with_marker(source),
        Format::Iris | Format::Matroska | Format::Ogg | Format::Other => Ok(()),
    }
}

/// Reads until the buffer is full or the source ends.
fn read_up_to(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;
