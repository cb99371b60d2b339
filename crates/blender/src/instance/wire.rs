//! The messages between the driver and the worker: a JSON object per line.
//!
//! The other side of this is `worker/link.py`. What comes from there is not trusted: a scene may
//! have taken the process over. So lines are bounded and every field is checked.

use grange_protocol::agent::{Failure, FailureKind};
use grange_protocol::job::Engine;
use grange_protocol::session::Raised;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::fault;
use super::order::{CallOrder, DeviceUsed, OpenOrder, Order, RenderOrder, device_id};
use super::stats::Stats;
use crate::truths;

/// Bytes of one message from the worker.
pub(crate) const LINE_MAX: usize = 4 << 20;
const WARNINGS_MAX: usize = 64;
const WARNING_MAX: usize = 2000;

#[derive(Debug, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum ToWorker<'a> {
    Open {
        path: &'a str,
        allow_missing: bool,
    },
    Render {
        id: u64,
        scene: Option<&'a str>,
        view_layer: Option<&'a str>,
        camera: Option<&'a str>,
        frame: i32,
        resolution: Option<(u32, u32)>,
        samples: Option<u32>,
        pattern: &'a str,
        numbered: bool,
        scratch: &'a str,
        device: &'static str,
        device_pci: Option<&'a str>,
        threads: Option<u16>,
        tiles: Option<bool>,
        persistent_data: Option<bool>,
        fine_progress: bool,
        allow_no_denoiser: bool,
        session: Option<ForSession<'a>>,
    },
    Call {
        id: u64,
        op: &'a str,
        args: &'a serde_json::Value,
        scratch: &'a str,
        device: &'static str,
        device_pci: Option<&'a str>,
    },
    Cancel {
        id: u64,
    },
    Probe {
        engine: &'a str,
        into: &'a str,
    },
    Ping,
    Quit,
}

#[derive(Debug, Serialize)]
struct ForSession<'a> {
    number: &'a str,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum FromWorker {
    Hello(Hello),
    Opened {
        seconds: f32,
        warnings: Vec<String>,
    },
    NotOpened {
        fault: FailureKind,
        reason: String,
    },
    Began {
        id: u64,
        passes: u32,
    },
    Stats {
        id: u64,
        text: String,
    },
    Rendered(Answer),
    Failed {
        id: u64,
        fault: Option<FailureKind>,
        reason: String,
    },
    Canceled {
        id: u64,
    },
    CannotCancel {
        id: u64,
    },
    Returned {
        id: u64,
        value: serde_json::Value,
        #[serde(default)]
        warnings: Vec<String>,
    },
    Raised(RaisedBy),
    Probed {
        error: Option<String>,
    },
    Pong,
}

/// An exception, and the call that raised it.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct RaisedBy {
    pub(crate) id: u64,
    #[serde(flatten)]
    pub(crate) raised: Raised,
}

/// A render that went well, in the worker's words.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Answer {
    pub(crate) id: u64,
    pub(crate) seconds: f32,
    pub(crate) peak_mib: u32,
    pub(crate) warnings: Vec<String>,
    /// Of the picture, in pixels.
    #[serde(default)]
    pub(crate) width: u32,
    #[serde(default)]
    pub(crate) height: u32,
    #[serde(default)]
    pub(crate) device: Option<DeviceUsed>,
    #[serde(default)]
    pub(crate) data: serde_json::Value,
}

/// What a Blender says of itself when it has started.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Hello {
    /// Major, minor, patch.
    pub version: (u16, u16, u16),
    /// As Blender says it: `4.2.23 LTS`.
    pub full_version: String,
    /// Ids of engines that a scene may name; whether they can render here is another question.
    pub engines: Vec<String>,
    /// What Cycles can compute on, CPU included.
    pub devices: Vec<CyclesDevice>,
    /// Whether OpenImageDenoise is built in.
    pub denoiser: bool,
    /// Whether a render can be stopped without killing the process.
    pub can_stop: bool,
    /// Whether progress comes over the socket; otherwise it is read from standard output.
    pub(crate) stats: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct CyclesDevice {
    /// `CPU`, `CUDA`, `OPTIX`, `HIP`, `ONEAPI`, `METAL`.
    pub kind: String,
    pub name: String,
    pub id: String,
}

impl Hello {
    /// Of a Blender that is none.
    pub(super) fn of(version: &str) -> Self {
        let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Self {
            version: (next(), next(), next()),
            full_version: version.into(),
            engines: Vec::new(),
            devices: Vec::new(),
            denoiser: false,
            can_stop: true,
            stats: true,
        }
    }
}

impl FromWorker {
    pub(crate) fn parse(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }
}

