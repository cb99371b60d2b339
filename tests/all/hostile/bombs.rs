//! Small files that say, or become, something huge: bounded memory, and a sentence.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use grange_protocol::BlobHash;
use grange_protocol::file::Blob;
use grange_tests::puppet::submit_manifest;
use serde_json::json;

use crate::support::farm::Farm;
use crate::support::http::Http;
use crate::support::told::Told;
use crate::support::{memory_mib, note, program};

/// Bytes of one block of a bomb.
const BLOCK: usize = 16 << 20;

/// A block of a .blend file, zeros but for its head.
fn block(code: &[u8; 4], len: usize) -> Vec<u8> {
    let mut block = code.to_vec();
    block.extend(u32::try_from(len).unwrap().to_le_bytes());
    block.extend([0; 8]);
    block.extend([0; 8]);
    block.resize(24 + len, 0);
    block
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A .blend file of so many times the same block, packed once and repeated: both formats may be.
fn blend(pack: fn(&[u8]) -> Vec<u8>, code: &[u8; 4], times: usize) -> Vec<u8> {
    let packed = pack(&block(code, BLOCK));
    let mut bomb = pack(b"BLENDER-v402");
    for _ in 0..times {
        bomb.extend_from_slice(&packed);
    }
    bomb
}

fn put(http: &Http, bytes: &[u8]) -> BlobHash {
    let hash = BlobHash::of(bytes);
    let put = http.put(&format!("/api/v1/blobs/{hash}"), bytes);
    assert!(matches!(put.status, 200 | 201), "{put:?}");
    hash
}

#[test]
fn scenes_that_unpack_to_gigabytes_are_refused_and_take_bounded_memory() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    // What is passed over and then is no scene; what would be held; what claims more than there is.
    let bombs = [
        ("passed.blend", blend(zstd, b"SR\0\0", 256), "ends too early"),
        (
            "held.blend",
            blend(zstd, b"OB\0\0", 256),
            "its datablocks fill more memory than any real",
        ),
        (
            "held-gz.blend",
            blend(gzip, b"OB\0\0", 256),
            "its datablocks fill more memory than any real",
        ),
        ("claims.blend", [&b"BLENDER-v402OB\0\0"[..], &[255; 20]].concat(), "more memory than any"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = memory_mib(farm.coordinator_pid());
    for (name, bytes, sentence) in bombs {
        assert!(bytes.len() < 5 << 20, "{name} is no bomb: {} bytes", bytes.len());
        let (before, _) = memory_mib(farm.coordinator_pid());
        let path = format!("/p/{name}");
        let file = json!({ "blob": put(&http, &bytes), "len": bytes.len() });
        let told = json!({ "path": path, "files": { path.clone(): file } });
        http.ask("POST", "/api/v1/scenes", &told).problem(422, "invalid", sentence);
        let (_, most) = memory_mib(farm.coordinator_pid());
        note(&format!("{name}: {} bytes, from {before} to at most {most} MiB", bytes.len()));
        assert!(most < first + 384, "{name}: from {before} to {most} MiB");

        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        in_little_memory(&farm, &path).fails(1, sentence);
    }
}

/// `grange submit` with a gigabyte of address space, most of which its threads' stacks take.
fn in_little_memory(farm: &Farm, blend: &Path) -> Told {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -v 1500000; exec \"$0\" \"$@\""]).arg(program("grange"));
    shell.arg("--identity").arg(farm.admin_identity()).arg("submit").arg(blend);
    Told::by(&mut shell)
}

/// The head of a PNG of that size, and a picture that ends there.
fn png(width: u32, height: u32, body: &[u8]) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let mut chunk = u32::try_from(data.len()).unwrap().to_be_bytes().to_vec();
        chunk.extend([&kind[..], data].concat());
        let mut crc = flate2::Crc::new();
        crc.update(&chunk[4..]);
        chunk.extend(crc.sum().to_be_bytes());
        chunk
    };
    let mut head = [width.to_be_bytes(), height.to_be_bytes()].concat();
    head.extend([8, 2, 0, 0, 0]);
    let start = [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &head)].concat();
    [start, chunk(b"IDAT", body), chunk(b"IEND", b"")].concat()
}

