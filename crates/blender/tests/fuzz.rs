//! Damaged .blend files and pictures, by the thousand: whatever the bytes, the readers answer soon,
//! within bounds of memory, and do not panic.
//!
//! An input is made of a good file by its number and the seed alone. `GRANGE_FUZZ_SEED` and
//! `GRANGE_FUZZ_FIRST` begin anywhere, `GRANGE_FUZZ_INPUTS` or `GRANGE_FUZZ_SECONDS` go on for longer.
//! Whatever ends the process leaves the input behind, in a file that is named at the start. Inputs that
//! found something are kept in `fuzz/TARGET` and tried first.

use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use grange_blender::file::BlendFile;
use grange_blender::verify::verify;
use image::{DynamicImage, ImageFormat};
use rustix::process::{Resource, Rlimit, setrlimit};

/// Of memory that is written to, for the whole process.
const MEMORY_MAX: u64 = 1 << 30;
/// An input that takes longer hangs.
const HANG: Duration = Duration::from_secs(30);
const INPUTS: u64 = 2_000;

#[test]
fn blend_files() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut seeds = Vec::new();
    for name in ["tiny-3.4.blend", "tiny-5.0.blend"] {
        let packed = fs::read(fixtures.join(name)).unwrap();
        let mut plain = Vec::new();
        let unpacked = zstd::stream::Decoder::new(&packed[..])
            .and_then(|mut decoder| decoder.read_to_end(&mut plain));
        if unpacked.is_ok() {
            seeds.push(("plain.blend".into(), plain));
        }
        seeds.push((name.into(), packed));
    }
    run("blend", seeds, |path| {
        if let Ok(file) = BlendFile::open(path) {
            drop(file.summary());
            let _ = file.trace();
        }
    });
}

#[test]
fn pictures() {
    let picture = DynamicImage::ImageRgb8(image::ImageBuffer::from_fn(37, 23, |x, y| {
        image::Rgb([(x * 7) as u8, (y * 11) as u8, (x * y) as u8])
    }));
    let formats = [
        ("a.png", ImageFormat::Png),
        ("a.jpg", ImageFormat::Jpeg),
        ("a.tif", ImageFormat::Tiff),
        ("a.bmp", ImageFormat::Bmp),
        ("a.tga", ImageFormat::Tga),
        ("a.webp", ImageFormat::WebP),
    ];
    let mut seeds = Vec::new();
    for (name, format) in formats {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        seeds.push((name.into(), bytes.into_inner()));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.exr");
    exr::prelude::write_rgb_file(&path, 37, 23, |x, y| (x as f32, y as f32, 0.5)).unwrap();
    seeds.push(("a.exr".into(), fs::read(path).unwrap()));
    run("picture", seeds, |path| drop(verify(path)));
}

fn run(target: &str, mut seeds: Vec<(String, Vec<u8>)>, read: impl Fn(&Path)) {
    let limit = Rlimit { current: Some(MEMORY_MAX), maximum: Some(MEMORY_MAX) };
    setrlimit(Resource::Data, limit).unwrap();
    let folder = std::env::temp_dir().join(format!("grange-fuzz-{target}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let first = number("GRANGE_FUZZ_FIRST").unwrap_or(0);
    let seed = number("GRANGE_FUZZ_SEED").unwrap_or(1);
    // Not by the test's own output, which is lost when the process ends.
    let mut told = std::io::stderr();
    writeln!(told, "{target}: seed {seed} from {first}, each input in {}", folder.display())
        .unwrap();
    let begun = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    watch(target, begun.clone(), start);
    let try_one = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        begun.store(start.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
        read(&path);
        begun.store(0, Ordering::Relaxed);
    };
    for path in kept(target) {
        let bytes = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        try_one(&name, &bytes);
        seeds.push((name, bytes));
    }
    assert!(!seeds.is_empty());
    let until = number("GRANGE_FUZZ_SECONDS").map(Duration::from_secs);
    let inputs = number("GRANGE_FUZZ_INPUTS").unwrap_or(INPUTS);
    let mut at = first;
    while until.map_or(at < first + inputs, |until| start.elapsed() < until) {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ at);
        let (name, good) = &seeds[random.below(seeds.len())];
        let other = &seeds[random.below(seeds.len())].1;
        try_one(name, &random.damage(good, other));
        at += 1;
    }
    writeln!(told, "{target}: {} inputs in {:?}", at - first, start.elapsed()).unwrap();
    fs::remove_dir_all(folder).unwrap();
}

/// Ends the process if an input takes too long.
fn watch(target: &str, begun: Arc<AtomicU64>, start: Instant) {
    let target = target.to_owned();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let since = begun.load(Ordering::Relaxed);
            let hangs = since > 0 && start.elapsed() > Duration::from_millis(since) + HANG;
            if hangs {
                let _ = writeln!(std::io::stderr(), "{target}: the input that is left there hangs");
                std::process::abort();
            }
        }
    });
}

fn kept(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(target);
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// The file with a few things wrong. Half of them are near its beginning, where headers are.
    fn damage(&mut self, good: &[u8], other: &[u8]) -> Vec<u8> {
        /// What lengths and counts are when they are wrong.
        const BAD: [u64; 10] =
            [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 1 << 63, u64::MAX];
        let mut bytes = good.to_vec();
        for _ in 0..=self.below(4) {
            let len = bytes.len();
            let end = if self.below(2) == 0 { len.min(256) } else { len };
            let at = self.below(end);
            let width = [1, 2, 4, 8][self.below(4)].min(len - at);
            match self.below(7) {
                0 if at < len => bytes[at] ^= 1 << self.below(8),
                1 if at < len => bytes[at] = self.next() as u8,
                2 => {
                    let bad = BAD[self.below(BAD.len())];
                    bytes[at..at + width].copy_from_slice(&bad.to_le_bytes()[..width]);
                }
                3 => {
                    let bad = BAD[self.below(BAD.len())];
                    bytes[at..at + width].copy_from_slice(&bad.to_be_bytes()[8 - width..]);
                }
                4 => bytes.truncate(at),
                5 => drop(bytes.drain(at..(at + self.below(64)).min(len))),
                _ => {
                    let from = self.below(other.len());
                    let piece = &other[from..(from + self.below(64)).min(other.len())];
                    bytes.splice(at..at, piece.iter().copied());
                }
            }
        }
        bytes
    }
}
