//! One picture as an EXR of its own.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use ::exr::compression::Compression;
use ::exr::image::write::WritableImage;
use ::exr::image::{AnyChannel, AnyChannels, Blocks, Encoding, FlatSamples, Image, Layer};
use ::exr::meta::attribute::LineOrder;
use ::exr::meta::header::LayerAttributes;

use super::Picture;

const CHUNK: usize = 1 << 20;

/// On one core: the others render.
pub(super) fn write(path: &Path, compression: Compression, picture: &Picture) -> io::Result<()> {
    let channels = picture
        .planes
        .iter()
        .map(|(name, plane)| AnyChannel::new(*name, FlatSamples::F32(plane.clone())));
    let channels = AnyChannels::sort(channels.collect());
    let encoding =
        Encoding { compression, blocks: Blocks::ScanLines, line_order: LineOrder::Increasing };
    let size = (picture.width, picture.height);
    let layer = Layer::new(size, LayerAttributes::default(), encoding, channels);
    let file = BufWriter::with_capacity(CHUNK, File::create(path)?);
    Image::from_layer(layer).write().non_parallel().to_buffered(file).map_err(io::Error::other)
}
