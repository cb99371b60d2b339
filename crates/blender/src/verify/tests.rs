use std::io::Cursor;
use std::path::PathBuf;

use image::{DynamicImage, ImageFormat, Rgba};

use super::*;

/// A picture that does not compress to nothing.
fn picture(width: u32, height: u32) -> DynamicImage {
    let pixel = |x: u32, y: u32| {
        let noise = x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503).rotate_left(7);
        Rgba([(noise >> 5) as u8, (x * 7) as u8, (noise >> 13) as u8, 255])
    };
    DynamicImage::ImageRgba8(image::ImageBuffer::from_fn(width, height, pixel))
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn verify(&self, name: &str, bytes: &[u8]) -> Result<Verified, BadOutput> {
        verify(&self.put(name, bytes))
    }

    /// Cuts a good file at many places; every cut must be found.
    fn cuts_are_found(&self, name: &str, bytes: &[u8]) {
        self.verify(name, bytes).unwrap_or_else(|error| panic!("{name} whole: {error}"));
        let step = (bytes.len() / 150).max(1);
        let ends = bytes.len().saturating_sub(40)..bytes.len();
        for len in (0..bytes.len()).step_by(step).chain(ends) {
            let cut = self.verify(name, &bytes[..len]);
            assert!(cut.is_err(), "{name} of {} bytes passed with {len}", bytes.len());
        }
    }
}

fn rgb(image: DynamicImage) -> DynamicImage {
    DynamicImage::ImageRgb8(image.to_rgb8())
}

#[test]
fn a_whole_file_is_measured_and_hashed() {
    let bytes = encoded(&picture(40, 30), ImageFormat::Png);
    let verified = Folder::new().verify("a.png", &bytes).unwrap();
    assert_eq!(verified, Verified { len: bytes.len() as u64, hash: BlobHash::of(&bytes) });
}

#[test]
fn every_cut_of_a_png_is_found_in_every_depth() {
    let image = picture(64, 36);
    let folder = Folder::new();
    folder.cuts_are_found("rgba8.png", &encoded(&image, ImageFormat::Png));
    let rgb16 = DynamicImage::ImageRgb16(image.to_rgb16());
    folder.cuts_are_found("rgb16.png", &encoded(&rgb16, ImageFormat::Png));
    let gray = DynamicImage::ImageLuma8(image.to_luma8());
    folder.cuts_are_found("gray.png", &encoded(&gray, ImageFormat::Png));
}

#[test]
fn every_cut_of_what_image_decodes_is_found() {
    let folder = Folder::new();
    let image = picture(48, 32);
    folder.cuts_are_found("a.jpg", &encoded(&rgb(image.clone()), ImageFormat::Jpeg));
    folder.cuts_are_found("a.tif", &encoded(&image, ImageFormat::Tiff));
    folder.cuts_are_found("a.bmp", &encoded(&rgb(image.clone()), ImageFormat::Bmp));
    folder.cuts_are_found("a.webp", &encoded(&image, ImageFormat::WebP));
    let hdr = DynamicImage::ImageRgb32F(image.to_rgb32f());
    folder.cuts_are_found("a.hdr", &encoded(&hdr, ImageFormat::Hdr));
}

#[test]
fn a_cut_tga_is_found() {
    let bytes = encoded(&picture(48, 32), ImageFormat::Tga);
    let folder = Folder::new();
    folder.verify("a.tga", &bytes).unwrap();
    assert!(folder.verify("a.tga", &bytes[..bytes.len() / 2]).is_err());
}

#[test]
fn a_small_file_claims_no_more_memory_than_such_a_one_can_need() {
    let folder = Folder::new();
    // Runs of one colour, 30,000 pixels square: 2.7 GB, where the largest WebP takes 1.1.
    let mut bytes = vec![0; 18];
    bytes[2] = 10;
    for at in [12, 14] {
        bytes[at..at + 2].copy_from_slice(&30_000_u16.to_le_bytes());
    }
    bytes[16] = 24;
    let error = folder.verify("a.tga", &bytes).unwrap_err().to_string();
    assert!(error.contains("imit"), "{error}");
    let plain = DynamicImage::new_rgb8(4_000, 4_000);
    let packed = encoded(&plain, ImageFormat::WebP);
    assert!(packed.len() < 20_000, "{}", packed.len());
    folder.verify("a.webp", &packed).unwrap();
}

