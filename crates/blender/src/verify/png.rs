//! PNG, decoded row by row so that memory does not grow with the picture.

use super::{Source, Why};

pub(super) fn check(source: impl Source) -> Result<(), Why> {
    let read = || {
        let mut reader = ::png::Decoder::new(source).read_info()?;
        while reader.next_row()?.is_some() {}
        // Up to the end chunk.
        reader.finish()
    };
    read().map_err(|error| error.to_string())
}
