//! Small JPEGs of a file that Blender wrote, for people to recognise it by.
//!
//! Never trusts the file: what it declares is bounded before memory is taken, and a decoder that
//! panics is an error like others.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use exr::meta::MetaData;
use exr::prelude::{ReadChannels, ReadLayers, ReadSpecificChannel, read};
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, ImageReader, Limits, Rgb32FImage, RgbImage};

/// Memory that one decoded picture may take, in bytes: enough for 8K with 32 bits a channel.
const MEMORY_MAX: u64 = 512 << 20;
/// Of red, green and blue as light.
const LIGHT_BYTES: u64 = 12;
const SIDE_MAX: u32 = 32_768;
const QUALITY: u8 = 82;
/// How every JPEG begins.
pub const JPEG_BEGIN: [u8; 2] = [0xff, 0xd8];
/// How every whole one ends.
pub const JPEG_END: [u8; 2] = [0xff, 0xd9];
/// Light up to here is shown as it is; what is brighter is pressed into what is left.
const SHOULDER: f32 = 0.8;

#[derive(Debug, thiserror::Error)]
pub enum NoPicture {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is no picture of a known kind")]
    Unknown,
    #[error("it is broken: {0}")]
    Broken(String),
    #[error("it is larger than can be shown")]
    TooLarge,
}

/// The picture in a file in several sizes, each with at most so many pixels on its longer side; `sides`
/// are in ascending order. It is decoded once. Blocks, as long as decoding does.
pub fn jpegs<const N: usize>(path: &Path, sides: [u32; N]) -> Result<[Vec<u8>; N], NoPicture> {
    guarded(|| {
        let near = sides.last().map_or(0, |side| side.saturating_mul(2));
        let mut picture = match decoded(path)? {
            DynamicImage::ImageRgb32F(light) => shown(&mean(light, near)).into(),
            picture => picture,
        };
        let mut jpegs = [const { Vec::new() }; N];
        for (bytes, side) in jpegs.iter_mut().zip(sides).rev() {
            picture = over_black(scaled(picture, side)).into();
            let encoder = JpegEncoder::new_with_quality(bytes, QUALITY);
            picture.write_with_encoder(encoder).map_err(broken)?;
        }
        Ok(jpegs)
    })
}

/// Whether somebody's bytes are a JPEG with at most so many pixels on its longer side. Its header and
/// its end say so; what is between them is not looked at.
pub fn is_jpeg(bytes: &[u8], side: u32) -> bool {
    let size = guarded(|| {
        let mut reader = ImageReader::new(Cursor::new(bytes));
        reader.set_format(ImageFormat::Jpeg);
        reader.into_dimensions().map_err(broken)
    });
    let fits = size.is_ok_and(|(width, height)| (1..=side).contains(&width.max(height)));
    fits && bytes.ends_with(&JPEG_END)
}

/// Decoders are others' code, and files are strangers'.
fn guarded<T>(work: impl FnOnce() -> Result<T, NoPicture>) -> Result<T, NoPicture> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(NoPicture::Broken("its decoder gave up".into())))
}

/// Light if it has 32 bits a channel and no alpha, else what a screen shows.
fn decoded(path: &Path) -> Result<DynamicImage, NoPicture> {
    let mut file = BufReader::new(File::open(path)?);
    let mut head = [0; 4];
    let is_exr = file.read_exact(&mut head).is_ok() && head == exr::meta::magic_number::BYTES;
    file.rewind()?;
    if is_exr {
        return Ok(from_exr(path)?.into());
    }
    let mut reader = ImageReader::new(file).with_guessed_format()?;
    if reader.format().is_none() {
        // The only one of Blender's that does not say what it is.
        reader.set_format(ImageFormat::Tga);
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MEMORY_MAX);
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    reader.limits(limits);
    reader.decode().map_err(|error| match error {
        image::ImageError::Unsupported(_) => NoPicture::Unknown,
        image::ImageError::Limits(_) => NoPicture::TooLarge,
        error => broken(error),
    })
}

