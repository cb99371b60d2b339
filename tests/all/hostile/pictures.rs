//! An agent that lies in the small pictures that it sends.

use std::io::Cursor;

use grange_protocol::file::PutPictures;
use grange_protocol::limits::picture_max;
use grange_protocol::{BlobHash, LeaseId, TaskRef};
use grange_tests::puppet::{Puppet, small_output, submit_noop};
use grange_transport::{StreamError, exchange};
use image::codecs::jpeg::JpegEncoder;

use crate::support::farm::{FakeJob, Farm};
use crate::support::http::Http;
use crate::support::pictures::names;

fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let picture = image::RgbImage::from_pixel(width, height, image::Rgb([250, 0, 0]));
    picture.write_with_encoder(JpegEncoder::new(&mut bytes)).unwrap();
    bytes
}

/// An agent with a task, of which it may commit outputs.
async fn holder(farm: &Farm) -> (Puppet, LeaseId, TaskRef) {
    let client = farm.client().await;
    let mut agent = Puppet::join(&client).await.unwrap();
    // So many that the host does not take them all.
    submit_noop(&client, 100).await.unwrap();
    let (lease, task) = agent.assigned().await.unwrap();
    (agent, lease, task)
}

async fn commit(agent: &Puppet, lease: LeaseId, task: TaskRef, name: &str, bytes: &'static [u8]) {
    let output = small_output(lease, task, name, bytes);
    exchange::put_output(&agent.connection, output, Cursor::new(bytes)).await.unwrap();
}

async fn put(agent: &Puppet, of: BlobHash, pictures: [&[u8]; 3]) -> Result<(), String> {
    let lens = pictures.map(|picture| picture.len() as u32);
    put_as(agent, PutPictures { of, lens, skipped: 0 }, pictures.concat()).await
}

async fn put_as(agent: &Puppet, put: PutPictures, bytes: Vec<u8>) -> Result<(), String> {
    match exchange::put_pictures(&agent.connection, put, bytes).await {
        Ok(()) => Ok(()),
        Err(StreamError::Refused(refusal)) => Err(refusal.message),
        Err(error) => panic!("neither kept nor refused: {error}"),
    }
}

#[test]
fn pictures_that_are_none_are_refused_with_one_line_and_good_ones_stay() {
    let farm = super::farm();
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 50", 40));
    // An asset, as far as anybody knows.
    farm.try_put(b"other").unwrap();
    let (one, other) = (BlobHash::of(b"one"), BlobHash::of(b"other"));
    let (small, medium, large) = (jpeg(192, 108), jpeg(480, 270), jpeg(1_600, 900));
    let good: [&[u8]; 3] = [&small, &medium, &large];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (agent, lease, task) = holder(&farm).await;
        let refused = async |of, pictures, sentence: &str| {
            let told = put(&agent, of, pictures).await.expect_err(sentence);
            assert!(told.contains(sentence), "{told}");
        };
        let (wide, high) = (jpeg(193, 4), jpeg(4, 1_601));
        let bomb = [&jpeg(8, 8)[..], &vec![0; picture_max(192) as usize]].concat();
        refused(BlobHash::of(b"nobody's"), good, "no file").await;
        refused(other, good, "who has just committed it").await;
        // Nor does it help to commit what is there already.
        commit(&agent, lease, task, "other.png", b"other").await;
        refused(other, good, "who has just committed it").await;
        commit(&agent, lease, task, "one.png", b"one").await;
        refused(one, [&wide, &medium, &large], "no JPEG of at most 192 pixels").await;
        refused(one, [&small, &medium, &high], "no JPEG of at most 1600 pixels").await;
        refused(one, [&small, b"<script>", &large], "no JPEG of at most 480 pixels").await;
        refused(one, [&small, &medium[..medium.len() - 9], &large], "no JPEG of at most 480").await;
        refused(one, [&bomb, &medium, &large], "too many bytes").await;
        refused(one, [&small, &medium, b""], "too many bytes or none").await;
        // Fewer than were announced.
        let lens = good.map(|picture| picture.len() as u32);
        let short = PutPictures { of: one, lens, skipped: 0 };
        put_as(&agent, short, small.clone()).await.expect_err("fewer bytes");

        put(&agent, one, good).await.unwrap();
        // The first ones stay, whoever says otherwise.
        put(&agent, one, [&jpeg(2, 2), &jpeg(2, 2), &jpeg(2, 2)]).await.unwrap();
    });
    super::renders_on(&farm, job, 40);
    let http = Http::of(&farm, "viewer");
    for (size, picture) in [("small", &small), ("medium", &medium), ("large", &large)] {
        assert_eq!(&http.get(&format!("/api/v1/pictures/{one}/{size}")).body, picture);
    }
    http.get(&format!("/api/v1/pictures/{other}/small")).problem(422, "no_picture", "shown");
    let kept = names(&farm.home().join("coordinator/pictures"));
    assert!(!kept.iter().any(|name| name.contains(&other.to_hex())), "{kept:?}");
    let lines = |farm: &Farm| farm.said("coordinator").matches("small pictures that it").count();
    assert_eq!(lines(&farm), 1);
}

/// Whoever is no agent sends none, nor does one that has not committed the frame, and one that says more
/// than there may be is cut off.
#[test]
fn only_who_has_committed_a_frame_sends_its_pictures_and_no_more_than_it_announces() {
    let farm = super::farm();
    let of = BlobHash::of(b"one");
    let small = jpeg(8, 8);
    let lens = [small.len() as u32; 3];
    let announced = PutPictures { of, lens, skipped: 0 };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (agent, lease, task) = holder(&farm).await;
        commit(&agent, lease, task, "one.png", b"one").await;
        let admin = super::messages::as_admin(&farm).await;
        match exchange::put_pictures(&admin, announced, small.repeat(3)).await {
            Err(StreamError::Refused(refusal)) => {
                assert!(refusal.message.contains("role"), "{refusal}");
            }
            other => panic!("it was not refused: {other:?}"),
        }
        let other = Puppet::join(&farm.client().await).await.unwrap();
        let told = put(&other, of, [&small; 3]).await.unwrap_err();
        assert!(told.contains("who has just committed it"), "{told}");
        let flood = vec![0; 64 << 20];
        let sent = exchange::put_pictures(&agent.connection, announced, flood).await;
        assert!(sent.is_err(), "{sent:?}");
        put(&agent, of, [&small; 3]).await.unwrap();
    });
}
