//! Formats by name and by their first bytes.

use std::fmt;
use std::path::Path;

use super::Why;

/// First bytes that tell formats apart.
pub(super) const HEAD: usize = 64;

/// What Blender writes, and what video encoders make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Png,
    Jpeg,
    Tiff,
    Exr,
    Bmp,
    Tga,
    Hdr,
    WebP,
    Dpx,
    Cineon,
    Jpeg2000,
    Iris,
    Mp4,
    Avi,
    Matroska,
    Ogg,
    /// Anything else: whole if it is not empty.
    Other,
}

impl Format {
    pub(super) fn from_name(path: &Path) -> Option<Self> {
        Some(match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "png" => Self::Png,
            "jpg" | "jpeg" => Self::Jpeg,
            "tif" | "tiff" => Self::Tiff,
            "exr" => Self::Exr,
            "bmp" => Self::Bmp,
            "tga" => Self::Tga,
            "hdr" => Self::Hdr,
            "webp" => Self::WebP,
            "dpx" => Self::Dpx,
            "cin" => Self::Cineon,
            "jp2" | "j2c" | "j2k" => Self::Jpeg2000,
            "rgb" => Self::Iris,
            "mp4" | "mov" | "m4v" => Self::Mp4,
            "avi" => Self::Avi,
            "mkv" | "webm" => Self::Matroska,
            "ogv" | "ogg" => Self::Ogg,
            _ => return None,
        })
    }

    /// Whether these can be the first bytes of such a file. A TGA begins with anything.
    pub(super) fn begins(self, head: &[u8]) -> bool {
        let starts = |magics: &[&[u8]]| magics.iter().any(|magic| head.starts_with(magic));
        let at = |offset: usize, magic: &[u8]| {
            head.get(offset..).is_some_and(|rest| rest.starts_with(magic))
        };
        match self {
            Self::Png => starts(&[b"\x89PNG\r\n\x1a\n"]),
            Self::Jpeg => starts(&[b"\xff\xd8\xff"]),
            Self::Tiff => starts(&[b"II*\0", b"MM\0*"]),
            Self::Exr => starts(&[b"\x76\x2f\x31\x01"]),
            Self::Bmp => starts(&[b"BM"]),
            Self::Hdr => starts(&[b"#?RADIANCE", b"#?RGBE"]),
            Self::WebP => starts(&[b"RIFF"]) && at(8, b"WEBP"),
            Self::Dpx => starts(&[b"SDPX", b"XPDS"]),
            Self::Cineon => starts(&[b"\x80\x2a\x5f\xd7", b"\xd7\x5f\x2a\x80"]),
            Self::Jpeg2000 => starts(&[b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"]),
            Self::Iris => starts(&[b"\x01\xda"]),
            Self::Mp4 => at(4, b"ftyp") || at(4, b"moov") || at(4, b"mdat") || at(4, b"wide"),
            Self::Avi => starts(&[b"RIFF"]) && at(8, b"AVI "),
            Self::Matroska => starts(&[b"\x1a\x45\xdf\xa3"]),
            Self::Ogg => starts(&[b"OggS"]),
            Self::Tga | Self::Other => true,
        }
    }

    /// The format of a file whose name says nothing.
    pub(super) fn sniff(head: &[u8]) -> Self {
        const KNOWN: [Format; 15] = [
            Format::Png,
            Format::Jpeg,
            Format::Tiff,
            Format::Exr,
            Format::Hdr,
            Format::WebP,
            Format::Dpx,
            Format::Cineon,
            Format::Jpeg2000,
            Format::Mp4,
            Format::Avi,
            Format::Matroska,
            Format::Ogg,
            // Two bytes prove little, so nothing is tried after these.
            Format::Iris,
            Format::Other,
        ];
        KNOWN.into_iter().find(|format| format.begins(head)).unwrap_or(Self::Other)
    }
}

/// DPX and Cineon say in their headers how long they are.
pub(super) fn declared_len(format: Format, head: &[u8], len: u64) -> Result<(), Why> {
    let (offset, big_endian) = match format {
        Format::Cineon => (20, head.starts_with(b"\x80")),
        _ => (16, head.starts_with(b"SDPX")),
    };
    let bytes: [u8; 4] = head
        .get(offset..offset + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or("its header is cut")?;
    let declared = if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    if declared != u32::MAX && u64::from(declared) > len {
        return Err(format!("it has {len} bytes of {declared}"));
    }
    Ok(())
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::Tiff => "TIFF",
            Self::Exr => "EXR",
            Self::Bmp => "BMP",
            Self::Tga => "TGA",
            Self::Hdr => "HDR",
            Self::WebP => "WebP",
            Self::Dpx => "DPX",
            Self::Cineon => "Cineon",
            Self::Jpeg2000 => "JPEG 2000",
            Self::Iris => "Iris",
            Self::Mp4 => "MP4",
            Self::Avi => "AVI",
            Self::Matroska => "Matroska",
            Self::Ogg => "Ogg",
            Self::Other => "file",
        })
    }
}
