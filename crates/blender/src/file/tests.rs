//! Files that are not as they should be, made of two real ones: one of 3.4 and one of 5.0, whose
//! file formats differ.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use grange_protocol::BlenderVersion;
use proptest::prelude::*;

use super::blocks::Blocks;
use super::document::{Document, Shelf};
use super::error::Fault;
use super::place::Place;
use super::source::Source;
use super::{
    BlendFile, Bounds, Folder, Questions, ReadError, Reading, ToldFiles, read_told, summary, trace,
};

const TINY_3_4: &[u8] = include_bytes!("../../fixtures/tiny-3.4.blend");
const TINY_5_0: &[u8] = include_bytes!("../../fixtures/tiny-5.0.blend");

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    zstd::decode_all(bytes).unwrap()
}

/// The bytes as a file of that name.
fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (directory, path)
}

/// What a person reads about a file of these bytes.
fn complaint(bytes: &[u8]) -> String {
    let (directory, path) = file("shot.blend", bytes);
    let error = BlendFile::open(&path).unwrap_err().to_string();
    error.replace(&directory.path().display().to_string(), "")
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn plain_and_compressed_files_say_the_same() {
    for (tiny, version) in
        [(TINY_3_4, BlenderVersion::new(3, 4)), (TINY_5_0, BlenderVersion::new(5, 0))]
    {
        let plain = unpacked(tiny);
        let summaries = [tiny, &plain, &gzipped(&plain)].map(|bytes| {
            let (_directory, path) = file("shot.blend", bytes);
            BlendFile::open(path).unwrap().summary().unwrap()
        });
        assert_eq!(summaries[0], summaries[1]);
        assert_eq!(summaries[0], summaries[2]);
        assert_eq!(summaries[0].saved_by, version);
        let scene = summaries[0].active();
        assert_eq!((scene.name.as_str(), scene.denoises), ("Scene", false));
        assert_eq!(scene.cameras, ["Camera"]);
    }
}

#[test]
fn a_trace_is_a_sentence_for_whatever_is_missing() {
    for tiny in [TINY_3_4, TINY_5_0] {
        let (directory, path) = file("shot.blend", tiny);
        std::fs::write(directory.path().join("frames_007.png"), "").unwrap();
        let trace = BlendFile::open(&path).unwrap().trace();
        let files: Vec<_> = trace.files.iter().map(|file| file.path.file_name().unwrap()).collect();
        assert_eq!(files, ["frames_007.png", "shot.blend"]);
        let missing: Vec<String> = trace
            .missing
            .iter()
            .map(|missing| missing.to_string().replace(directory.path().to_str().unwrap(), ""))
            .collect();
        insta::allow_duplicates! {
            insta::assert_snapshot!(missing.join("\n"), @r"
            file of a strip `/i_1.png` (used by scene `Scene`) is not there: restore it, or find it in Blender with File > External Data > Find Missing Files
            IES file `/l.ies` (used by material `m`) is not there: restore it, or find it in Blender with File > External Data > Find Missing Files
            image `/wood.png` (used by image `Wood`) is not there: restore it, or find it in Blender with File > External Data > Find Missing Files
            ");
        }
    }
}

#[test]
fn a_file_that_is_none_is_named_with_the_next_step() {
    let plain = unpacked(TINY_3_4);
    let newer = [b"BLENDER17-02v0700".as_slice(), &plain[12..]].concat();
    let no_dna = [&plain[..12], b"ENDB"].concat();
    let lines = [
        complaint(b""),
        complaint(b"BLEN"),
        complaint(b"hello, this is some text"),
        complaint(&[0; 4096]),
        complaint(&plain[..plain.len() / 2]),
        complaint(&TINY_3_4[..TINY_3_4.len() / 2]),
        complaint(&gzipped(&plain)[..1000]),
        complaint(&newer),
        complaint(&no_dna),
        complaint(&zstd::encode_all(b"hello, this is some text".as_slice(), 1).unwrap()),
        complaint(&[&TINY_3_4[..100], &[0x55; 10_000], &TINY_3_4[10_100..]].concat()),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r"
    `/shot.blend` ends too early: save it again, or copy it again if it is a copy
    `/shot.blend` ends too early: save it again, or copy it again if it is a copy
    `/shot.blend` is not a .blend file: name one that Blender saved
    `/shot.blend` is not a .blend file: name one that Blender saved
    `/shot.blend` ends too early: save it again, or copy it again if it is a copy
    `/shot.blend` ends too early: save it again, or copy it again if it is a copy
    `/shot.blend` ends too early: save it again, or copy it again if it is a copy
    `/shot.blend` has a newer file format than this program knows: update it
    `/shot.blend` is damaged (it does not describe itself): open it in Blender and save it again
    `/shot.blend` is not a .blend file: name one that Blender saved
    `/shot.blend` is damaged (its compressed data makes no sense): open it in Blender and save it again
    ");
}

/// A scene of another machine, whose bytes are in that file here.
fn told(bytes: &Path) -> ToldFiles {
    let mut told = ToldFiles::default();
    told.blends.insert("/ada/shots/shot.blend".into(), Some(bytes.into()));
    told
}

fn read_within(told: &ToldFiles, memory: u64, time: Duration) -> Result<Reading, ReadError> {
    let bounds = Bounds { memory, until: Instant::now() + time, canceled: Arc::default() };
    read_told(Path::new("/ada/shots/shot.blend"), told.clone(), bounds)
}

fn read(told: &ToldFiles) -> Reading {
    read_within(told, 1 << 30, Duration::from_secs(60)).unwrap()
}

#[test]
fn who_tells_of_a_scene_is_asked_for_what_matters_and_no_more() {
    let (_directory, bytes) = file("elsewhere", TINY_3_4);
    let mut told = told(&bytes);
    let Reading::Asks(questions) = read(&told) else { panic!("nothing is asked") };
    let folders = ["/ada/shots"].map(PathBuf::from);
    assert_eq!(questions, Questions { libraries: [].into(), folders: folders.into() });

    // A folder says what is in it, and what is not.
    let files = ["frames_001.png", "frames_200.png", "frames_x.png", "wood.png"];
    let folder = Folder { files: files.map(Into::into).into(), ..Folder::default() };
    told.folders.insert("/ada/shots".into(), Some(folder));
    let Reading::Scene { trace, summary } = read(&told) else { panic!("more is asked") };
    assert_eq!(summary.active().name, "Scene");
    let files: Vec<&str> = trace.files.iter().filter_map(|file| file.path.to_str()).collect();
    let there = ["frames_001.png", "frames_200.png", "shot.blend", "wood.png"];
    assert_eq!(files, there.map(|name| format!("/ada/shots/{name}")));
    assert_eq!(trace.missing.len(), 2);

    // So does one that is not there, of all below it.
    told.folders = [("/ada".into(), None)].into();
    let Reading::Scene { trace, .. } = read(&told) else { panic!("more is asked") };
    assert_eq!((trace.files.len(), trace.missing.len()), (1, 4));
}

#[test]
fn a_told_scene_takes_no_more_than_it_may() {
    let (_directory, bytes) = file("elsewhere", TINY_3_4);
    let told = told(&bytes);
    let complaint = |memory, time| read_within(&told, memory, time).unwrap_err().to_string();
    let bounds = Bounds {
        memory: 1 << 30,
        until: Instant::now() + Duration::from_secs(60),
        canceled: Arc::new(true.into()),
    };
    let canceled = read_told(Path::new("/ada/shots/shot.blend"), told.clone(), bounds);
    assert!(matches!(canceled, Err(ReadError::TooLarge { .. })));
    let lines = [complaint(1 << 10, Duration::from_secs(60)), complaint(1 << 30, Duration::ZERO)];
    insta::assert_snapshot!(lines.join("\n"), @r"
    `/ada/shots/shot.blend` is too large (its datablocks fill more memory than any real scene's): split the scene into libraries, or clean it up in Blender
    `/ada/shots/shot.blend` is too large (reading it takes longer than it may): split the scene into libraries, or clean it up in Blender
    ");
}

#[test]
fn a_file_goes_to_other_threads() {
    fn goes<T: Send>() {}
    goes::<BlendFile>();
}

#[test]
fn what_is_no_file_is_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    let open = |path: &Path| BlendFile::open(path).unwrap_err();
    assert!(matches!(open(directory.path()), ReadError::NotAFile { .. }));
    assert!(matches!(open(&directory.path().join("no.blend")), ReadError::NotFound { .. }));
    assert!(matches!(open(Path::new("/dev/zero")), ReadError::NotAFile { .. }));
}

#[test]
fn a_bomb_is_left_before_it_goes_off() {
    // A hundred thousand empty blocks that belong to an object, and what they shrink to.
    let mut bomb = b"BLENDER-v304".to_vec();
    for code in [b"OB\0\0"].into_iter().chain(std::iter::repeat_n(b"DATA", 100_000)) {
        bomb.extend(code);
        bomb.extend([0; 20]);
    }
    let bomb = zstd::encode_all(bomb.as_slice(), 1).unwrap();
    assert!(bomb.len() < 10_000);

    let mut source = Source::of_bytes(&bomb).unwrap();
    source.unpacked_max = 1 << 20;
    assert!(matches!(Blocks::read(source), Err(Fault::TooLarge(_))));
    let mut source = Source::of_bytes(&bomb).unwrap();
    source.held_max = 1 << 20;
    assert!(matches!(Blocks::read(source), Err(Fault::TooLarge(_))));
}

/// Reads all that can be read of these bytes.
fn devour(bytes: &[u8]) {
    let Ok(blocks) = Source::of_bytes(bytes).and_then(Blocks::read) else { return };
    // No directory: nothing that the file names may be there.
    let document = Document { path: "/no/such/directory/shot.blend".into(), blocks };
    let shelf = Shelf::of(&document, Place::Disk);
    let _ = summary::read(&document, &shelf);
    let _ = trace::of(&document, &shelf);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Any answer will do, as long as it comes soon.
    #[test]
    fn damaged_files_neither_crash_nor_hang(
        new_format in any::<bool>(),
        compressed in proptest::bool::weighted(0.1),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in proptest::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let tiny = if new_format { TINY_5_0 } else { TINY_3_4 };
        let mut bytes = if compressed { tiny.to_vec() } else { unpacked(tiny) };
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let start = Instant::now();
        devour(&bytes);
        prop_assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
    }

    /// The same where it hurts most: in the words that say where things are and how many.
    #[test]
    fn damaged_pointers_and_lengths_neither_crash_nor_hang(
        new_format in any::<bool>(),
        swaps in proptest::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..200
        ),
    ) {
        let mut bytes = unpacked(if new_format { TINY_5_0 } else { TINY_3_4 });
        let start = if new_format { 17 } else { 12 };
        let words = (bytes.len() - start) / 4;
        for (from, to) in swaps {
            let (from, to) = (start + from.index(words) * 4, start + to.index(words) * 4);
            bytes.copy_within(from..from + 4, to);
        }
        let start = Instant::now();
        devour(&bytes);
        prop_assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
    }
}
