//! Requests to the HTTP API: a first line, headers and a body, as in HTTP/1.1, without what only a
//! connection needs. A body up to the job that the scheduler would be asked for.

use axum::body::Bytes;
use axum::http::Request;
use grange_coordinator::http::outside;

use crate::Target;

pub(super) const REQUEST: Target = Target {
    name: "request",
    len_max: 4 << 10,
    memory: |input| (4 << 20) + 128 * input.len(),
    seeds,
    read: |input| {
        let Some((request, body)) = parsed(input) else { return };
        let (parts, ()) = request.into_parts();
        if let Err(status) = outside::read(&parts, body) {
            assert!(status.is_client_error(), "{status} says that it is the coordinator's fault");
        }
    },
};

/// `None` if there is no request in it that would reach a route.
fn parsed(input: &[u8]) -> Option<(Request<()>, Bytes)> {
    let (head, body) = match input.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&input[..at], &input[at + 2..]),
        None => (input, &[][..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut words = lines.next()?.splitn(2, |byte| *byte == b' ');
    let mut request = Request::builder().method(words.next()?).uri(words.next()?);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
    }
    let request = request.body(()).ok()?;
    Some((request, Bytes::copy_from_slice(body)))
}

fn seeds() -> Vec<Vec<u8>> {
    let hash = "ab".repeat(32);
    let needs = r#"{"saved_by":{"major":4,"minor":2},"engines":["cycles",{"other":"MITSUBA"}]}"#;
    let shot = |name: &str| {
        format!(
            r#"{{"name":"{name}","scene":"Scene","camera":null,"frames":[{{"first":1,"last":9,"step":2}}],"resolution":{{"width":64,"height":36}},"samples":4,"output":"{name}_####","extras":"extra"}}"#
        )
    };
    let render = format!(
        r#""blend":"/home/ada/shot.blend","needs":{needs},"settings":{{"device":"cuda","tiles":true}},"chunk":2"#
    );
    let submission = |kind: &str| {
        format!(
            r#"{{"name":"a","priority":50,"policy":{{"attempts_max":3}},"manifest":"{hash}","queue_anyway":true,"kind":{kind}}}"#
        )
    };
    let preview = r#"{"fps":{"fps":24,"base":1.001},"output":"preview.mp4"}"#;
    let animation =
        format!(r#"{{"animation":{{{render},"shot":{},"preview":{preview}}}}}"#, shot(""));
    let shots = format!(r#"{{"shots":{{{render},"shots":[{},{}]}}}}"#, shot("front"), shot("b"));
    let session = format!(
        r#"{{"name":"a","manifest":"{hash}","blend":"/a.blend","needs":{needs},"idle_s":60}}"#
    );
    let scene = format!(
        r#"{{"path":"/a.blend","files":{{"/a.blend":{{"blob":"{hash}","len":1}},"/b.blend":null}},"folders":{{"/":{{"files":["a.blend"],"folders":["t"]}},"/t":null}}}}"#
    );
    let call = r#"{"call":1,"do":"render_frame","args":{"frame":3,"to":[1.5,null,"x"]}}"#;
    let connect = format!(
        r#"{{"token":"grange+https://30313233343536373839616263646566@farm.local:4747?ca={hash}"}}"#
    );
    let manifest = format!(r#"[{{"path":"/a.blend","blob":"{hash}","len":7}}]"#);
    let bodies = [
        ("POST /api/v1/jobs", submission(r#"{"noop":{"tasks":3,"millis":1}}"#)),
        ("POST /api/v1/jobs", submission(&animation)),
        ("POST /api/v1/jobs", submission(&shots)),
        ("PUT /api/v1/jobs/1/priority", r#"{"priority":90}"#.into()),
        ("POST /api/v1/sessions", session),
        ("POST /api/v1/sessions/alive", r#"{"sessions":[1,2]}"#.into()),
        ("POST /api/v1/sessions/1/calls", call.into()),
        ("POST /api/v1/scenes", scene),
        ("POST /api/v1/manifests", manifest),
        ("POST /api/v1/blobs/missing", format!(r#"{{"hashes":["{hash}"]}}"#)),
        ("POST /api/v1/tokens", r#"{"name":"ada","role":"submitter","ttl_s":60}"#.into()),
        ("POST /api/v1/join-tokens", r#"{"role":"agent","ttl_s":60}"#.into()),
        ("POST /session", connect),
        ("POST /session", r#"{"link":"30313233343536373839616263646566"}"#.into()),
    ];
    let json = "Content-Type: application/json\nIdempotency-Key: k";
    let bodies = bodies.map(|(line, body)| format!("{line}\n{json}\n\n{body}"));
    let heads = [
        "GET /api/v1/jobs?limit=2&cursor=7",
        "GET /api/v1/jobs/1/tasks?limit=2&cursor=0.12",
        "GET /api/v1/jobs/1/logs?step=0&task=3&failed=true&cursor=9",
        "GET /api/v1/jobs/1/outputs?step=0&limit=3&cursor=9",
        "GET /api/v1/jobs/1/outputs/depth/0001.exr\nRange: bytes=0-99\nIf-Range: \"etag\"",
        "GET /api/v1/events?outputs=true",
        "GET /api/v1/jobs/1/events?outputs_after=3\nLast-Event-ID: 12",
        "GET /\nHost: [::1]:4747\nOrigin: https://[::1]:4747\nSec-Fetch-Site: same-origin\n\
         Cookie: a=b; __Host-grange-000000000000=30313233343536373839616263646566",
        "DELETE https://farm.local:4747/session\nContent-Length: 12\nRange: bytes=-5\n\
         Authorization: Bearer 30313233343536373839616263646566",
    ];
    let blob = format!("GET /api/v1/blobs/{hash}\nRange: bytes=5-");
    let heads = heads.map(String::from).into_iter().chain([blob]);
    bodies.into_iter().chain(heads).map(String::into_bytes).collect()
}
