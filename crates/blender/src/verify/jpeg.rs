//! JPEG: decoders forgive a missing end, so the end is looked for as well.

use std::io::SeekFrom;

use super::format::Format;
use super::{Source, Why, pixels};

const END: [u8; 2] = [0xff, 0xd9];

pub(super) fn check(mut source: impl Source, len: u64) -> Result<(), Why> {
    let walked = find_end(&mut source).map_err(|error| error.to_string())?;
    if !walked {
        return Err("it has no end".into());
    }
    source.rewind().map_err(|error| error.to_string())?;
    pixels::check(Format::Jpeg, source, len)
}

/// Whether the picture's end marker is there, past all segments: a thumbnail inside of one has
/// an end of its own.
fn find_end(source: &mut impl Source) -> std::io::Result<bool> {
    let mut marker = [0; 2];
    source.read_exact(&mut marker)?;
    loop {
        if source.read_exact(&mut marker[..1]).is_err() {
            return Ok(false);
        }
        if marker[0] != 0xff {
            continue;
        }
        while marker[0] == 0xff {
            if source.read_exact(&mut marker[..1]).is_err() {
                return Ok(false);
            }
        }
        match marker[0] {
            0xd9 => return Ok(true),
            // Inside of pixels: an escaped 0xff, a restart.
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            _ => {
                let mut len = [0; 2];
                if source.read_exact(&mut len).is_err() {
                    return Ok(false);
                }
                let rest = i64::from(u16::from_be_bytes(len)) - 2;
                source.seek_relative(rest.max(0))?;
            }
        }
    }
}

/// For JPEG 2000, whose code stream ends with the same marker and may be the last box of a file.
pub(super) fn ends_with_marker(mut source: impl Source) -> Result<(), Why> {
    let mut end = [0; 2];
    let read = source.seek(SeekFrom::End(-2)).and_then(|_| source.read_exact(&mut end));
    match read {
        Ok(()) if end == END => Ok(()),
        _ => Err("it has no end".into()),
    }
}