fn scaled(picture: DynamicImage, side: u32) -> DynamicImage {
    let longer = picture.width().max(picture.height());
    // To the double of the size by the mean, which is fast, and then with a filter.
    let near = side.saturating_mul(2);
    let picture = if longer > near { picture.thumbnail(near, near) } else { picture };
    if longer > side { picture.resize(side, side, FilterType::CatmullRom) } else { picture }
}

/// Light with at most `side` pixels on its longer side. The means and filters of `image` take light for
/// what ends at 1, and the mean adds a half.
fn mean(light: Rgb32FImage, side: u32) -> Rgb32FImage {
    let (width, height) = light.dimensions();
    let longer = width.max(height);
    if longer <= side {
        return light;
    }
    let part =
        |len: u32, of: u32, parts: u32| (u64::from(len) * u64::from(of) / u64::from(parts)) as u32;
    let (columns, rows) = (part(width, side, longer).max(1), part(height, side, longer).max(1));
    Rgb32FImage::from_fn(columns, rows, |column, row| {
        let xs = part(width, column, columns)..part(width, column + 1, columns);
        let ys = part(height, row, rows)..part(height, row + 1, rows);
        let count = (xs.len() * ys.len()) as f32;
        let mut sum = [0.0; 3];
        for y in ys {
            for x in xs.clone() {
                let pixel = light.get_pixel(x, y).0;
                sum.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
            }
        }
        image::Rgb(sum.map(|sum| sum / count))
    })
}

fn over_black(picture: DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8();
    }
    let picture = picture.into_rgba8();
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [r, g, b, alpha] = picture.get_pixel(x, y).0;
        let part = |value: u8| (u16::from(value) * u16::from(alpha) / 255) as u8;
        image::Rgb([part(r), part(g), part(b)])
    })
}

/// The layer that people mean: the composite of a multilayer file, else whatever is red, green and
/// blue, else one channel as grey.
fn from_exr(path: &Path) -> Result<Rgb32FImage, NoPicture> {
    let meta = MetaData::read_from_file(path, false).map_err(broken)?;
    let header = meta.headers.first().ok_or(NoPicture::Unknown)?;
    let size = header.layer_size;
    let (width, height) = (size.width() as u32, size.height() as u32);
    if width.max(height) > SIDE_MAX
        || u64::from(width) * u64::from(height) * LIGHT_BYTES > MEMORY_MAX
    {
        return Err(NoPicture::TooLarge);
    }
    let names: Vec<String> =
        header.channels.list.iter().map(|channel| channel.name.to_string()).collect();
    let [red, green, blue] = colours(&names).ok_or(NoPicture::Unknown)?;
    let picture = read()
        .no_deep_data()
        .largest_resolution_level()
        .specific_channels()
        .required(&*red)
        .required(&*green)
        .required(&*blue)
        .collect_pixels(
            |size, _: &_| vec![[0.0_f32; 3]; size.area()],
            move |pixels: &mut Vec<[f32; 3]>, at, (r, g, b): (f32, f32, f32)| {
                pixels[at.y() * width as usize + at.x()] = [r, g, b];
            },
        )
        .first_valid_layer()
        .all_attributes()
        .non_parallel()
        .from_file(path)
        .map_err(broken)?;
    let pixels = picture.layer_data.channel_data.pixels;
    Rgb32FImage::from_raw(width, height, pixels.into_flattened()).ok_or(NoPicture::TooLarge)
}

