//! Files that Blender wrote, or somebody in its place: are they whole, what do they look like small,
//! and what ground truths are in them.

use std::fs::{self, File};
use std::io::Cursor;

use grange_blender::truths::{self, Truth};
use grange_blender::{thumbnail, verify};
use image::{DynamicImage, ImageFormat};
use serde_json::json;

use crate::{Target, scratch};

/// A picture or a film, checked and shown.
pub(super) const PICTURE: Target = Target {
    name: "picture",
    len_max: 32 << 10,
    memory: |_| DECODED_MAX,
    seeds: pictures,
    read: |input| {
        // What says nothing of itself goes by its name.
        let name = match input {
            [b'B', b'M', ..] => "a.bmp",
            [0x89 | 0xFF | b'I' | b'M' | b'R' | b'#' | 0x76 | 0x1A, ..] => "a",
            _ => "a.tga",
        };
        let path = scratch::file(name, input);
        if let Ok(verified) = verify::verify(&path) {
            assert_eq!(verified.len, input.len() as u64);
        }
        if let Ok(sizes) = thumbnail::jpegs(&path, [16, 48]) {
            assert!(thumbnail::is_jpeg(&sizes[0], 16) && thumbnail::is_jpeg(&sizes[1], 48));
        }
        let _ = thumbnail::is_jpeg(input, 1_600);
    },
};

/// A file of passes, of which every ground truth is asked for.
pub(super) const PASSES: Target = Target {
    name: "passes",
    len_max: 32 << 10,
    memory: |input| (16 << 20) + 64 * input.len(),
    seeds: || vec![passes()],
    read: |input| {
        let path = scratch::file("passes.exr", input);
        let into = scratch::folder().join("truths");
        for truth in all_truths() {
            let file = File::open(&path).expect("it was written just now");
            if let Ok(files) = truths::split(file, &[truth], &into) {
                assert_eq!(files.len(), 2);
            }
        }
        let _ = fs::remove_dir_all(into);
    },
};

/// `blender::verify` and `blender::thumbnail` decode about 1 GiB of a small file, which may be there
/// twice while it changes its type.
const DECODED_MAX: usize = 2_400 << 20;

fn all_truths() -> Vec<Truth> {
    let kinds = [
        json!({"kind": "depth", "far": null}),
        json!({"kind": "normal", "rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}),
        json!({"kind": "flow", "direction": "both"}),
        json!({"kind": "segmentation"}),
        json!({"kind": "diffuse"}),
    ];
    let whole = |mut kind: serde_json::Value| {
        for (key, value) in
            [("file", "a.exr"), ("debug", "a.png"), ("codec", "ZIP"), ("layer", "L")]
        {
            kind[key] = value.into();
        }
        serde_json::from_value(kind).expect("a truth")
    };
    kinds.map(whole).into()
}

fn pictures() -> Vec<Vec<u8>> {
    let picture = DynamicImage::ImageRgb8(image::ImageBuffer::from_fn(19, 13, |x, y| {
        image::Rgb([(x * 7) as u8, (y * 11) as u8, (x * y) as u8])
    }));
    let formats = [
        (&picture, ImageFormat::Png),
        (&picture, ImageFormat::Jpeg),
        (&picture, ImageFormat::Tiff),
        (&picture, ImageFormat::Bmp),
        (&picture, ImageFormat::Tga),
        (&picture, ImageFormat::WebP),
        (&DynamicImage::from(picture.to_rgb32f()), ImageFormat::Hdr),
        (&DynamicImage::from(picture.to_rgba16()), ImageFormat::Png),
    ];
    let mut seeds = Vec::new();
    for (picture, format) in formats {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).expect("memory can be written");
        seeds.push(bytes.into_inner());
    }
    let path = scratch::folder().join("seed.exr");
    exr::prelude::write_rgb_file(&path, 19, 13, |x, y| (x as f32, y as f32, 0.5))
        .expect("a file can be written");
    seeds.push(fs::read(path).expect("it was written just now"));
    // Those that are walked and not decoded: a film's boxes, and lengths that headers declare.
    seeds.push(b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov\0\0\0\x0cmdatdata".to_vec());
    seeds.push([&b"RIFF\x38\0\0\0AVI LIST"[..], &[0; 48]].concat());
    seeds.push([&b"\x1A\x45\xDF\xA3"[..], &[0; 60]].concat());
    seeds
}

/// As a worker writes them: every pass of a layer, as floats of 32 bits.
fn passes() -> Vec<u8> {
    use exr::image::write::WritableImage;
    use exr::image::{AnyChannel, AnyChannels, Encoding, FlatSamples, Image, Layer};
    use exr::meta::header::LayerAttributes;

    let passes = [
        ("Depth", &["Z"][..]),
        ("Normal", &["X", "Y", "Z"]),
        ("Vector", &["X", "Y", "Z", "W"]),
        ("IndexOB", &["X"]),
        ("DiffCol", &["R", "G", "B"]),
    ];
    let planes = passes.iter().flat_map(|(pass, letters)| {
        letters.iter().map(move |letter| {
            let name = format!("L.{pass}.{letter}");
            AnyChannel::new(&*name, FlatSamples::F32((0u8..6).map(f32::from).collect()))
        })
    });
    let channels = AnyChannels::sort(planes.collect());
    let layer = Layer::new((3, 2), LayerAttributes::default(), Encoding::UNCOMPRESSED, channels);
    let path = scratch::folder().join("seed.exr");
    Image::from_layer(layer).write().to_file(&path).expect("a file can be written");
    fs::read(path).expect("it was written just now")
}