/// An EXR whose head says another size than the picture has.
fn exr(width: i32, height: i32) -> Vec<u8> {
    use exr::prelude::*;
    let channels = SpecificChannels::rgb(|_| (0.5_f32, 0.5_f32, 0.5_f32));
    let mut bytes = Vec::new();
    let image = Image::from_channels((4, 4), channels);
    image.write().to_buffered(std::io::Cursor::new(&mut bytes)).unwrap();
    for window in ["dataWindow\0box2i\0", "displayWindow\0box2i\0"] {
        let name = bytes.windows(window.len()).position(|at| at == window.as_bytes()).unwrap();
        // The length of the attribute, and its two corners.
        let far = name + window.len() + 4 + 8;
        bytes[far..far + 4].copy_from_slice(&(width - 1).to_le_bytes());
        bytes[far + 4..far + 8].copy_from_slice(&(height - 1).to_le_bytes());
    }
    bytes
}

#[test]
fn pictures_that_claim_to_be_huge_are_not_shown_and_take_bounded_memory() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let tga = [&[0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[255; 4], &[32, 0]].concat();
    let mut bmp = b"BM".to_vec();
    bmp.extend([0; 8]);
    bmp.extend(54_u32.to_le_bytes());
    bmp.extend(40_u32.to_le_bytes());
    bmp.extend([100_000_u32.to_le_bytes(), 100_000_u32.to_le_bytes()].concat());
    bmp.extend([1, 0, 32, 0]);
    bmp.extend([0; 24]);
    let heads = [
        ("a PNG", png(100_000, 100_000, b""), "larger than can be shown"),
        (
            "a PNG that fits by its sides alone",
            png(32_000, 32_000, b""),
            "larger than can be shown",
        ),
        ("a PNG of as many as there may be", png(u32::MAX, u32::MAX, b""), ""),
        ("an EXR", exr(100_000, 100_000), "larger than can be shown"),
        ("an EXR that fits by its sides alone", exr(32_000, 32_000), "larger than can be shown"),
        ("an EXR of as many as there may be", exr(i32::MAX, i32::MAX), ""),
        ("an EXR that lacks most of what it says", exr(6_000, 6_000), ""),
        ("an HDR", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 100000 +X 100000\n".to_vec(), ""),
        ("a TGA", tga, ""),
        ("a BMP", bmp, ""),
    ];
    let (before, _) = memory_mib(farm.coordinator_pid());
    for (what, bytes, sentence) in heads {
        note(what);
        let path = format!("/api/v1/pictures/{}/small", put(&http, &bytes));
        http.get(&path).problem(422, "no_picture", sentence);
        let (_, most) = memory_mib(farm.coordinator_pid());
        assert!(most < before + 64, "{what}: from {before} to {most} MiB");
    }

    // A picture that really is that large, of half a megabyte, and within what may be shown.
    let (width, height) = (13_000, 13_000);
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
    let row = vec![0; 1 + 3 * width];
    (0..height).for_each(|_| packed.write_all(&row).unwrap());
    let bytes = png(width as u32, height as u32, &packed.finish().unwrap());
    let shown = http.get(&format!("/api/v1/pictures/{}/small", put(&http, &bytes)));
    assert_eq!(shown.status, 200, "{shown:?}");
    let (_, most) = memory_mib(farm.coordinator_pid());
    note(&format!("{} bytes: from {before} to at most {most} MiB", bytes.len()));
    assert!(most < before + 640, "from {before} to {most} MiB");
}

#[test]
fn manifests_that_have_no_end_are_refused_and_take_bounded_memory() {
    let farm = Farm::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (before, _) = memory_mib(farm.coordinator_pid());
    // 2^63 entries, of which none is there, and somewhat more than there may be, which all are.
    let endless = vec![255, 255, 255, 255, 255, 255, 255, 255, 127];
    let mut many = vec![0xc1, 0x84, 0x3d]; // 1,000,001
    for number in 0..1_000_001_u32 {
        many.extend([8, b'/']);
        many.extend((0..7).map(|digit| b'a' + (number >> (4 * digit)) as u8 % 16));
        many.extend([7; 32]);
        many.push(0);
    }
    for bytes in [endless, many] {
        let told = runtime.block_on(async {
            let client = farm.client().await;
            let blob = Blob { hash: BlobHash::of(&bytes), len: bytes.len() as u64 };
            client.put_bytes(blob, bytes).await.unwrap();
            submit_manifest(&client, blob.hash).await.unwrap_err().to_string()
        });
        assert!(told.contains("the manifest is bad"), "{told}");
    }
    let (_, most) = memory_mib(farm.coordinator_pid());
    note(&format!("from {before} to at most {most} MiB"));
    // The file itself has 42 MiB.
    assert!(most < before + 128, "from {before} to {most} MiB");
}
