//! What a store promises.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use grange_protocol::BlobHash;
use grange_protocol::file::Blob;
use grange_store::{Announced, Collected, ReceiveError, Store};
use proptest::prelude::*;
use tempfile::TempDir;

fn store() -> (Arc<Store>, TempDir) {
    let dir = TempDir::new().unwrap();
    (Arc::new(Store::open(dir.path()).unwrap()), dir)
}

fn blob(bytes: &[u8]) -> Blob {
    Blob { hash: BlobHash::of(bytes), len: bytes.len() as u64 }
}

fn arriving(dir: &TempDir) -> usize {
    fs::read_dir(dir.path().join("arriving")).unwrap().count()
}

#[test]
fn what_is_put_is_there_under_its_hash_and_cannot_be_written() {
    let (store, dir) = store();
    let hello = store.put_bytes(b"hello").unwrap();
    assert_eq!(hello, blob(b"hello"));
    assert_eq!(store.len_of(hello.hash), Some(5));
    assert_eq!(store.read_small(hello.hash, 5).unwrap(), b"hello");
    assert!(store.read_small(hello.hash, 4).is_err());
    assert!(fs::metadata(store.path(hello.hash)).unwrap().permissions().readonly());
    assert_eq!(store.put_bytes(b"hello").unwrap(), hello);
    assert_eq!(arriving(&dir), 0);
    let gone = BlobHash::of(b"gone");
    assert_eq!(store.missing([gone, hello.hash, gone]), [gone]);
}

#[test]
fn false_bytes_never_get_the_name() {
    let (store, dir) = store();
    let wanted = blob(b"right");
    let mut receiving = store.receive(wanted).unwrap();
    receiving.write(b"wrong").unwrap();
    assert!(matches!(receiving.finish(), Err(ReceiveError::Hash)));
    assert!(!store.contains(wanted.hash));
    assert_eq!(arriving(&dir), 0, "false bytes are not kept to go on with");

    let mut receiving = store.receive(wanted).unwrap();
    assert!(matches!(receiving.write(b"right and more"), Err(ReceiveError::Length { .. })));
    drop(receiving);
    let mut receiving = store.receive(wanted).unwrap();
    receiving.write(b"rig").unwrap();
    assert!(matches!(receiving.finish(), Err(ReceiveError::Length { expected: 5, got: 3 })));
    assert!(!store.contains(wanted.hash));
}

#[test]
fn a_transfer_that_broke_goes_on_where_it_broke() {
    let (store, dir) = store();
    let wanted = blob(b"0123456789");
    let mut receiving = store.receive(wanted).unwrap();
    receiving.write(b"0123").unwrap();
    drop(receiving);
    let reopened = Arc::new(Store::open(dir.path()).unwrap());
    let mut receiving = reopened.receive(wanted).unwrap();
    assert_eq!(receiving.offset(), 4);
    receiving.write(b"456789").unwrap();
    receiving.finish().unwrap();
    assert_eq!(reopened.read_small(wanted.hash, 10).unwrap(), b"0123456789");
    assert_eq!(arriving(&dir), 0);
}

#[test]
fn two_senders_of_one_file_do_not_disturb_each_other() {
    let (store, dir) = store();
    let wanted = blob(b"0123456789");
    let mut first = store.receive(wanted).unwrap();
    first.write(b"01234").unwrap();
    let mut second = store.receive(wanted).unwrap();
    assert_eq!(second.offset(), 5, "what the first has brought need not come twice");
    first.write(b"56").unwrap();
    second.write(b"56789").unwrap();
    second.finish().unwrap();
    first.write(b"789").unwrap();
    first.finish().unwrap();
    assert_eq!(store.read_small(wanted.hash, 10).unwrap(), b"0123456789");
    assert_eq!(arriving(&dir), 0);
}

#[test]
fn what_the_slower_of_two_senders_leaves_is_removed_when_the_file_is_there() {
    let (store, dir) = store();
    let wanted = blob(b"0123456789");
    let mut first = store.receive(wanted).unwrap();
    first.write(b"01234").unwrap();
    let mut second = store.receive(wanted).unwrap();
    second.write(b"56789").unwrap();
    second.finish().unwrap();
    assert_eq!(arriving(&dir), 1);
    drop(first);
    assert_eq!(arriving(&dir), 0);
}

#[test]
fn the_next_one_goes_on_with_the_more_of_what_two_senders_have_brought() {
    let (store, dir) = store();
    let wanted = blob(b"0123456789");
    let mut first = store.receive(wanted).unwrap();
    first.write(b"01").unwrap();
    let mut second = store.receive(wanted).unwrap();
    second.write(b"23456").unwrap();
    drop(first);
    drop(second);
    assert_eq!(store.receive(wanted).unwrap().offset(), 7);
    assert_eq!(arriving(&dir), 1);
}

