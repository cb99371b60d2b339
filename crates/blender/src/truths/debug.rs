//! Pictures of truths for people: PNGs of 8 bits that show at a glance whether all is well. Never
//! for computing with.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use super::{Kind, Picture};

const CHUNK: usize = 1 << 20;
/// Turns of the hue from one number to the next, so that neighbours differ: the golden ratio.
const HUE_STEP: f32 = 0.618_034;

/// Depth and points are stretched over their range in the frame; motion is hue by direction and
/// brightness by length; numbers are hues; normals are (n + 1) / 2; colours are sRGB.
pub(super) fn write(path: &Path, kind: Kind, picture: &Picture) -> io::Result<()> {
    let plane = |at: usize| picture.planes.get(at).map_or(&[][..], |(_, plane)| plane);
    let (a, b, c) = (plane(0), plane(1), plane(2));
    let mut pixels = Vec::with_capacity(a.len() * 3);
    let mut paint = |color: &dyn Fn(usize) -> [f32; 3]| {
        for at in 0..a.len() {
            pixels.extend(color(at).map(|one| (one.clamp(0.0, 1.0) * 255.0).round() as u8));
        }
    };
    match kind {
        Kind::Depth { .. } => {
            let range = Range::of(a.iter().filter(|z| z.is_finite()));
            paint(&|at| [if a[at].is_finite() { 1.0 - 0.9 * range.place(a[at]) } else { 0.0 }; 3]);
        }
        Kind::Segmentation | Kind::Material => paint(&|at| match a[at] {
            0.0 => [0.0; 3],
            number => hue((number * HUE_STEP).fract(), 1.0),
        }),
        Kind::Normal { .. } => paint(&|at| match [a[at], b[at], c[at]] {
            [0.0, 0.0, 0.0] => [0.0; 3],
            normal => normal.map(|one| (one + 1.0) / 2.0),
        }),
        Kind::Flow { .. } => {
            let length = |at: usize| a[at].hypot(b[at]);
            let most = (0..a.len()).map(length).fold(f32::MIN_POSITIVE, f32::max);
            paint(&|at| {
                let turn = b[at].atan2(a[at]) / std::f32::consts::TAU;
                hue(turn.rem_euclid(1.0), length(at) / most)
            });
        }
        Kind::Points => {
            let seen = |at: usize| [a[at], b[at], c[at]] != [0.0; 3];
            let range = |plane: &[f32]| {
                let values = plane.iter().enumerate();
                Range::of(values.filter(|(at, _)| seen(*at)).map(|(_, value)| value))
            };
            let ranges = [range(a), range(b), range(c)];
            paint(&|at| match seen(at) {
                true => [ranges[0].place(a[at]), ranges[1].place(b[at]), ranges[2].place(c[at])],
                false => [0.0; 3],
            });
        }
        Kind::Diffuse | Kind::Specular => paint(&|at| [a[at], b[at], c[at]].map(srgb)),
    }
    encode(path, picture, &pixels)
}

struct Range {
    least: f32,
    most: f32,
}

impl Range {
    fn of<'a>(values: impl Iterator<Item = &'a f32>) -> Self {
        let start = Self { least: f32::INFINITY, most: f32::NEG_INFINITY };
        values.fold(start, |range, value| Self {
            least: range.least.min(*value),
            most: range.most.max(*value),
        })
    }

    /// From 0 to 1.
    fn place(&self, value: f32) -> f32 {
        (value - self.least) / (self.most - self.least).max(f32::MIN_POSITIVE)
    }
}

/// A saturated colour; the hue in turns, 0 to 1.
fn hue(turn: f32, value: f32) -> [f32; 3] {
    [0.0, 2.0 / 3.0, 1.0 / 3.0].map(|shift| {
        let place = (turn + shift).fract() * 6.0;
        value * ((place - 3.0).abs() - 1.0).clamp(0.0, 1.0)
    })
}

/// IEC 61966-2-1.
fn srgb(linear: f32) -> f32 {
    match linear {
        linear if linear <= 0.003_130_8 => 12.92 * linear,
        linear => 1.055 * linear.min(1.0).powf(1.0 / 2.4) - 0.055,
    }
}

fn encode(path: &Path, picture: &Picture, pixels: &[u8]) -> io::Result<()> {
    let file = BufWriter::with_capacity(CHUNK, File::create(path)?);
    let mut encoder = png::Encoder::new(file, picture.width as u32, picture.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    Ok(writer.finish()?)
}
