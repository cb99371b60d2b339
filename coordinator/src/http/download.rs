//! Files on their way out: ranges, ETags, and pieces that never make a whole in memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use grange_protocol::BlobHash;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;

use super::outgoing::Pieces;
use super::{Api, Problem};

const PIECE_BYTES: usize = 256 << 10;
/// Pieces that are read ahead of the network. Full, the file waits for the client.
const PIECES: usize = 4;
/// How long a transfer waits for one of the others to end.
const TURN: Duration = Duration::from_secs(20);

/// What a cache may think of a file.
pub(super) enum Lifetime {
    /// It is named by its hash.
    Forever,
    /// It is named by people: ask again whether it is the same.
    Checked,
}

/// What a client asks for of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Whole,
    /// From one byte to before another.
    Part(u64, u64),
    /// More than there is.
    Nothing,
}

pub(super) async fn send(
    api: &Api,
    hash: BlobHash,
    headers: &HeaderMap,
    kind: &'static str,
    lifetime: Lifetime,
) -> Result<Response, Problem> {
    let Some(len) = api.shared.store.len_of(hash) else {
        return Err(Problem::not_found(format!("the farm has no file {hash}")));
    };
    let etag = format!("\"{hash}\"");
    let caching = match lifetime {
        Lifetime::Forever => "private, max-age=31536000, immutable",
        Lifetime::Checked => "private, no-cache",
    };
    let common = [
        (header::ETAG, ascii(&etag)),
        (header::CACHE_CONTROL, HeaderValue::from_static(caching)),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if known.is_some_and(|known| known.trim() == "*" || known.contains(&etag)) {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    let (status, first, end) = match wanted(headers, &etag, len) {
        Wanted::Whole => (StatusCode::OK, 0, len),
        Wanted::Part(first, end) => (StatusCode::PARTIAL_CONTENT, first, end),
        Wanted::Nothing => {
            let detail = format!("the file has {len} bytes, and the range begins after them");
            return Err(Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "range", detail)
                .with(header::CONTENT_RANGE, ascii(&format!("bytes */{len}"))));
        }
    };
    let permit = tokio::time::timeout(TURN, api.transfers.clone().acquire_owned()).await;
    let Ok(Ok(permit)) = permit else {
        return Err(Problem::busy("too many files are on their way: try again in a moment"));
    };
    let store = api.shared.store.clone();
    let opened = spawn_blocking(move || store.read(hash)).await.map_err(io::Error::other);
    let Ok(file) = opened.and_then(|opened| opened) else {
        return Err(Problem::busy("the file cannot be read now: try again in a moment"));
    };
    api.shared.keeping.note_fetched(hash);
    let mut response = (status, common, bytes_of(file, first, end, permit)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_LENGTH, (end - first).into());
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {first}-{}/{len}", end - 1);
        headers.insert(header::CONTENT_RANGE, ascii(&range));
    }
    Ok(response)
}

/// By the extension; what a browser might run is none of these.
pub(super) fn media_type(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "bmp" => "image/bmp",
        "tif" | "tiff" => "image/tiff",
        "exr" => "image/x-exr",
        "hdr" => "image/vnd.radiance",
        "tga" => "image/x-tga",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "mkv" => "video/x-matroska",
        "mov" => "video/quicktime",
        "avi" => "video/x-msvideo",
        _ => "application/octet-stream",
    }
}

/// One range is served as asked for; several, or words that make none, mean the whole file, as
/// RFC 9110 (14.2) allows.
pub(super) fn wanted(headers: &HeaderMap, etag: &str, len: u64) -> Wanted {
    let stale = headers.get(header::IF_RANGE).is_some_and(|known| known != etag);
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let range = range.and_then(|range| range.trim().strip_prefix("bytes=")).filter(|_| !stale);
    let Some((first, last)) = range.and_then(|range| range.split_once('-')) else {
        return Wanted::Whole;
    };
    match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last && first < len => {
            Wanted::Part(first, len.min(last.saturating_add(1)))
        }
        (Ok(first), Err(_)) if last.trim().is_empty() && first < len => Wanted::Part(first, len),
        (Ok(first), _)
            if first >= len && (last.trim().is_empty() || last.trim().parse::<u64>().is_ok()) =>
        {
            Wanted::Nothing
        }
        (Err(_), Ok(0)) if first.trim().is_empty() => Wanted::Nothing,
        (Err(_), Ok(count)) if first.trim().is_empty() && len > 0 => {
            Wanted::Part(len.saturating_sub(count), len)
        }
        _ => Wanted::Whole,
    }
}

/// The file's bytes from one place to another. The thread that reads ends with the body.
fn bytes_of(mut file: File, first: u64, end: u64, permit: OwnedSemaphorePermit) -> Body {
    let (pieces, body) = Pieces::new(PIECES);
    spawn_blocking(move || {
        let _permit = permit;
        let mut sending = || -> io::Result<()> {
            file.seek(SeekFrom::Start(first))?;
            let mut left = end - first;
            while left > 0 {
                let len = PIECE_BYTES.min(usize::try_from(left).unwrap_or(PIECE_BYTES));
                let mut piece = vec![0; len];
                file.read_exact(&mut piece)?;
                pieces.send(piece.into())?;
                left -= len as u64;
            }
            Ok(())
        };
        if sending().is_ok() {
            pieces.end();
        }
    });
    body
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_rfc_9110_has_them() {
        let asked = |range: &str, len| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, range.parse().unwrap());
            wanted(&headers, "\"etag\"", len)
        };
        assert_eq!(asked("bytes=0-0", 10), Wanted::Part(0, 1));
        assert_eq!(asked("bytes=3-", 10), Wanted::Part(3, 10));
        assert_eq!(asked("bytes=3-99", 10), Wanted::Part(3, 10));
        assert_eq!(asked("bytes=-4", 10), Wanted::Part(6, 10));
        assert_eq!(asked("bytes=-99", 10), Wanted::Part(0, 10));
        for beyond in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(asked(beyond, 10), Wanted::Nothing, "{beyond}");
        }
        for none in ["bytes=4-3", "bytes=1-2,4-5", "bytes=a-b", "lines=1-2", "bytes=", "bytes=-"] {
            assert_eq!(asked(none, 10), Wanted::Whole, "{none}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=1-2"));
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"another\""));
        assert_eq!(wanted(&headers, "\"etag\"", 10), Wanted::Whole);
    }
}