fn colours(names: &[String]) -> Option<[String; 3]> {
    let with = |prefix: &str, letters: [&str; 3]| -> Option<[String; 3]> {
        let full = letters.map(|letter| format!("{prefix}{letter}"));
        full.iter().all(|name| names.contains(name)).then_some(full)
    };
    let prefixes: Vec<&str> = names
        .iter()
        .filter_map(|name| name.strip_suffix('R').or_else(|| name.strip_suffix('X')))
        .collect();
    let is_combined =
        |prefix: &&&str| prefix.contains("Combined") || prefix.starts_with("Composite");
    let combined = prefixes.iter().filter(is_combined);
    let ordered = [&""].into_iter().chain(combined).chain(&prefixes);
    for prefix in ordered {
        let found = with(prefix, ["R", "G", "B"]).or_else(|| with(prefix, ["X", "Y", "Z"]));
        if found.is_some() {
            return found;
        }
    }
    let one = names.iter().find(|name| !name.ends_with('A')).or(names.first())?;
    Some([one.clone(), one.clone(), one.clone()])
}

/// Light as a screen shows it: with a soft end, and the curve of sRGB (IEC 61966-2-1).
fn shown(light: &Rgb32FImage) -> RgbImage {
    RgbImage::from_fn(light.width(), light.height(), |x, y| {
        image::Rgb(light.get_pixel(x, y).0.map(|value| {
            let value = if value.is_finite() { value.max(0.0) } else { 0.0 };
            let pressed = if value <= SHOULDER {
                value
            } else {
                let left = 1.0 - SHOULDER;
                SHOULDER + left * (1.0 - (-(value - SHOULDER) / left).exp())
            };
            let curved = if pressed <= 0.003_130_8 {
                pressed * 12.92
            } else {
                1.055 * pressed.powf(1.0 / 2.4) - 0.055
            };
            (curved * 255.0 + 0.5) as u8
        }))
    })
}

