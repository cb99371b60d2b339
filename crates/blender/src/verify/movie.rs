//! Films, by the lengths that their parts declare.

use std::io::SeekFrom;

use super::{Source, Why, read_up_to};

/// Parts of a film that are walked through; a fragmented one has a few per second.
const BOXES_MAX: usize = 1_000_000;

/// MP4 and QuickTime: boxes from the first byte to the last, one of them the index.
pub(super) fn boxes(mut source: impl Source, len: u64) -> Result<(), Why> {
    let (mut at, mut has_index) = (0, false);
    for _ in 0..BOXES_MAX {
        let mut head = [0; 16];
        source.seek(SeekFrom::Start(at)).map_err(|error| error.to_string())?;
        let read = read_up_to(&mut source, &mut head).map_err(|error| error.to_string())?;
        if read == 0 {
            return if has_index { Ok(()) } else { Err("it has no index".into()) };
        }
        let size = match u32::from_be_bytes([head[0], head[1], head[2], head[3]]) {
            0 => len - at,
            1 => u64::from_be_bytes(std::array::from_fn(|byte| head[8 + byte])),
            size => u64::from(size),
        };
        has_index |= &head[4..8] == b"moov";
        match at.checked_add(size) {
            Some(end) if size >= 8 && end <= len => at = end,
            _ => return Err("a part of it is cut".into()),
        }
    }
    Err("it has too many parts".into())
}

/// AVI and WebP: the length of everything after the first eight bytes.
pub(super) fn riff(head: &[u8], len: u64) -> Result<(), Why> {
    let bytes =
        head.get(4..8).and_then(|bytes| bytes.try_into().ok()).ok_or("its header is cut")?;
    let declared = u64::from(u32::from_le_bytes(bytes)) + 8;
    if declared > len { Err(format!("it has {len} bytes of {declared}")) } else { Ok(()) }
}
