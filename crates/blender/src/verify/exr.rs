//! OpenEXR, every part and layer, block by block so that memory does not grow with the picture.

use ::exr::block::UncompressedBlock;
use ::exr::block::reader::{ChunksReader, Reader};
use ::exr::error::Error;

use super::{Source, Why};

pub(super) fn check(source: impl Source) -> Result<(), Why> {
    read(source).map_err(|error| error.to_string())
}

/// Every block that the header promises is read and, where this library can, decoded.
fn read(source: impl Source) -> Result<(), Error> {
    // Headers of Blender's are taken as they are; offset tables must be whole.
    let mut chunks = match Reader::read_from_buffered(source, false) {
        Ok(reader) => reader.all_chunks(true)?,
        Err(error) => return Err(error),
    };
    let meta = chunks.meta_data().clone();
    while let Some(chunk) = chunks.read_next_chunk() {
        match UncompressedBlock::decompress_chunk(chunk?, &meta, false) {
            Ok(_) | Err(Error::NotSupported(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