#[test]
fn every_cut_of_an_exr_is_found_in_every_compression() {
    use ::exr::prelude::*;
    let folder = Folder::new();
    let compressions = [
        Compression::Uncompressed,
        Compression::RLE,
        Compression::ZIP1,
        Compression::ZIP16,
        Compression::PIZ,
        Compression::PXR24,
        Compression::B44,
        Compression::B44A,
        Compression::DWAA(None),
        Compression::DWAB(None),
    ];
    for compression in compressions {
        let encoding = Encoding { compression, ..Encoding::FAST_LOSSLESS };
        let mut bytes = Cursor::new(Vec::new());
        let channels = SpecificChannels::rgba(|at: Vec2<usize>| {
            let noise = (at.x() * 7919 + at.y() * 104_729) % 1013;
            (f16::from_f32(noise as f32 / 1013.0), f16::from_f32(0.5), f16::from_f32(0.1), f16::ONE)
        });
        Image::from_layer(Layer::new((40, 50), LayerAttributes::named("a"), encoding, channels))
            .write()
            .to_buffered(&mut bytes)
            .unwrap();
        folder.cuts_are_found(&format!("{compression}.exr"), &bytes.into_inner());
    }
}

#[test]
fn what_a_full_disk_leaves_is_found() {
    let folder = Folder::new();
    assert!(matches!(folder.verify("0001.exr", b""), Err(BadOutput::Empty)));
    let png = encoded(&picture(200, 200), ImageFormat::Png);
    let cut = folder.verify("0001.png", &png[..4096]).unwrap_err();
    assert!(matches!(cut, BadOutput::Broken { format: Format::Png, .. }), "{cut}");
    let zeros = folder.verify("0001.png", &[0; 4096]).unwrap_err();
    assert_eq!(zeros.to_string(), "the file is named like PNG, and is none");
}

#[test]
fn what_nobody_decodes_is_judged_by_what_it_declares() {
    let folder = Folder::new();
    let mut dpx = b"SDPX\0\0\0\0V1.0\0\0\0\0\0\0\x01\0".to_vec();
    dpx.resize(256, 7);
    folder.cuts_are_found("a.dpx", &dpx);

    let mp4 =
        [&b"\0\0\0\x10ftypisom\0\0\0\0"[..], b"\0\0\0\x0cmdatabcd", b"\0\0\0\x08moov"].concat();
    folder.cuts_are_found("a.mp4", &mp4);

    let mut avi = b"RIFF\x38\0\0\0AVI ".to_vec();
    avi.resize(64, 7);
    folder.cuts_are_found("a.avi", &avi);

    folder.verify("notes.txt", b"x").unwrap();
    folder.verify("no_extension", b"\x01\x02").unwrap();
}

#[test]
fn bytes_that_are_wrong_inside_are_found_where_there_are_checksums() {
    let mut png = encoded(&picture(64, 64), ImageFormat::Png);
    let middle = png.len() / 2;
    png[middle] ^= 0x55;
    assert!(Folder::new().verify("a.png", &png).is_err());
}

#[test]
fn files_too_large_for_memory_are_read_in_pieces() {
    let folder = Folder::new();
    let path = folder.put("a.bin", b"");
    let file = File::create(&path).unwrap();
    file.set_len(IN_MEMORY_MAX + 10).unwrap();
    let verified = verify(&path).unwrap();
    assert_eq!(verified.len, IN_MEMORY_MAX + 10);
    assert_eq!(verified.hash, hash(&mut File::open(&path).unwrap()).unwrap());
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(
        name in proptest::sample::select(vec![
            ("a.png", &b"\x89PNG\r\n\x1a\n"[..]),
            ("a.jpg", b"\xff\xd8\xff"),
            ("a.tif", b"II*\0"),
            ("a.exr", b"\x76\x2f\x31\x01\x02\0\0\0"),
            ("a.bmp", b"BM"),
            ("a.webp", b"RIFF\x10\0\0\0WEBP"),
            ("a.hdr", b"#?RADIANCE\n"),
            ("a.mp4", b"\0\0\0\x08ftyp"),
            ("a.tga", b""),
        ]),
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400),
    ) {
        let whole = [name.1, &bytes].concat();
        let _ = Folder::new().verify(name.0, &whole);
    }
}
