//! Formats that are decoded as a whole.

use image::{ImageFormat, ImageReader, Limits};

use super::format::Format;
use super::{Source, Why, movie, read_up_to};

/// A picture in memory, in bytes: 32,768 pixels square in RGBA of 8 bits …
const DECODED_MAX: u64 = 4 << 30;
/// … but what a small file may claim ends here: the largest WebP, which may be a few bytes if it has
/// one colour …
const DECODED_MIN: u64 = 1_100 << 20;
/// … and the densest of the others, LZW, has codes of 12 bits for 4,096 bytes at most.
const DECODED_PER_BYTE: u64 = 4_096 * 8 / 12 + 1;
const SIDE_MAX: u32 = 65_536;

pub(super) fn check(format: Format, mut source: impl Source, len: u64) -> Result<(), Why> {
    if format == Format::WebP {
        let mut head = [0; 8];
        let read = read_up_to(&mut source, &mut head).map_err(|error| error.to_string())?;
        movie::riff(&head[..read], len)?;
        source.rewind().map_err(|error| error.to_string())?;
    }
    let format = match format {
        Format::Bmp => ImageFormat::Bmp,
        Format::Tga => ImageFormat::Tga,
        Format::Hdr => ImageFormat::Hdr,
        Format::WebP => ImageFormat::WebP,
        Format::Jpeg => ImageFormat::Jpeg,
        Format::Tiff => ImageFormat::Tiff,
        other => return Err(format!("there is no decoder for {other}")),
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    let claimed = len.saturating_mul(DECODED_PER_BYTE);
    limits.max_alloc = Some(claimed.clamp(DECODED_MIN, DECODED_MAX));
    let mut reader = ImageReader::with_format(source, format);
    reader.limits(limits);
    reader.decode().map(drop).map_err(|error| error.to_string())
}