/// Somebody announces a file that they do not have, and keeps their connection.
#[test]
fn whoever_sends_false_bytes_keeps_others_from_a_file_once() {
    let (store, dir) = store();
    let wanted = blob(b"0123456789");
    let mut false_one = store.receive(wanted).unwrap();
    false_one.write(b"ab").unwrap();
    let mut first = store.receive(wanted).unwrap();
    assert_eq!(first.offset(), 2);
    first.write(b"23456789").unwrap();
    assert!(matches!(first.finish(), Err(ReceiveError::Before)));
    false_one.write(b"c").unwrap();
    let mut second = store.receive(wanted).unwrap();
    assert_eq!(second.offset(), 0, "it would go on with false bytes");
    drop(false_one);
    second.write(b"0123").unwrap();
    let mut third = store.receive(wanted).unwrap();
    assert_eq!(third.offset(), 0);
    third.write(b"0123456789").unwrap();
    third.finish().unwrap();
    drop(second);
    assert_eq!(store.read_small(wanted.hash, 10).unwrap(), b"0123456789");
    assert_eq!(arriving(&dir), 0);
    // And it is trusted again, should it go.
    fs::remove_file(store.path(wanted.hash)).unwrap();
    store.receive(wanted).unwrap().write(b"0123").unwrap();
    assert_eq!(store.receive(wanted).unwrap().offset(), 4);
}

/// What is there has been changed by something else than a store.
#[test]
fn what_was_left_and_is_not_of_the_file_is_thrown_away() {
    let (store, dir) = store();
    let wanted = blob(b"0123456789");
    let mut left = store.receive(wanted).unwrap();
    left.write(b"ab").unwrap();
    drop(left);
    let reopened = Arc::new(Store::open(dir.path()).unwrap());
    let mut receiving = reopened.receive(wanted).unwrap();
    receiving.write(b"23456789").unwrap();
    assert!(matches!(receiving.finish(), Err(ReceiveError::Before)));
    assert_eq!(arriving(&dir), 0);
}

fn announced(bytes: &[u8], hash: Option<BlobHash>) -> Announced {
    Announced { key: BlobHash::of(b"a name"), owner: 7, len: bytes.len() as u64, hash }
}

#[test]
fn an_upload_comes_in_parts_also_over_an_end_of_the_process() {
    let (store, dir) = store();
    let bytes = b"0123456789";
    for hash in [None, Some(BlobHash::of(bytes))] {
        let what = announced(bytes, hash);
        let upload = store.begin_upload(what).unwrap();
        let mut receiving = upload.go_on().unwrap();
        receiving.write(b"012").unwrap();
        drop(receiving);
        assert_eq!(upload.offset(), Some(3));
        let mut receiving = upload.go_on().unwrap();
        assert_eq!(receiving.offset(), 3);
        receiving.write(b"34").unwrap();
        // Whoever is killed drops nothing.
        std::mem::forget(receiving);

        let reopened = Arc::new(Store::open(dir.path()).unwrap());
        let left = reopened.uploads().unwrap();
        let [upload] = &left[..] else { panic!("{left:?}") };
        assert_eq!((*upload.announced(), upload.offset()), (what, Some(5)));
        let mut receiving = upload.go_on().unwrap();
        assert!(matches!(receiving.write(b"56789 and more"), Err(ReceiveError::Length { .. })));
        receiving.write(b"56789").unwrap();
        assert_eq!(receiving.hash(), BlobHash::of(bytes));
        receiving.finish().unwrap();
        assert_eq!(reopened.read_small(BlobHash::of(bytes), 10).unwrap(), bytes);
        assert_eq!((upload.offset(), arriving(&dir)), (None, 0));
    }
}

#[test]
fn an_upload_of_other_bytes_than_the_announced_ones_is_gone_and_nobody_is_doubted() {
    let (store, dir) = store();
    let wanted = blob(b"right");
    let upload = store.begin_upload(announced(b"right", Some(wanted.hash))).unwrap();
    upload.go_on().unwrap().write(b"wr").unwrap();
    let mut receiving = upload.go_on().unwrap();
    receiving.write(b"ong").unwrap();
    assert!(matches!(receiving.finish(), Err(ReceiveError::Hash)));
    assert_eq!((upload.offset(), arriving(&dir)), (None, 0));
    store.receive(wanted).unwrap().write(b"ri").unwrap();
    assert_eq!(store.receive(wanted).unwrap().offset(), 2);
}

