//! .blend files, whole and by their blocks, and what workers in Blender say.

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use grange_blender::file::{BlendFile, Bounds, Folder, ToldFiles, read_told};
use grange_blender::instance;

use crate::{Target, scratch};

const TINY_3_4: &[u8] = include_bytes!("../../../../crates/blender/fixtures/tiny-3.4.blend");
const TINY_5_0: &[u8] = include_bytes!("../../../../crates/blender/fixtures/tiny-5.0.blend");
/// Where the file lies on the machine that tells of it.
const SHOT: &str = "/home/ada/shot.blend";

/// A whole file, plain or compressed, as clients read their own.
pub(super) const BLEND: Target = Target {
    name: "blend",
    len_max: 256 << 10,
    memory: |input| if input.starts_with(b"BLEN") { of_plain(input) } else { PACKED_MAX },
    seeds: whole,
    read: |input| {
        if let Ok(file) = BlendFile::open(scratch::file("shot.blend", input)) {
            let _ = file.summary();
            let _ = file.trace();
        }
    },
};

/// The blocks of a file, as the coordinator reads them for clients that cannot. The first byte says of
/// which version; the header and what describes all structs are that version's own.
pub(super) const BLOCKS: Target = Target {
    name: "blocks",
    len_max: 128 << 10,
    memory: of_plain,
    seeds: || {
        (0u8..)
            .zip(kinds())
            .map(|(at, kind)| [&[at], &kind.plain[kind.blocks.clone()]].concat())
            .collect()
    },
    read: |input| {
        let Some((first, blocks)) = input.split_first() else { return };
        let kinds = kinds();
        let Kind { plain, blocks: own } = &kinds[usize::from(*first) % kinds.len()];
        let whole = [&plain[..own.start], blocks, &plain[own.end..]].concat();
        let mut told = ToldFiles::default();
        told.blends.insert(SHOT.into(), Some(scratch::file("blob", &whole)));
        let folder = |files: &[&str], folders: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
            Some(Folder { files: names(files), folders: names(folders) })
        };
        told.folders
            .insert("/home/ada".into(), folder(&["wood.png", "frames_002.png"], &["cache"]));
        told.folders.insert("/home/ada/cache".into(), folder(&["a_000001_00.bphys"], &[]));
        told.folders.insert("/home/ada/none".into(), None);
        let until = Instant::now() + Duration::from_secs(60);
        let bounds = Bounds { memory: 1 << 30, until, canceled: Default::default() };
        let _ = read_told(Path::new(SHOT), told, bounds);
    },
};

/// A line that a worker says, or Blender prints.
pub(super) const WORKER: Target = Target {
    name: "worker",
    len_max: 4 << 10,
    memory: |input| (1 << 20) + 128 * input.len(),
    seeds: lines,
    read: |input| {
        let _ = instance::examine(input);
    },
};

/// A file that is held as it lies on the disk, its index and what was found in it.
fn of_plain(input: &[u8]) -> usize {
    (32 << 20) + 64 * input.len()
}

/// `blender::file` holds up to 1 GiB of any file; a buffer that grows is there twice for a moment, the
/// new one of double the size.
const PACKED_MAX: usize = 4 << 30;

/// A good file, and where its blocks are between its header and its description of structs.
struct Kind {
    plain: Vec<u8>,
    blocks: Range<usize>,
}

fn kinds() -> &'static [Kind; 2] {
    static KINDS: OnceLock<[Kind; 2]> = OnceLock::new();
    KINDS.get_or_init(|| {
        [(TINY_3_4, 12), (TINY_5_0, 17)].map(|(packed, start)| {
            let plain = zstd::decode_all(packed).expect("the fixture is whole");
            let end = plain.windows(4).position(|code| code == b"DNA1").expect("its description");
            Kind { plain, blocks: start..end }
        })
    })
}

fn whole() -> Vec<Vec<u8>> {
    let mut seeds = vec![TINY_3_4.to_vec(), TINY_5_0.to_vec()];
    for Kind { plain, .. } in kinds() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let packed = encoder.write_all(plain).and_then(|()| encoder.finish());
        seeds.extend([plain.clone(), packed.expect("memory can be written")]);
    }
    seeds
}

fn lines() -> Vec<Vec<u8>> {
    let lines = [
        r#"{"is":"hello","version":[4,2,23],"full_version":"4.2.23 LTS","engines":["CYCLES"],"devices":[{"kind":"CPU","name":"c","id":"CPU"}],"denoiser":true,"can_stop":true,"stats":true}"#,
        r#"{"is":"opened","seconds":1.5,"warnings":["w"]}"#,
        r#"{"is":"not_opened","fault":"scene","reason":"Error: File written by newer Blender"}"#,
        r#"{"is":"began","id":1,"passes":2}"#,
        r#"{"is":"stats","id":1,"text":"Fra:1 Mem:8.06M (Peak 9.1M) | Time:00:00.50 | Remaining:00:01.2 | Mem:0.00M, Peak:0.00M | Scene, ViewLayer | Rendered 3/16 Tiles, Sample 32/64"}"#,
        r#"{"is":"rendered","id":1,"seconds":1.5,"peak_mib":10,"warnings":[],"width":64,"height":36,"device":{"kind":"CUDA","ids":["CUDA_x_0000:01:00"]},"data":{"truths":[{"kind":"depth","far":9.5,"file":"a/x.exr","debug":"a/x.png","codec":"ZIP","layer":"Front"},{"kind":"flow","direction":"both","file":"f.exr","debug":null,"codec":"PXR24","layer":""}]}}"#,
        r#"{"is":"failed","id":1,"fault":null,"reason":"Error: System is out of GPU memory"}"#,
        r#"{"is":"canceled","id":1}"#,
        r#"{"is":"returned","id":1,"value":{"a":[1,2.5,null]},"warnings":["w"]}"#,
        r#"{"is":"raised","id":1,"kind":"ValueError","message":"m","traceback":"t"}"#,
        r#"{"is":"probed","error":null}"#,
        r#"{"is":"pong"}"#,
        "Fra:7 Mem:12.30M | Time:00:01.00 | Rendering 5 / 64 samples",
    ];
    lines.map(|line| line.as_bytes().to_vec()).into()
}
