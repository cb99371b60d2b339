//! Ground truths of a session's frames: what its worker says is to be made of the passes that it
//! wrote, and the files made of them.
//!
//! A worker writes one multilayer EXR per frame with every pass of a view layer. [`split`] reads
//! it once and writes an EXR for each truth, and a PNG for people where one is asked for. It runs
//! beside Blender, so that the next frame renders meanwhile.
//!
//! Everything here is a stranger's: the words of the worker and the file are checked before
//! anything of their size is allocated. Never follows a name in the directory that the instance
//! writes to: the caller opens the passes and owns the directory that files are written into.
//!
//! # Conventions
//!
//! Rows go from top to bottom, all values are floats of 32 bits. A pixel's value belongs to its
//! centre, which is half a pixel to the right of and below its corner.
//!
//! | truth | channels | unit | where nothing is |
//! | --- | --- | --- | --- |
//! | depth | `Y` | scene units along the optical axis (planar z, not along the ray) | +∞ |
//! | normal | `R G B` = x y z | unit vectors; camera: x right, y up, z towards the camera; or world | 0 |
//! | flow, forward | `R G` = x y | pixels, x right, y **down**: where the point is in the next frame minus where it is | 0 |
//! | flow, backward | `R G` = x y | the same with the previous frame | 0 |
//! | flow, both | `R G` forward, `B A` backward | | 0 |
//! | segmentation | `Y` | the object's number, exact | 0 |
//! | material | `Y` | the material's number, exact | 0 |
//! | diffuse | `R G B` | albedo, scene-linear | 0 |
//! | specular | `R G B` | reflected light, scene-linear: (direct + indirect) × colour | 0 |
//! | points | `R G B` = x y z | world space, scene units | 0 |
//!
//! Blender's own Vector pass holds, with y up, *previous − now* in `X Y` and *now − next* in
//! `Z W`: the same in 3.4, 4.2, 4.5 and 5.0, with Cycles and with EEVEE.
//!
//! With Cycles depth, points and numbers are of the first sample, which goes through the pixel's
//! centre; normals, flow and colours are means of all samples, and normals are made unit vectors
//! again. EEVEE keeps passes as floats of 16 bits, of samples somewhere in the pixel.

mod convert;
mod debug;
mod passes;
mod write;

use std::fs::{self, File};
use std::io;
use std::path::Path;

use ::exr::compression::Compression;
use grange_protocol::agent::{Failure, FailureKind};
use grange_protocol::file::OutputRole;
use grange_protocol::name::OutputName;
use serde::Deserialize;

use crate::instance::RenderedFile;
use passes::Passes;

/// Where the worker leaves the passes, below a frame's scratch directory.
pub const PASSES: &str = "truths/passes.exr";
/// Truths of one frame.
const TRUTHS_MAX: usize = 16;

/// One file to make of a frame's passes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Truth {
    #[serde(flatten)]
    pub kind: Kind,
    /// What it is called in the job. Ends with `.exr`.
    pub file: OutputName,
    /// A picture of it for people. Ends with `.png`.
    pub debug: Option<OutputName>,
    pub codec: Codec,
    /// The view layer whose passes are meant.
    pub layer: String,
}

/// What it shows, and what making it needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    Depth {
        /// What is farther than this, in scene units, is nothing. `None`: as Cycles says it.
        #[serde(default)]
        far: Option<f32>,
    },
    Normal {
        /// Rows of the rotation from the world's space to the one that is asked for.
        #[serde(default)]
        rotation: Option<[[f32; 3]; 3]>,
    },
    Flow {
        direction: Direction,
    },
    Segmentation,
    Material,
    Diffuse,
    Specular,
    Points,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To the next frame.
    Forward,
    /// To the previous frame.
    Backward,
    Both,
}

/// Compressions of EXR files that can be written here. The others of the format are for floats of
/// 16 bits, or lose what makes a number exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Codec {
    None,
    Rle,
    Zips,
    Zip,
    Piz,
    /// Keeps 24 bits of a float. Numbers of objects stay exact.
    Pxr24,
}

impl Codec {
    fn compression(self) -> Compression {
        match self {
            Self::None => Compression::Uncompressed,
            Self::Rle => Compression::RLE,
            Self::Zips => Compression::ZIP1,
            Self::Zip => Compression::ZIP16,
            Self::Piz => Compression::PIZ,
            Self::Pxr24 => Compression::PXR24,
        }
    }
}

/// Takes the truths out of a worker's answer, none if it names none. Their names are put inside
/// `folder`.
pub(crate) fn told(
    data: &mut serde_json::Value,
    folder: Option<&OutputName>,
) -> Result<Vec<Truth>, Failure> {
    let told = data.as_object_mut().and_then(|data| data.remove("truths"));
    let Some(told) = told else { return Ok(Vec::new()) };
    let mut truths = Vec::<Truth>::deserialize(told).map_err(|error| odd(error.to_string()))?;
    if truths.len() > TRUTHS_MAX {
        return Err(odd(format!("there are more than {TRUTHS_MAX}")));
    }
    for truth in &mut truths {
        inside(&mut truth.file, ".exr", folder)?;
        if let Some(debug) = &mut truth.debug {
            inside(debug, ".png", folder)?;
        }
    }
    let mut names: Vec<_> = names(&truths).collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(odd(format!("two are called {}", pair[0]))),
        None => Ok(truths),
    }
}

fn names(truths: &[Truth]) -> impl Iterator<Item = &OutputName> {
    truths.iter().flat_map(|truth| std::iter::once(&truth.file).chain(&truth.debug))
}

fn inside(name: &mut OutputName, ending: &str, folder: Option<&OutputName>) -> Result<(), Failure> {
    if !name.as_str().ends_with(ending) {
        return Err(odd(format!("`{name}` does not end with {ending}")));
    }
    if let Some(folder) = folder {
        *name = name.within(folder).map_err(|error| odd(error.to_string()))?;
    }
    Ok(())
}

fn odd(why: impl AsRef<str>) -> Failure {
    let why = why.as_ref();
    Failure::new(FailureKind::Output, format!("the frame's ground truths cannot be made: {why}"))
}

/// Makes the files of `truths` below `into`, each at its name, out of the worker's passes. Blocks;
/// takes one core.
///
/// A `Scene` failure if the render has no such pass, a `Host` failure if a file cannot be written,
/// and an `Output` failure if the passes are not what a worker writes.
pub fn split(passes: File, truths: &[Truth], into: &Path) -> Result<Vec<RenderedFile>, Failure> {
    let passes = Passes::read(passes, truths)?;
    let mut files = Vec::new();
    for truth in truths {
        let picture = convert::convert(&passes, truth)?;
        let mut make = |name: &OutputName, writing: &dyn Fn(&Path) -> io::Result<()>| {
            let path = into.join(name.as_str());
            let made = path.parent().map_or(Ok(()), fs::create_dir_all);
            made.and_then(|()| writing(&path)).map_err(|error| {
                Failure::new(FailureKind::Host, format!("{name} cannot be written: {error}"))
            })?;
            files.push(RenderedFile { name: name.clone(), role: OutputRole::Extra, path });
            Ok::<_, Failure>(())
        };
        if let Some(debug) = &truth.debug {
            make(debug, &|path| debug::write(path, truth.kind, &picture))?;
        }
        make(&truth.file, &|path| write::write(path, truth.codec.compression(), &picture))?;
    }
    Ok(files)
}

/// Planes of a picture, each with the name of its channel.
struct Picture {
    width: usize,
    height: usize,
    planes: Vec<(&'static str, Vec<f32>)>,
}

#[cfg(test)]
mod tests;