#[test]
fn an_upload_stays_for_a_day_and_no_longer_than_the_host_runs() {
    let (store, dir) = store();
    let upload = store.begin_upload(announced(b"0123456789", None)).unwrap();
    upload.go_on().unwrap().write(b"01234").unwrap();
    store.collect(0, Duration::ZERO, |_| false).unwrap();
    assert_eq!(upload.offset(), Some(5));
    let path = fs::read_dir(dir.path().join("arriving")).unwrap().next().unwrap().unwrap().path();
    let age = |hours: u64| {
        let then = SystemTime::now() - Duration::from_secs(hours * 3600);
        fs::File::open(&path).unwrap().set_modified(then).unwrap();
    };
    age(23);
    store.collect(0, Duration::ZERO, |_| false).unwrap();
    assert_eq!(upload.offset(), Some(5));
    age(25);
    store.collect(0, Duration::ZERO, |_| false).unwrap();
    assert_eq!(upload.offset(), None);

    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    fs::write(&path, b"01234").unwrap();
    assert_eq!(store.uploads().unwrap().len(), 1);
    // The host was started since, as its id says, which is the last part of the name.
    let (before, _) = name.rsplit_once('.').unwrap().0.rsplit_once('.').unwrap();
    let older = path.with_file_name(format!("{before}.0123456789abcdef.upload"));
    fs::rename(&path, &older).unwrap();
    assert_eq!(store.uploads().unwrap().len(), 0);
    assert!(!older.exists());
}

#[test]
fn many_threads_commit_at_once() {
    let (store, dir) = store();
    std::thread::scope(|scope| {
        for thread in 0..8u8 {
            let store = &store;
            scope.spawn(move || {
                for at in 0..40u8 {
                    store.put_bytes(&[thread % 4, at]).unwrap();
                }
            });
        }
    });
    for thread in 0..4u8 {
        for at in 0..40u8 {
            assert!(store.contains(BlobHash::of(&[thread, at])));
        }
    }
    assert_eq!(arriving(&dir), 0);
}

#[test]
fn the_least_used_files_are_collected_first_and_pinned_ones_never() {
    let (store, _dir) = store();
    let put = |text: &str| {
        let blob = store.put_bytes(text.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(10));
        blob.hash
    };
    let (oldest, old, wanted, pinned, young) =
        (put("aaaa"), put("bbbb"), put("cccc"), put("dddd"), put("eeee"));
    store.touch(oldest).unwrap();
    let pin = store.pin(pinned);
    let keep = |hash| hash == wanted;
    assert_eq!(store.collect(20, Duration::ZERO, keep).unwrap(), Collected::default());
    assert_eq!(
        store.collect(10, Duration::from_secs(60), keep).unwrap(),
        Collected::default(),
        "all are young"
    );
    assert_eq!(store.collect(12, Duration::ZERO, keep).unwrap(), Collected { files: 2, bytes: 8 });
    let left = [oldest, old, wanted, pinned, young].map(|hash| store.contains(hash));
    assert_eq!(left, [true, false, true, true, false]);
    drop(pin);
    assert_eq!(store.collect(4, Duration::ZERO, keep).unwrap(), Collected { files: 2, bytes: 8 });
    assert!(store.contains(wanted));
}

#[test]
fn files_of_a_time_that_is_yet_to_come_are_collected_like_others() {
    let (store, dir) = store();
    let bytes = store.put_bytes(b"of a clock that went wrong").unwrap();
    drop(store);
    let path = dir.path().join("blobs").join(&bytes.hash.to_hex()[..1]).join(bytes.hash.to_hex());
    let in_a_year = SystemTime::now() + Duration::from_secs(365 * 24 * 3600);
    fs::File::open(&path).unwrap().set_modified(in_a_year).unwrap();
    let store = Arc::new(Store::open(dir.path()).unwrap());
    let min_age = Duration::from_millis(20);
    assert_eq!(store.collect(0, Duration::from_secs(60), |_| false).unwrap().files, 0);
    std::thread::sleep(min_age);
    assert_eq!(store.collect(0, min_age, |_| false).unwrap().files, 1);
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_arrive(
        bytes in proptest::collection::vec(any::<u8>(), 0..3000),
        cuts in proptest::collection::vec(1usize..800, 0..8),
        breaks in any::<bool>(),
    ) {
        let (store, _dir) = store();
        let wanted = blob(&bytes);
        let mut rest = &bytes[..];
        let mut receiving = store.receive(wanted).unwrap();
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            receiving.write(piece).unwrap();
            rest = after;
            if breaks {
                drop(receiving);
                receiving = store.receive(wanted).unwrap();
                prop_assert_eq!(receiving.offset() as usize, bytes.len() - rest.len());
            }
        }
        receiving.write(rest).unwrap();
        receiving.finish().unwrap();
        prop_assert_eq!(fs::read(store.path(wanted.hash)).unwrap(), bytes);
    }
}
