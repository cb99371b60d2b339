//! A stand-in for Blender that speaks the worker's protocol and does what its scene says, for load
//! and faults: it never renders anything. An agent runs it only if a test's configuration names it.
//!
//! Its scenes are TOML, see [`Scene`]. Its own file name may say more: one with `crashing` in it
//! crashes at every render, whatever the scene says, and one with `slow` in it takes ten times as
//! long. It may be given a GPU that does not exist
//! either, see [`card`].
#![expect(clippy::print_stdout, reason = "what a Blender prints is part of what it fakes")]

mod card;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use card::{Card, Refusal, Sharing};

/// What a scene costs and how it goes wrong. Frames are those of the scene; milliseconds, MiB.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Scene {
    load_ms: u64,
    frame_ms: u64,
    samples: u32,
    /// Of the animation, as a session is told.
    frames: i32,
    /// Of the GPU, if there is one, else RAM.
    memory_mib: usize,
    /// The same while Cycles is told to keep its data between frames.
    kept_memory_mib: Option<usize>,
    /// RAM that it takes besides, if there is a GPU.
    ram_mib: usize,
    /// Of `frame_ms`, what needs a GPU for itself, from 0 to 1.
    gpu_share: f64,
    /// What each further instance on the same GPU costs all of them, of the time on the GPU.
    switch_cost: f64,
    /// The process is killed by SIGSEGV in the middle of the frame.
    crash: Vec<i32>,
    /// The frame goes on for ever, without a sign.
    hang: Vec<i32>,
    /// The render fails with Blender's words for a GPU that is out of memory.
    out_of_memory: Vec<i32>,
    /// The render fails, as a missing camera does: on every host alike.
    fail: Vec<i32>,
    /// The picture ends in the middle.
    truncate: Vec<i32>,
    /// These only happen to the first render of a process.
    only_first: bool,
    /// What the frame writes besides its picture: name → bytes.
    extras: BTreeMap<String, usize>,
    /// Bytes of noise in the picture.
    width: u32,
    height: u32,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            load_ms: 0,
            frame_ms: 10,
            samples: 4,
            frames: 4,
            memory_mib: 1,
            kept_memory_mib: None,
            ram_mib: 1,
            gpu_share: 1.0,
            switch_cost: 0.02,
            crash: Vec::new(),
            hang: Vec::new(),
            out_of_memory: Vec::new(),
            fail: Vec::new(),
            truncate: Vec::new(),
            only_first: false,
            extras: BTreeMap::new(),
            width: 8,
            height: 8,
        }
    }
}

impl Scene {
    fn sharing(&self) -> Sharing {
        Sharing { gpu_share: self.gpu_share, switch_cost: self.switch_cost }
    }

    fn memory_mib(&self, kept: bool) -> usize {
        self.kept_memory_mib.filter(|_| kept).unwrap_or(self.memory_mib)
    }
}

/// Of a GPU's memory, what CUDA takes for itself and Cycles does not count.
const CONTEXT_MIB: usize = 300;

/// A camera in the middle of the world, for sessions.
const STILL: [[u8; 4]; 4] = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]];

/// How a frame ends.
enum Ending {
    Rendered,
    Failed(&'static str, String),
    Canceled,
}

struct Fake {
    socket: UnixStream,
    scene: Scene,
    card: Option<Card>,
    /// Keeps RAM taken.
    memory: Vec<u8>,
    /// What Cycles says that it has, in MiB.
    cycles_mib: usize,
    renders: u64,
    /// The render that was canceled last.
    canceled: Arc<AtomicU64>,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|arg| arg == "--version") {
        println!("Blender 4.2.0");
        return;
    }
    let socket = &args[args.len() - 2];
    let socket = UnixStream::connect(socket).expect("the driver listens");
    let mut fake = Fake {
        socket,
        scene: Scene::default(),
        card: Card::of_environment(),
        memory: Vec::new(),
        cycles_mib: 1,
        renders: 0,
        canceled: Arc::default(),
    };
    let cpu = json!({"kind": "CPU", "name": "fake", "id": "CPU"});
    let devices: Vec<Value> =
        [cpu].into_iter().chain(fake.card.iter().map(|card| card.told().clone())).collect();
    fake.say(&json!({
        "is": "hello", "version": [4, 2, 0], "full_version": "4.2.0 (fake)",
        "engines": ["CYCLES"], "devices": devices,
        "denoiser": true, "can_stop": true, "stats": true,
    }));
    for order in fake.listen() {
        match order["do"].as_str() {
            Some("open") => fake.open(&order),
            Some("render") => fake.render(&order),
            Some("call") => fake.call(&order),
            Some("probe") => fake.probe(&order),
            Some("ping") => fake.say(&json!({"is": "pong"})),
            Some("quit") => return,
            _ => {}
        }
    }
}

