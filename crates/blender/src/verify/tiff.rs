//! TIFF: decoders read only the tags that they want, so that everything is there is checked here.

use std::io::{self, SeekFrom};

use super::format::Format;
use super::{Source, Why, pixels};

/// Directories of one file, each a picture.
const DIRECTORIES_MAX: usize = 1000;
/// Bytes of a tag's values that are looked into: the strips of a very large picture.
const STRIPS_MAX: usize = 16 << 20;

const STRIP_OFFSETS: u16 = 273;
const STRIP_BYTE_COUNTS: u16 = 279;
const TILE_OFFSETS: u16 = 324;
const TILE_BYTE_COUNTS: u16 = 325;

pub(super) fn check(mut source: impl Source, len: u64) -> Result<(), Why> {
    Walk::begin(&mut source, len).and_then(|mut walk| walk.directories()).map_err(|error| {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => "it is cut".to_string(),
            _ => error.to_string(),
        }
    })?;
    source.rewind().map_err(|error| error.to_string())?;
    pixels::check(Format::Tiff, source, len)
}

struct Walk<'a, S> {
    source: &'a mut S,
    len: u64,
    big_endian: bool,
}

/// A tag's values: how wide each is, how many, and where they begin.
struct Values {
    width: u64,
    count: u64,
    offset: u64,
}

impl<'a, S: Source> Walk<'a, S> {
    fn begin(source: &'a mut S, len: u64) -> io::Result<Self> {
        let mut order = [0; 4];
        source.read_exact(&mut order)?;
        Ok(Self { source, len, big_endian: order[0] == b'M' })
    }

    fn directories(&mut self) -> io::Result<()> {
        for _ in 0..DIRECTORIES_MAX {
            let at = u64::from(self.u32()?);
            if at == 0 {
                return Ok(());
            }
            self.source.seek(SeekFrom::Start(at))?;
            self.directory()?;
        }
        Err(io::Error::other("it has too many pictures"))
    }

    /// Leaves the source at the link to the next one.
    fn directory(&mut self) -> io::Result<()> {
        let count = self.u16()?;
        let (mut offsets, mut lengths) = (None, None);
        for _ in 0..count {
            let (tag, values) = self.tag()?;
            self.inside(values.offset, values.width * values.count)?;
            match tag {
                STRIP_OFFSETS | TILE_OFFSETS => offsets = Some(values),
                STRIP_BYTE_COUNTS | TILE_BYTE_COUNTS => lengths = Some(values),
                _ => {}
            }
        }
        let next = self.source.stream_position()?;
        if let (Some(offsets), Some(lengths)) = (offsets, lengths) {
            let offsets = self.numbers(&offsets)?;
            for (offset, len) in offsets.into_iter().zip(self.numbers(&lengths)?) {
                self.inside(offset, len)?;
            }
        }
        self.source.seek(SeekFrom::Start(next)).map(drop)
    }

    /// Leaves the source after the tag.
    fn tag(&mut self) -> io::Result<(u16, Values)> {
        let (tag, kind, count) = (self.u16()?, self.u16()?, u64::from(self.u32()?));
        let width = match kind {
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 => 8,
            _ => 1,
        };
        let place = self.source.stream_position()?;
        let link = u64::from(self.u32()?);
        let offset = if width * count <= 4 { place } else { link };
        Ok((tag, Values { width, count, offset }))
    }

    fn numbers(&mut self, values: &Values) -> io::Result<Vec<u64>> {
        let bytes = (values.width * values.count) as usize;
        if bytes > STRIPS_MAX {
            return Err(io::Error::other("it has too many strips"));
        }
        self.source.seek(SeekFrom::Start(values.offset))?;
        (0..values.count)
            .map(|_| match values.width {
                2 => self.u16().map(u64::from),
                _ => self.u32().map(u64::from),
            })
            .collect()
    }

    fn inside(&self, offset: u64, len: u64) -> io::Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn u16(&mut self) -> io::Result<u16> {
        let mut bytes = [0; 2];
        self.source.read_exact(&mut bytes)?;
        Ok(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.source.read_exact(&mut bytes)?;
        Ok(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }
}
