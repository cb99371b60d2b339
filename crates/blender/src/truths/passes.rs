//! The passes of a frame, read out of the file that the worker wrote.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;

use ::exr::block::UncompressedBlock;
use ::exr::block::reader::{ChunksReader, Reader};
use ::exr::compression::Compression;
use ::exr::error::Error;
use ::exr::meta::attribute::{ChannelList, SampleType};
use ::exr::meta::header::Header;
use grange_protocol::agent::{Failure, FailureKind};

use super::{Kind, Truth, odd};

const CHUNK: usize = 1 << 20;

/// A pass of Blender's: its names in different versions, and its channels.
pub(super) struct Pass {
    names: &'static [&'static str],
    channels: &'static [&'static str],
    /// Some engines make none, and there it is zero.
    optional: bool,
}

const fn pass(names: &'static [&'static str], channels: &'static [&'static str]) -> Pass {
    Pass { names, channels, optional: false }
}

const RGB: &[&str] = &["R", "G", "B"];
const XYZ: &[&str] = &["X", "Y", "Z"];
const DEPTH: Pass = pass(&["Depth", "Z"], &["Z"]);
const NORMAL: Pass = pass(&["Normal"], XYZ);
const VECTOR: Pass = pass(&["Vector", "Speed"], &["X", "Y", "Z", "W"]);
const OBJECT: Pass = pass(&["IndexOB", "Object Index"], &["X"]);
const MATERIAL: Pass = pass(&["IndexMA", "Material Index"], &["X"]);
const DIFFUSE: Pass = pass(&["DiffCol", "Diffuse Color"], RGB);
const GLOSSY_DIRECT: Pass = pass(&["GlossDir", "Glossy Direct"], RGB);
const GLOSSY_INDIRECT: Pass =
    Pass { names: &["GlossInd", "Glossy Indirect"], channels: RGB, optional: true };
const GLOSSY_COLOR: Pass = pass(&["GlossCol", "Glossy Color"], RGB);
const POSITION: Pass = pass(&["Position"], XYZ);

/// In the order in which [`Passes::of`] gives their planes.
fn needed(kind: Kind) -> &'static [Pass] {
    match kind {
        Kind::Depth { .. } => &[DEPTH],
        Kind::Normal { .. } => &[NORMAL],
        Kind::Flow { .. } => &[VECTOR],
        Kind::Segmentation => &[OBJECT],
        Kind::Material => &[MATERIAL],
        Kind::Diffuse => &[DIFFUSE],
        Kind::Specular => &[GLOSSY_DIRECT, GLOSSY_INDIRECT, GLOSSY_COLOR],
        Kind::Points => &[POSITION],
    }
}

/// Those channels that are wanted, from the top row to the bottom one.
pub(super) struct Passes {
    pub(super) width: usize,
    pub(super) height: usize,
    /// By place in the file.
    planes: BTreeMap<usize, Vec<f32>>,
    channels: ChannelList,
}

impl Passes {
    /// Reads what `truths` are made of, and nothing else.
    pub(super) fn read(file: File, truths: &[Truth]) -> Result<Self, Failure> {
        let len = file.metadata().map_err(|error| odd(error.to_string()))?.len();
        let reader = Reader::read_from_buffered(BufReader::with_capacity(CHUNK, file), false);
        let reader = reader.map_err(not_passes)?;
        let [header] = &reader.meta_data().headers[..] else {
            return Err(odd("the passes are in more than one part"));
        };
        let header = header.clone();
        check(&header, len)?;
        let (width, height) = (header.layer_size.width(), header.layer_size.height());
        let channels = header.channels.clone();
        let mut passes = Self { width, height, planes: BTreeMap::new(), channels };
        for truth in truths {
            for place in passes.places(truth)?.into_iter().flatten() {
                passes.planes.entry(place).or_insert_with(|| vec![0.0; width * height]);
            }
        }
        passes.fill(reader).map_err(not_passes)?;
        Ok(passes)
    }

    fn fill(&mut self, reader: Reader<BufReader<File>>) -> Result<(), Error> {
        let mut chunks = reader.all_chunks(false)?;
        let meta = chunks.meta_data().clone();
        while let Some(chunk) = chunks.read_next_chunk() {
            let block = UncompressedBlock::decompress_chunk(chunk?, &meta, false)?;
            for line in block.lines(&self.channels) {
                let Some(plane) = self.planes.get_mut(&line.location.channel) else { continue };
                let start = line.location.position.y() * self.width + line.location.position.x();
                let row = plane.get_mut(start..start + line.location.sample_count);
                let row = row.ok_or(Error::Invalid("a line lies outside of the picture".into()))?;
                for (value, bytes) in row.iter_mut().zip(line.value.chunks_exact(4)) {
                    *value = f32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                }
            }
        }
        Ok(())
    }

    /// The planes that a truth is made of; `None` where an optional pass is not there.
    pub(super) fn of(&self, truth: &Truth) -> Result<Vec<Option<&[f32]>>, Failure> {
        let places = self.places(truth)?;
        let plane = |place| self.planes.get(&place).map(Vec::as_slice);
        Ok(places.into_iter().map(|place| place.and_then(plane)).collect())
    }

    fn places(&self, truth: &Truth) -> Result<Vec<Option<usize>>, Failure> {
        let mut places = Vec::new();
        for pass in needed(truth.kind) {
            for channel in pass.channels {
                let place = self.place(&truth.layer, pass.names, channel);
                if place.is_none() && !pass.optional {
                    let reason = format!(
                        "the render has no pass `{}`, which {} is made of: this engine of this \
                         Blender does not make it, or the pass was turned off",
                        pass.names[0], truth.file
                    );
                    return Err(Failure::new(FailureKind::Scene, reason));
                }
                places.push(place);
            }
        }
        Ok(places)
    }

    /// The layer's own, or that of the only layer that has one: Blender cuts long names.
    fn place(&self, layer: &str, names: &[&str], channel: &str) -> Option<usize> {
        let mut found = Vec::new();
        for (place, known) in self.channels.list.iter().enumerate() {
            let known = known.name.to_string();
            let mut parts = known.rsplitn(3, '.');
            if parts.next() == Some(channel) && parts.next().is_some_and(|p| names.contains(&p)) {
                found.push((place, parts.next() == Some(layer)));
            }
        }
        match &found[..] {
            [(place, _)] => Some(*place),
            several => several.iter().find(|(_, own)| *own).map(|(place, _)| *place),
        }
    }
}

/// Nothing but what the worker has Blender write; so that a header cannot claim more pixels than
/// the file has.
fn check(header: &Header, len: u64) -> Result<(), Failure> {
    let pixels = header.layer_size.width() as u64 * header.layer_size.height() as u64;
    let plain = header.compression == Compression::Uncompressed
        && !header.deep
        && header.channels.list.iter().all(|channel| {
            channel.sample_type == SampleType::F32
                && (channel.sampling.x(), channel.sampling.y()) == (1, 1)
        });
    if !plain {
        return Err(odd("the passes are not plain floats of 32 bits"));
    }
    if pixels.saturating_mul(4 * header.channels.list.len() as u64) > len {
        return Err(odd("the file with the passes is cut"));
    }
    Ok(())
}

fn not_passes(error: Error) -> Failure {
    odd(format!("the passes cannot be read: {error}"))
}