impl Fake {
    /// Orders, as they come; cancellations take effect at once.
    fn listen(&self) -> mpsc::Receiver<Value> {
        let (sender, orders) = mpsc::channel();
        let lines = BufReader::new(self.socket.try_clone().expect("a socket can be cloned"));
        let canceled = self.canceled.clone();
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let order: Value = serde_json::from_str(&line).expect("the driver writes JSON");
                match order["do"].as_str() {
                    Some("cancel") => {
                        canceled.store(order["id"].as_u64().unwrap_or(0), Ordering::Relaxed)
                    }
                    _ => drop(sender.send(order)),
                }
            }
            // The end of the socket ends the process, as it does the worker.
            std::process::exit(0);
        });
        orders
    }

    fn say(&mut self, message: &Value) {
        let line = format!("{message}\n");
        if self.socket.write_all(line.as_bytes()).is_err() {
            std::process::exit(0);
        }
    }

    fn open(&mut self, order: &Value) {
        let path = order["path"].as_str().unwrap_or_default();
        let read = std::fs::read_to_string(path).map_err(|error| error.to_string());
        match read
            .and_then(|text| toml::from_str::<Scene>(&text).map_err(|error| error.to_string()))
        {
            Ok(scene) => {
                sleep(scene.load_ms);
                self.scene = scene;
                println!("Read blend: {path}");
                match self.take_memory(false) {
                    Ok(()) => self.say(&json!({"is": "opened", "seconds": 0.01, "warnings": []})),
                    Err(refusal) => self.not_opened(refusal.fault, &refusal.reason),
                }
            }
            Err(error) => {
                self.not_opened("scene", &format!("{path} is not a scene of the fake: {error}"));
            }
        }
    }

    fn not_opened(&mut self, fault: &str, reason: &str) {
        self.say(&json!({"is": "not_opened", "fault": fault, "reason": reason}));
    }

    /// Takes what the scene needs instead of what was taken before.
    fn take_memory(&mut self, kept: bool) -> Result<(), Refusal> {
        let mib = self.scene.memory_mib(kept);
        let ram_mib = match &self.card {
            Some(card) => {
                card.allocate(mib as u64)?;
                self.cycles_mib = mib.saturating_sub(CONTEXT_MIB).max(1);
                self.scene.ram_mib
            }
            None => mib,
        };
        if self.memory.len() != ram_mib << 20 {
            self.memory = Vec::new();
            // Written to, so that it is really there.
            self.memory = vec![1; ram_mib << 20];
        }
        Ok(())
    }

    /// Operations of a session that a test may want.
    fn call(&mut self, order: &Value) {
        let (id, args) = (&order["id"], &order["args"]);
        let value = match order["op"].as_str() {
            Some("ping" | "reset") => Value::Null,
            Some("animation_range") => json!([1, self.scene.frames + 1, 1]),
            Some("camera_info") => json!({ "w": self.scene.width, "h": self.scene.height }),
            Some("frame_files") => {
                let number = args["number"].as_str().unwrap_or_default();
                json!({ "file_path": format!("frames/frame_{number}.png") })
            }
            Some("poses") => {
                let frames = args["frames"].as_array().map_or(0, Vec::len);
                json!(vec![STILL; frames])
            }
            Some("echo") => args.clone(),
            Some("sleep") => {
                sleep(args["ms"].as_u64().unwrap_or(0));
                args["ms"].clone()
            }
            Some("write") => {
                let scratch = Path::new(order["scratch"].as_str().unwrap_or_default());
                write_png(&scratch.join("written.png"), 8, 8, 1);
                json!("written.png")
            }
            Some("crash") => crash(),
            other => {
                let message = format!("there is no operation {other:?}");
                return self.say(&json!({
                    "is": "raised", "id": id,
                    "kind": "AttributeError", "message": message, "traceback": "in the fake",
                }));
            }
        };
        self.say(&json!({"is": "returned", "id": id, "value": value}));
    }

    fn render(&mut self, order: &Value) {
        self.renders += 1;
        let id = order["id"].as_u64().unwrap_or(0);
        let frame = order["frame"].as_i64().unwrap_or(0) as i32;
        println!("Fra:{frame} Mem:1.00M (Peak 1.00M) | rendering");
        self.say(&json!({"is": "began", "id": id, "passes": 1}));
        let began = Instant::now();
        let kept = order["persistent_data"] == true;
        let ending = match self.take_memory(kept) {
            Ok(()) => self.frame_on_card(id, frame),
            Err(refusal) => Ending::Failed(refusal.fault, refusal.reason),
        };
        match ending {
            Ending::Rendered => {
                let seconds = began.elapsed().as_secs_f64();
                self.write(order, frame);
                let peak = self.memory.len() >> 20;
                self.say(&json!({
                    "is": "rendered", "id": id, "seconds": seconds,
                    "peak_mib": peak, "warnings": [],
                    "data": { "transform_matrix": STILL },
                }));
            }
            Ending::Failed(fault, reason) => {
                self.say(&json!({"is": "failed", "id": id, "fault": fault, "reason": reason}));
            }
            Ending::Canceled => self.say(&json!({"is": "canceled", "id": id})),
        }
    }

    /// A frame, while the GPU knows of it.
    fn frame_on_card(&mut self, id: u64, frame: i32) -> Ending {
        let set_rendering = |fake: &Self, rendering| {
            if let Some(card) = &fake.card {
                card.set_rendering(rendering);
            }
        };
        set_rendering(self, true);
        let ending = self.frame(id, frame);
        set_rendering(self, false);
        ending
    }

    /// Goes through the samples.
    fn frame(&mut self, id: u64, frame: i32) -> Ending {
        let samples = self.scene.samples.max(1);
        for sample in 1..=samples {
            self.work(self.scene.frame_ms / u64::from(samples));
            if self.canceled.load(Ordering::Relaxed) == id {
                return Ending::Canceled;
            }
            let mib = self.cycles_mib;
            let text = format!(
                "Fra:{frame} Mem:1.00M (Peak 1.00M) | Time:00:00.10 | Mem:{mib}.00M, Peak:{mib}.00M | Scene | Sample {sample}/{samples}"
            );
            self.say(&json!({"is": "stats", "id": id, "text": text}));
            if sample == samples.div_ceil(2)
                && let Some(ending) = self.trouble(frame)
            {
                return ending;
            }
        }
        Ending::Rendered
    }

    fn work(&self, alone_ms: u64) {
        let alone_ms = if is_called("slow") { 10 * alone_ms } else { alone_ms };
        match &self.card {
            Some(card) => card.work(alone_ms, self.scene.sharing()),
            None => sleep(alone_ms),
        }
    }

    fn trouble(&self, frame: i32) -> Option<Ending> {
        let due = |frames: &[i32]| {
            frames.contains(&frame) && (!self.scene.only_first || self.renders == 1)
        };
        if is_called("crashing") || due(&self.scene.crash) {
            println!("Writing: /tmp/fake.crash.txt");
            crash();
        }
        if due(&self.scene.hang) {
            loop {
                sleep(1_000);
            }
        }
        if due(&self.scene.out_of_memory) {
            return Some(Ending::Failed("out_of_memory", "System is out of GPU memory".into()));
        }
        due(&self.scene.fail).then(|| Ending::Failed("scene", "Cannot render, no camera".into()))
    }

    /// Writes the picture where Blender would, and the extras.
    fn write(&self, order: &Value, frame: i32) {
        let scratch = Path::new(order["scratch"].as_str().unwrap_or_default());
        let pattern: grange_protocol::shot::OutputPattern =
            order["pattern"].as_str().unwrap_or_default().parse().expect("a good pattern");
        let picture = scratch.join("main").join(format!("{}.png", pattern.expand(frame)));
        write_png(&picture, self.scene.width, self.scene.height, frame);
        if self.scene.truncate.contains(&frame) {
            let whole = std::fs::read(&picture).expect("it was just written");
            std::fs::write(&picture, &whole[..whole.len() / 2]).expect("it can be written again");
        }
        for (name, len) in &self.scene.extras {
            let path = scratch.join("extra").join(name);
            std::fs::create_dir_all(path.parent().expect("a name has a parent")).expect("scratch");
            std::fs::write(path, vec![frame as u8; *len]).expect("scratch can be written to");
        }
    }

    fn probe(&mut self, order: &Value) {
        let into = order["into"].as_str().unwrap_or_default();
        let error = if order["engine"] == "CYCLES" {
            write_png(Path::new(into), 8, 8, 0);
            None
        } else {
            Some("the fake has only Cycles")
        };
        self.say(&json!({"is": "probed", "error": error}));
    }
}

/// Whether the name of this program's file says so.
fn is_called(what: &str) -> bool {
    let program = std::env::current_exe().unwrap_or_default();
    program.file_name().is_some_and(|name| name.to_string_lossy().contains(what))
}

fn write_png(path: &Path, width: u32, height: u32, seed: i32) {
    let _ = std::fs::create_dir_all(path.parent().expect("a picture has a parent"));
    // As Blender does on a full disk: what there is room for, and not a word.
    let _ = std::fs::write(path, grange_tests::noise::png(width, height, seed));
}

/// Dies as a program does that reads where it must not.
fn crash() -> ! {
    let pid = std::process::id().to_string();
    // Rust's own handler takes the first one, and puts the default one back.
    for _ in 0..2 {
        let _ = std::process::Command::new("kill").args(["-SEGV", &pid]).status();
    }
    sleep(10_000);
    std::process::abort()
}

fn sleep(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}