/// Reads a line as the driver would, down to the words in it that have a meaning of their own, and says
/// whether it is a message of a worker's. For tests that feed it damaged lines: the driver hears of
/// them from a process.
pub fn examine(line: &[u8]) -> bool {
    let examine_text = |text: &str| Stats::parse(text).and_then(|stats| stats.fraction());
    let _ = examine_text(&String::from_utf8_lossy(line));
    let Ok(message) = FromWorker::parse(line) else { return false };
    match message {
        FromWorker::Stats { text, .. } => {
            let _ = examine_text(&text);
        }
        FromWorker::Failed { fault, reason, .. } => drop(failure(fault, &reason)),
        FromWorker::Opened { warnings, .. } | FromWorker::Returned { warnings, .. } => {
            drop(bounded(warnings));
        }
        FromWorker::Rendered(mut answer) => {
            drop(bounded(answer.warnings));
            let folder = "front_files".parse().ok();
            let _ = truths::told(&mut answer.data, folder.as_ref());
        }
        _ => {}
    }
    true
}

/// A worker's own judgement, or Blender's words judged here.
pub(crate) fn failure(fault: Option<FailureKind>, reason: &str) -> Failure {
    match fault {
        Some(kind) => Failure::new(kind, reason),
        None => fault::judged(reason),
    }
}

pub(crate) fn bounded(warnings: Vec<String>) -> Vec<String> {
    let clip = |mut text: String| {
        text.truncate(text.floor_char_boundary(WARNING_MAX));
        text
    };
    warnings.into_iter().take(WARNINGS_MAX).map(clip).collect()
}

/// The order as a line; an error if it names a path that is not UTF-8.
pub(crate) fn encode(order: &Order) -> Result<Vec<u8>, Failure> {
    let message = match order {
        Order::Open(OpenOrder { path, allow_missing }) => {
            ToWorker::Open { path: utf8(path)?, allow_missing: *allow_missing }
        }
        Order::Render(render) => encode_render(render)?,
        Order::Call(call) => {
            let CallOrder { id, operation, arguments, device, device_pci, scratch } = &**call;
            ToWorker::Call {
                id: id.0,
                op: operation,
                args: arguments,
                scratch: utf8(scratch)?,
                device: device_id(*device),
                device_pci: device_pci.as_deref(),
            }
        }
        Order::Cancel(id) => ToWorker::Cancel { id: id.0 },
        Order::Probe(engine, into) => {
            ToWorker::Probe { engine: engine_id(engine), into: utf8(into)? }
        }
        Order::Ping => ToWorker::Ping,
        Order::Quit => ToWorker::Quit,
    };
    let mut line = serde_json::to_vec(&message)
        .map_err(|error| Failure::new(FailureKind::Other, error.to_string()))?;
    line.push(b'\n');
    Ok(line)
}

fn encode_render(order: &RenderOrder) -> Result<ToWorker<'_>, Failure> {
    let shot = &order.shot;
    Ok(ToWorker::Render {
        id: order.id.0,
        scene: shot.scene.as_ref().map(|name| name.as_str()),
        view_layer: shot.view_layer.as_ref().map(|name| name.as_str()),
        camera: shot.camera.as_ref().map(|name| name.as_str()),
        frame: order.frame,
        resolution: shot.resolution.map(|size| (size.width, size.height)),
        samples: shot.samples,
        pattern: shot.output.as_str(),
        numbered: shot.output.is_numbered(),
        scratch: utf8(&order.scratch)?,
        device: order.compute_type(),
        device_pci: order.device_pci.as_deref(),
        threads: order.threads,
        tiles: order.settings.tiles,
        persistent_data: order.settings.persistent_data,
        fine_progress: order.settings.fine_progress,
        allow_no_denoiser: order.settings.allow_no_denoiser,
        session: order.session.as_ref().map(|frame| ForSession { number: &frame.number }),
    })
}

/// The worker finds the id that this Blender has for the engine.
fn engine_id(engine: &Engine) -> &str {
    match engine {
        Engine::Cycles => "CYCLES",
        Engine::Eevee => "BLENDER_EEVEE",
        Engine::Workbench => "BLENDER_WORKBENCH",
        Engine::Other(id) => id.as_str(),
    }
}

fn utf8(path: &std::path::Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| {
        let reason = format!("Blender cannot be given `{}`: it is not UTF-8", path.display());
        Failure::new(FailureKind::Host, reason)
    })
}

