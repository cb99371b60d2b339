//! Files in and out.

use grange_protocol::BlobHash;
use serde_json::json;

use crate::support::farm::Farm;
use crate::support::http::Http;

#[test]
fn files_go_in_by_their_hash_and_come_out_in_parts() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let bytes: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
    let hash = BlobHash::of(&bytes).to_string();
    let path = format!("/api/v1/blobs/{hash}");
    let hashes = json!({ "hashes": [hash, hash] });
    let missing = |http: &Http| http.ask("POST", "/api/v1/blobs/missing", &hashes).json(200);
    assert_eq!(missing(&http), json!({ "missing": [hash] }));
    http.get(&path).problem(404, "not_found", "the farm has no file");

    let blob = json!({ "hash": hash, "len": bytes.len() });
    assert_eq!(http.put(&path, &bytes).json(201), blob);
    assert_eq!(http.put(&path, &bytes).json(200), blob);
    assert_eq!(missing(&http), json!({ "missing": [] }));

    let whole = http.get(&path);
    assert_eq!(whole.body, bytes);
    assert_eq!(whole.headers["etag"], format!("\"{hash}\""));
    assert_eq!(whole.headers["content-type"], "application/octet-stream");
    let part = http.get_with(&path, &[("Range", "bytes=1000000-1000099")]);
    assert_eq!((part.status, &part.body[..]), (206, &bytes[1_000_000..1_000_100]));
    assert_eq!(part.headers["content-range"], "bytes 1000000-1000099/3000000");
    let end = http.get_with(&path, &[("Range", "bytes=-7")]);
    assert_eq!((end.status, &end.body[..]), (206, &bytes[2_999_993..]));
    let beyond = http.get_with(&path, &[("Range", "bytes=3000000-")]);
    assert_eq!(beyond.headers["content-range"], "bytes */3000000");
    beyond.problem(416, "range", "3000000 bytes");
    let known = http.get_with(&path, &[("If-None-Match", &format!("\"{hash}\""))]);
    assert_eq!((known.status, known.body.len()), (304, 0));
    let head = http.send("HEAD", &path, &[], Vec::new());
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.headers["content-length"], "3000000");
}

#[test]
fn bytes_that_are_not_the_announced_ones_are_refused() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let hash = BlobHash::of(b"these bytes").to_string();
    let path = format!("/api/v1/blobs/{hash}");
    http.put(&path, b"other bytes").problem(422, "invalid", "their hash differs");
    http.get(&path).problem(404, "not_found", "the farm has no file");
    http.put(&path, b"these bytes").json(201);
    http.put("/api/v1/blobs/xyz", b"").problem(400, "bad_request", "not a BLAKE3 hash");
}

#[test]
fn an_upload_that_broke_off_may_begin_again() {
    use std::io::Read;

    struct Breaks(usize);
    impl Read for Breaks {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::Error::other("the cable is out"));
            }
            let count = self.0.min(into.len());
            into[..count].fill(7);
            self.0 -= count;
            Ok(count)
        }
    }
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let bytes = vec![7; 2_000_000];
    let path = format!("/api/v1/blobs/{}", BlobHash::of(&bytes));
    let len = bytes.len() as u64;
    http.send_from("PUT", &path, Some(len), Breaks(1_200_000)).expect_err("it broke off");
    http.put(&path, &bytes).json(201);
    assert_eq!(http.get(&path).body, bytes);
}

#[test]
fn a_file_says_how_long_it_is() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let path = format!("/api/v1/blobs/{}", BlobHash::of(b""));
    let chunked = http.send_from("PUT", &path, None, std::io::empty()).unwrap();
    chunked.problem(411, "length_required", "Content-Length");
    let endless = http.send_from("PUT", &path, Some(1 << 41), std::io::repeat(0)).unwrap();
    endless.problem(413, "too_large", "more than");
}

#[test]
fn a_client_without_blake3_is_told_the_hash() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let bytes = vec![3; 1_500_000];
    let blob = json!({ "hash": BlobHash::of(&bytes).to_string(), "len": bytes.len() });
    for _ in 0..2 {
        let told = http.send("POST", "/api/v1/blobs", &[], bytes.clone());
        assert_eq!(told.json(201), blob);
    }
    let hash = blob["hash"].as_str().unwrap();
    assert_eq!(http.get(&format!("/api/v1/blobs/{hash}")).body, bytes);
    let arriving = farm.home().join("coordinator/store/arriving");
    assert_eq!(std::fs::read_dir(arriving).unwrap().count(), 0);
}

#[test]
fn a_large_file_never_lies_in_the_coordinators_memory() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let peak_kib = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", farm.coordinator_pid()));
        let status = status.unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse().unwrap()
    };
    const LEN: u64 = 150_000_000;
    let before = peak_kib();
    let zeros = std::io::Read::take(std::io::repeat(0), LEN);
    let reply = http.send_from("POST", "/api/v1/blobs", Some(LEN), zeros).unwrap();
    let hash = reply.json(201)["hash"].as_str().unwrap().to_owned();
    let (len, hashed) = http.download(&format!("/api/v1/blobs/{hash}"));
    assert_eq!((len, hashed), (LEN, hash));
    assert!(peak_kib() - before < 40_000, "{before} KiB before, {} after", peak_kib());
}
