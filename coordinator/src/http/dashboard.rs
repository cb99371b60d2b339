//! The dashboard's files, as they were built into this program, and what a browser may do with them.
//!
//! They tell nothing of the farm: what a page shows it asks the API for, as whoever has signed in
//! ([`super::sign_in`]).

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::{EmbeddedFile, RustEmbed};

use super::Problem;

/// Scripts, styles and pictures are the coordinator's own, in files; nobody may frame the page.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; media-src 'self'; connect-src 'self'; font-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// What else is served is data, whatever it looks like: people's files among it.
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
     <title>Grange</title><p>This coordinator was built without its dashboard: run \
     <code>cargo xtask web</code> in Grange's source, build the coordinator again and start it. \
     All the rest of it works.</p></html>\n";

/// In a debug build read from the disk whenever they are asked for.
#[derive(RustEmbed)]
#[folder = "web/dist/"]
#[allow_missing = true]
struct Files;

/// Files as they are sent, by name, for as long as they stay the same.
static PACKED: Mutex<Option<HashMap<String, Packed>>> = Mutex::new(None);

#[derive(Clone)]
struct Packed {
    hash: [u8; 32],
    gzip: Bytes,
}

/// The page, whatever it is about to show: that stands after the `#`.
pub(super) async fn page(headers: HeaderMap) -> Response {
    match Files::get("index.html") {
        Some(file) => send("index.html", file, &headers, "no-cache"),
        None => {
            let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
            (StatusCode::SERVICE_UNAVAILABLE, kind, NOT_BUILT).into_response()
        }
    }
}

/// What the page consists of. Names have hashes in them.
pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let name = format!("assets/{name}");
    match Files::get(&name) {
        Some(file) => send(&name, file, &headers, "public, max-age=31536000, immutable"),
        None => Problem::not_found(format!("the dashboard has no {name}: load it again"))
            .into_response(),
    }
}

/// What every answer says of itself to browsers.
pub(super) fn guard(is_page: bool, response: &mut Response) {
    let policy = if is_page { PAGE_POLICY } else { DATA_POLICY };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn send(name: &str, file: EmbeddedFile, headers: &HeaderMap, lifetime: &'static str) -> Response {
    let hash = file.metadata.sha256_hash();
    let etag: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let etag = format!("\"{etag}\"");
    let common = [
        (header::ETAG, HeaderValue::from_str(&etag).ok()),
        (header::CACHE_CONTROL, Some(HeaderValue::from_static(lifetime))),
        (header::VARY, Some(HeaderValue::from_static("accept-encoding"))),
    ];
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let mut response = if text(header::IF_NONE_MATCH).is_some_and(|known| known.contains(&etag)) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if text(header::ACCEPT_ENCODING).is_some_and(|known| known.contains("gzip"))
        && !name.ends_with(".woff2")
    {
        let encoding = [(header::CONTENT_ENCODING, "gzip"), (header::CONTENT_TYPE, kind(name))];
        (encoding, packed(name, hash, &file.data)).into_response()
    } else {
        ([(header::CONTENT_TYPE, kind(name))], whole(file.data)).into_response()
    };
    for (name, value) in common {
        if let Some(value) = value {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn whole(data: Cow<'static, [u8]>) -> Bytes {
    match data {
        Cow::Borrowed(data) => Bytes::from_static(data),
        Cow::Owned(data) => data.into(),
    }
}

fn packed(name: &str, hash: [u8; 32], data: &[u8]) -> Bytes {
    let mut known = PACKED.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    match known.get(name) {
        Some(packed) if packed.hash == hash => packed.gzip.clone(),
        _ => {
            let gzip = gzip(data);
            known.insert(name.into(), Packed { hash, gzip: gzip.clone() });
            gzip
        }
    }
}

fn gzip(data: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail.
    let _ = encoder.write_all(data);
    encoder.finish().unwrap_or_default().into()
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    }
}