/// Reads lines of bounded length.
#[derive(Debug)]
pub(crate) struct LineReader<R> {
    stream: R,
    buffer: Vec<u8>,
    /// Bytes at the buffer's start that hold no end of a line.
    searched: usize,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum BadLine {
    #[error("the worker sent a message of more than {LINE_MAX} bytes")]
    TooLong,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, buffer: Vec::new(), searched: 0 }
    }

    /// The next line without its end; `None` at the end of the stream, where a line that has no
    /// end is dropped. Nothing is lost if the future is dropped.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, BadLine> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                line.pop();
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.searched > LINE_MAX {
                return Err(BadLine::TooLong);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::RenderId;
    use grange_protocol::agent::DeviceKind;
    use grange_protocol::frames::FrameSet;
    use grange_protocol::shot::Resolution;

    #[test]
    fn an_order_is_a_line_that_the_worker_knows() {
        let order = Order::Render(Box::new(RenderOrder {
            id: RenderId(7),
            shot: grange_protocol::Shot {
                name: "front".parse().unwrap(),
                scene: None,
                view_layer: Some("Clay".parse().unwrap()),
                camera: Some("Kamera \"Süd\"".parse().unwrap()),
                frames: FrameSet::single(1),
                resolution: Some(Resolution { width: 64, height: 36 }),
                samples: None,
                output: "front_####".parse().unwrap(),
                extras: None,
            },
            frame: -3,
            settings: Default::default(),
            device: DeviceKind::Cuda,
            device_pci: Some("0000:01:00".into()),
            threads: Some(3),
            session: None,
            scratch: "/tmp/s".into(),
        }));
        let line = String::from_utf8(encode(&order).unwrap()).unwrap();
        insta::assert_snapshot!(line.trim_end(), @r#"{"do":"render","id":7,"scene":null,"view_layer":"Clay","camera":"Kamera \"Süd\"","frame":-3,"resolution":[64,36],"samples":null,"pattern":"front_####","numbered":true,"scratch":"/tmp/s","device":"CUDA","device_pci":"0000:01:00","threads":3,"tiles":null,"persistent_data":null,"fine_progress":false,"allow_no_denoiser":false,"session":null}"#);
        assert_eq!(encode(&Order::Ping).unwrap(), b"{\"do\":\"ping\"}\n");
    }

    #[test]
    fn answers_are_read_and_others_refused() {
        let parse = |text: &str| FromWorker::parse(text.as_bytes());
        assert_eq!(
            parse(r#"{"is":"failed","id":3,"fault":null,"reason":"Error: x"}"#).unwrap(),
            FromWorker::Failed { id: 3, fault: None, reason: "Error: x".into() }
        );
        assert_eq!(
            parse(r#"{"is":"not_opened","fault":"scene","reason":"r"}"#).unwrap(),
            FromWorker::NotOpened { fault: FailureKind::Scene, reason: "r".into() }
        );
        assert!(parse(r#"{"is":"rendered","id":-1}"#).is_err());
        // Workers may say more of a render, or less.
        let rendered = |more: &str| {
            let least = r#""is":"rendered","id":3,"seconds":1.5,"peak_mib":10,"warnings":[]"#;
            parse(&format!("{{{least}{more}}}")).unwrap()
        };
        let answer = |(width, height), device| {
            let warnings = vec![];
            let (id, seconds, peak_mib) = (3, 1.5, 10);
            let data = serde_json::Value::Null;
            let of = Answer { id, seconds, peak_mib, warnings, width, height, device, data };
            FromWorker::Rendered(of)
        };
        assert_eq!(rendered(""), answer((0, 0), None));
        assert_eq!(rendered(r#","device":null,"new":1"#), answer((0, 0), None));
        let used = DeviceUsed { kind: "CUDA".into(), ids: vec!["CUDA_x_0000:01:00".into()] };
        let more =
            r#","width":64,"height":36,"device":{"kind":"CUDA","ids":["CUDA_x_0000:01:00"]}"#;
        assert_eq!(rendered(more), answer((64, 36), Some(used)));
        assert!(parse("[]").is_err());
    }

    #[tokio::test]
    async fn lines_are_whole_whatever_the_chunks_and_never_too_long() {
        let (mut worker, driver) = tokio::io::duplex(16);
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            for chunk in [&b"one\ntw"[..], b"o\n", b"\nfour\nrest"] {
                worker.write_all(chunk).await.unwrap();
            }
        });
        let mut reader = LineReader::new(driver);
        let mut lines = Vec::new();
        while let Some(line) = reader.next().await.unwrap() {
            lines.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(lines, ["one", "two", "", "four"]);

        let flood = vec![b'x'; LINE_MAX * 2];
        let mut reader = LineReader::new(&flood[..]);
        assert!(matches!(reader.next().await, Err(BadLine::TooLong)));
    }
}
