//! The bytes of a .blend file, decompressed: read forwards, with cheap skips.
//!
//! Blender writes plain files, Zstandard (3.0 and later) and gzip (before). Nothing here takes
//! memory that grows with what a file claims about itself.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use flate2::bufread::MultiGzDecoder;

use super::error::Fault;

/// Bytes after decompression beyond which a compressed file is not read on.
const UNPACKED_MAX: u64 = 64 << 30;
/// Bytes that may be held in memory of any file …
const HELD_MIN: u64 = 256 << 20;
/// … and for each byte that it has on the disk: real scenes hold up to 25 when compressed.
const HELD_PER_BYTE: u64 = 64;

const PLAIN_MAGIC: [u8; 4] = *b"BLEN";
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BUFFER_BYTES: usize = 256 << 10;
/// Compressed bytes that are passed over between two looks at the clock.
const SKIP_BYTES: u64 = 64 << 20;

pub(super) struct Source<'a> {
    bytes: Bytes<'a>,
    /// Bytes that were read or skipped, after decompression.
    passed: u64,
    pub(super) unpacked_max: u64,
    /// How many bytes a reader may keep of it.
    pub(super) held_max: u64,
    /// When to stop reading, if ever.
    pub(super) deadline: Option<Deadline>,
}

/// The end of somebody's patience.
#[derive(Clone, Debug)]
pub(super) struct Deadline {
    pub(super) until: Instant,
    pub(super) canceled: Arc<AtomicBool>,
}

impl Deadline {
    pub(super) fn check(&self) -> Result<(), Fault> {
        if self.canceled.load(Ordering::Relaxed) || Instant::now() > self.until {
            return Err(Fault::TooLarge("reading it takes longer than it may"));
        }
        Ok(())
    }
}

enum Bytes<'a> {
    Plain { reader: BufReader<File>, len: u64 },
    Packed(Box<dyn Read + 'a>),
}

impl<'a> Source<'a> {
    pub(super) fn of_file(file: File) -> Result<Self, Fault> {
        let len = file.metadata().map_err(Fault::Io)?.len();
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
        let magic = peek(&mut reader)?;
        let bytes = match decompressor(magic, reader)? {
            Ok(decompressor) => Bytes::Packed(decompressor),
            Err(reader) => Bytes::Plain { reader, len },
        };
        Ok(Self::new(bytes, len))
    }

    /// A library that lies packed in another file.
    pub(super) fn of_bytes(bytes: &'a [u8]) -> Result<Self, Fault> {
        let len = bytes.len() as u64;
        let mut reader = Cursor::new(bytes);
        let magic = peek(&mut reader)?;
        let bytes = match decompressor(magic, reader)? {
            Ok(decompressor) => decompressor,
            Err(plain) => Box::new(plain),
        };
        Ok(Self::new(Bytes::Packed(bytes), len))
    }

    /// `len`: of what lies on the disk.
    fn new(bytes: Bytes<'a>, len: u64) -> Self {
        let held_max = HELD_MIN.max(len.saturating_mul(HELD_PER_BYTE));
        Self { bytes, passed: 0, unpacked_max: UNPACKED_MAX, held_max, deadline: None }
    }

    /// Fills all of `buffer`.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Fault> {
        self.pass(buffer.len() as u64)?;
        self.reader().read_exact(buffer).map_err(Fault::of_reader)
    }

    /// Appends `len` bytes; memory grows as they arrive, not as they are promised.
    pub(super) fn append(&mut self, to: &mut Vec<u8>, len: u64) -> Result<(), Fault> {
        self.pass(len)?;
        let read = self.reader().take(len).read_to_end(to).map_err(Fault::of_reader)?;
        if (read as u64) < len { Err(Fault::Truncated) } else { Ok(()) }
    }

    /// Passes over `len` bytes; those of a plain file are not read for it.
    pub(super) fn skip(&mut self, len: u64) -> Result<(), Fault> {
        if let Bytes::Plain { .. } = self.bytes {
            self.pass(len)?;
            let offset = i64::try_from(len).map_err(|_| Fault::Truncated)?;
            let Bytes::Plain { reader, .. } = &mut self.bytes else { return Ok(()) };
            return reader.seek_relative(offset).map_err(Fault::of_reader);
        }
        let mut left = len;
        while left > 0 {
            let step = left.min(SKIP_BYTES);
            self.pass(step)?;
            let skipped = io::copy(&mut self.reader().take(step), &mut io::sink());
            if skipped.map_err(Fault::of_reader)? < step {
                return Err(Fault::Truncated);
            }
            left -= step;
        }
        Ok(())
    }

    /// Counts what is about to be passed, and refuses what cannot or must not be there.
    fn pass(&mut self, len: u64) -> Result<(), Fault> {
        self.passed = self.passed.saturating_add(len);
        self.deadline.as_ref().map_or(Ok(()), Deadline::check)?;
        match self.bytes {
            Bytes::Plain { len, .. } if self.passed > len => Err(Fault::Truncated),
            Bytes::Packed(_) if self.passed > self.unpacked_max => {
                Err(Fault::TooLarge("more than 64 GiB when decompressed"))
            }
            _ => Ok(()),
        }
    }

    fn reader(&mut self) -> &mut dyn Read {
        match &mut self.bytes {
            Bytes::Plain { reader, .. } => reader,
            Bytes::Packed(reader) => reader,
        }
    }
}

/// The first four bytes, which stay unread; zeros stand for what is not there.
fn peek(reader: &mut impl BufRead) -> Result<[u8; 4], Fault> {
    let start = reader.fill_buf().map_err(Fault::of_reader)?;
    if start.is_empty() {
        return Err(Fault::Truncated);
    }
    let mut magic = [0; 4];
    let len = start.len().min(4);
    magic[..len].copy_from_slice(&start[..len]);
    Ok(magic)
}

/// The decompressor that the magic asks for, or the reader itself if none is needed.
fn decompressor<'a, R: BufRead + 'a>(
    magic: [u8; 4],
    reader: R,
) -> Result<Result<Box<dyn Read + 'a>, R>, Fault> {
    if magic == ZSTD_MAGIC {
        let decoder = zstd::Decoder::with_buffer(reader).map_err(Fault::of_reader)?;
        return Ok(Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))));
    }
    if magic.starts_with(&GZIP_MAGIC) {
        let decoder = MultiGzDecoder::new(reader);
        return Ok(Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))));
    }
    if magic == PLAIN_MAGIC { Ok(Err(reader)) } else { Err(Fault::NotBlend) }
}