fn broken(error: impl std::fmt::Display) -> NoPicture {
    NoPicture::Broken(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use exr::prelude::{SpecificChannels, WritableImage};
    use grange_protocol::file::PICTURE_SIDES;
    use grange_protocol::limits::picture_max;
    use image::Rgba;

    fn in_file(name: &str, write: impl FnOnce(&Path)) -> Result<RgbImage, NoPicture> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        write(&path);
        let [bytes] = jpegs(&path, [64])?;
        assert!(is_jpeg(&bytes, 64));
        Ok(image::load_from_memory(&bytes).unwrap().into_rgb8())
    }

    fn is_near(pixel: [u8; 3], expected: [u8; 3]) -> bool {
        pixel.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 6)
    }

    #[test]
    fn a_picture_gets_small_and_keeps_its_shape_and_colours() {
        let picture = in_file("a.png", |path| {
            image::RgbaImage::from_pixel(400, 200, Rgba([200, 100, 50, 128])).save(path).unwrap();
        });
        let picture = picture.unwrap();
        assert_eq!(picture.dimensions(), (64, 32));
        assert!(is_near(picture.get_pixel(20, 20).0, [100, 50, 25]), "{picture:?}");
    }

    #[test]
    fn light_is_shown_with_a_soft_end_and_the_combined_pass_of_many() {
        let picture = in_file("a.exr", |path| {
            let channels = SpecificChannels::build()
                .with_channel::<f32>("View.Combined.R")
                .with_channel::<f32>("View.Combined.G")
                .with_channel::<f32>("View.Combined.B")
                .with_channel::<f32>("View.Depth.Z")
                .with_pixel_fn(|_| (0.5_f32, 0.0_f32, 50.0_f32, 7.0_f32));
            exr::prelude::Image::from_channels((40, 30), channels).write().to_file(path).unwrap();
        });
        let picture = picture.unwrap();
        assert_eq!(picture.dimensions(), (40, 30));
        assert!(is_near(picture.get_pixel(9, 9).0, [188, 0, 255]), "{picture:?}");
    }

    #[test]
    fn light_that_gets_small_stays_as_dark_and_as_bright_as_it_was() {
        let picture = in_file("a.exr", |path| {
            exr::prelude::write_rgb_file(path, 800, 500, |_, _| (0.5, 0.0, 50.0)).unwrap();
        });
        let picture = picture.unwrap();
        assert_eq!(picture.dimensions(), (64, 40));
        assert!(picture.pixels().all(|pixel| is_near(pixel.0, [188, 0, 255])), "{picture:?}");
    }

    /// What a sphere looks like, more or less: soft, with an edge and a light that is too bright.
    fn sphere(x: f32, y: f32) -> [f32; 3] {
        let away = ((x - 0.5).powi(2) + (y - 0.5).powi(2)).sqrt();
        if away < 0.3 { [9.0 * (0.3 - away), x, 0.2] } else { [0.05, 0.1, y] }
    }

    #[test]
    fn several_sizes_of_one_decoding_are_those_of_one_each() {
        let dir = tempfile::tempdir().unwrap();
        let (width, height) = (1_400, 700);
        let of = |x: u32, y: u32| sphere(x as f32 / width as f32, y as f32 / height as f32);
        let light = dir.path().join("a.exr");
        exr::prelude::write_rgb_file(&light, width as usize, height as usize, |x, y| {
            of(x as u32, y as u32).into()
        })
        .unwrap();
        let screen = dir.path().join("a.png");
        RgbImage::from_fn(width, height, |x, y| image::Rgb(of(x, y).map(|v| (v * 255.0) as u8)))
            .save(&screen)
            .unwrap();
        for path in [light, screen] {
            let sides = [50, 200, 900];
            let together = jpegs(&path, sides).unwrap();
            for (bytes, side) in together.iter().zip(sides) {
                let [alone] = jpegs(&path, [side]).unwrap();
                let [a, b] = [bytes, &alone].map(|b| image::load_from_memory(b).unwrap().to_rgb8());
                assert_eq!((a.dimensions(), a.width()), (b.dimensions(), side));
                let far = a.iter().zip(b.iter()).map(|(a, b)| u64::from(a.abs_diff(*b)));
                let mean = far.clone().sum::<u64>() as f64 / a.len() as f64;
                let most = far.max().unwrap();
                assert!(mean < 2.5 && most < 48, "{side}: {mean} and at most {most} of 255");
            }
            let largest = jpegs(&path, [900]).unwrap();
            assert_eq!(together[2], largest[0]);
        }
    }

    #[test]
    fn noise_is_no_larger_than_a_picture_may_be() {
        let mut seed = 1_u32;
        let noise = RgbImage::from_fn(1_600, 1_600, |_, _| {
            image::Rgb([(); 3].map(|()| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            }))
        });
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bmp");
        noise.save(&path).unwrap();
        let pictures = jpegs(&path, PICTURE_SIDES).unwrap();
        for (picture, side) in pictures.iter().zip(PICTURE_SIDES) {
            assert!(picture.len() <= picture_max(side) as usize, "{side}: {}", picture.len());
        }
    }

    #[test]
    fn a_jpeg_is_told_from_what_only_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        RgbImage::new(100, 40).save(&path).unwrap();
        let [good] = jpegs(&path, [100]).unwrap();
        assert!(is_jpeg(&good, 100));
        assert!(!is_jpeg(&good, 99), "it is larger");
        assert!(!is_jpeg(&good[..good.len() - 1], 100), "it has no end");
        assert!(!is_jpeg(&std::fs::read(&path).unwrap(), 100));
        for bytes in [&b""[..], &JPEG_END, b"\xff\xd8\xff\xd9", b"<svg/>\xff\xd9"] {
            assert!(!is_jpeg(bytes, 100));
        }
    }

    #[test]
    fn what_is_no_picture_says_so() {
        let of = |bytes: &'static [u8]| {
            in_file("a", |path| std::fs::write(path, bytes).unwrap()).unwrap_err().to_string()
        };
        assert!(of(b"\x89PNG\r\n\x1a\nand no more").starts_with("it is broken"));
        assert!(of(b"\x76\x2f\x31\x01and no more").starts_with("it is broken"));
        assert!(!of(b"a video, perhaps").is_empty());
    }
}
