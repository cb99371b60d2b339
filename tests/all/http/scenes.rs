//! Scenes read by the coordinator for a client that has nothing but HTTP and its own disk.

use std::collections::BTreeMap;
use std::path::Path;

use grange_blender::file::BlendFile;
use grange_client::Package;
use grange_protocol::{BlobHash, codec};
use serde_json::{Map, Value, json};

use crate::blend_files;
use crate::support::farm::Farm;
use crate::support::http::{Answer, Http};
use crate::support::scenes::scenes;

/// A client that cannot read .blend files.
struct Client<'a> {
    http: &'a Http,
    blend: String,
    files: Map<String, Value>,
    folders: Map<String, Value>,
    rounds: usize,
}

impl<'a> Client<'a> {
    fn of(http: &'a Http, blend: &Path) -> Self {
        let blend = text(blend);
        let files = Map::from_iter([(blend.clone(), sent(http, Path::new(&blend)))]);
        Self { http, blend, files, folders: Map::new(), rounds: 0 }
    }

    fn ask(&mut self) -> Answer {
        self.rounds += 1;
        let told = json!({ "path": self.blend, "files": self.files, "folders": self.folders });
        self.http.ask("POST", "/api/v1/scenes", &told)
    }

    /// Answers all questions, with what `list` says of each folder. Returns the scene.
    fn read(&mut self, list: impl Fn(&Path) -> Value) -> Value {
        loop {
            let mut answer = self.ask().json(200);
            if let Some(scene) = answer.get_mut("scene") {
                return scene.take();
            }
            let asked = |kind: &str| -> Vec<String> {
                serde_json::from_value(answer["more"][kind].clone()).expect("a list")
            };
            let (libraries, folders) = (asked("libraries"), asked("folders"));
            for library in libraries.iter().map(Path::new).filter(|library| library.is_file()) {
                let before = self.files.insert(text(library), sent(self.http, library));
                assert_eq!(before, None, "asked twice");
            }
            for folder in folders {
                let listed = list(Path::new(&folder));
                assert_eq!(self.folders.insert(folder, listed), None, "asked twice");
            }
            assert!(self.rounds < 20, "the questions have no end");
        }
    }
}

/// A file on its way, and as a manifest has it.
fn sent(http: &Http, path: &Path) -> Value {
    let bytes = std::fs::read(path).expect("a file");
    let blob = http.send("POST", "/api/v1/blobs", &[], bytes).json(201);
    json!({ "blob": blob["hash"], "len": blob["len"] })
}

fn listed(folder: &Path) -> Value {
    let Ok(entries) = folder.read_dir() else { return Value::Null };
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in entries.map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_file() { &mut files } else { &mut folders }.push(name);
    }
    json!({ "files": files, "folders": folders })
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").into()
}

#[test]
fn a_client_brings_a_scene_without_reading_it() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let (shots, _folder) = blend_files::shots();
    let mut rounds = Vec::new();
    for shot in &shots {
        let mut client = Client::of(&http, shot);
        let scene = client.read(listed);
        rounds.push(client.rounds);

        let file = BlendFile::open(shot).unwrap();
        let trace = file.trace();
        let files: Vec<String> = trace.files.iter().map(|file| text(&file.path)).collect();
        assert_eq!(scene["files"], json!(files));
        let missing = |missing: &grange_blender::file::MissingFile| {
            json!({
                "path": missing.path, "kind": missing.kind, "used_by": missing.used_by,
                "problem": missing.to_string(),
            })
        };
        let missing: Vec<Value> = trace.missing.iter().map(missing).collect();
        assert_eq!(scene["missing"], json!(missing));

        let sent = |path: &String| {
            let known = client.files.get(path).cloned();
            let mut entry = known.unwrap_or_else(|| sent(&http, Path::new(path)));
            entry["path"] = json!(path);
            entry
        };
        let entries: Vec<Value> = files.iter().map(sent).collect();
        let manifest = http.ask("POST", "/api/v1/manifests", &json!(entries)).json(200);
        let package = Package::of(&file, |_, _| {}).unwrap();
        let same = BlobHash::of(&codec::encode(&package.manifest).unwrap());
        assert_eq!(manifest["hash"], json!(same), "who reads the scene itself sends the same");
        let active = &scene["summary"]["scenes"][0];
        let frames = json!([{ "first": 1, "last": active["frame_end"], "step": 1 }]);
        let job = json!({
            "name": "shot", "manifest": manifest["hash"], "queue_anyway": true,
            "kind": { "animation": {
                "blend": scene["blend"], "needs": scene["needs"],
                "shot": { "frames": frames, "output": active["output"] },
            } },
        });
        http.ask("POST", "/api/v1/jobs", &job).json(201);
    }
    // A library in a library takes a round more, and so does a folder in a cache's folder.
    assert_eq!(rounds, [4, 2, 2], "rounds of questions");
}

#[test]
fn what_a_scene_is_like() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let blend = scenes().join("turn.blend");
    let scene = Client::of(&http, &blend).read(listed);
    let needs = json!({
        "saved_by": { "major": 3, "minor": 4 }, "engines": ["cycles"], "denoiser": false,
    });
    assert_eq!(
        scene,
        json!({
            "blend": blend, "files": [blend], "missing": [], "needs": needs,
            "summary": {
                "active": "Scene",
                "saved_by": { "major": 3, "minor": 4 },
                "scenes": [{
                    "name": "Scene", "engine": "cycles", "needs": needs,
                    "frame_start": 1, "frame_end": 4, "frame_step": 1, "frame_current": 1,
                    "frame_rate": { "fps": 24, "base": 1.0 },
                    "camera": "Camera", "cameras": ["Camera"], "marker_cameras": [],
                    "view_layers": [{ "name": "ViewLayer", "renders": true }],
                    "output": "turn_####", "file_format": "PNG", "extension": "png",
                    "is_movie": false,
                    "resolution": { "width": 64, "height": 36 }, "resolution_percentage": 100,
                    "samples": 4, "denoises": false,
                    "uses_compositor": false, "uses_sequencer": false, "writes_files": false,
                }],
            },
        })
    );
}

#[test]
fn the_coordinators_own_disk_is_none_of_a_clients_business() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let (shots, _folder) = blend_files::shots();
    // All of it lies on this very machine, and the client says that it does not.
    let scene = Client::of(&http, &shots[0]).read(|_| Value::Null);
    let lib = shots[0].ancestors().nth(3).unwrap().join("lib");
    let sent = [lib.join("chars.blend"), lib.join("override.blend"), shots[0].clone()];
    assert_eq!(scene["files"], json!(sent), "what the client sent, and nothing that is here");
    let missing: Vec<&str> =
        scene["missing"].as_array().unwrap().iter().filter_map(|it| it["path"].as_str()).collect();
    assert!(missing.contains(&text(&lib.join("materials/mats.blend")).as_str()), "{missing:?}");
    assert!(missing.contains(&text(&lib.join("tex/shirt.png")).as_str()), "{missing:?}");
}

#[test]
fn a_library_may_be_there_and_good_for_nothing() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let (shots, _folder) = blend_files::shots();
    let mut client = Client::of(&http, &shots[2]);
    let ring = shots[2].parent().unwrap().with_file_name("ring");
    let nonsense = http.send("POST", "/api/v1/blobs", &[], b"no scene at all".to_vec()).json(201);
    let nonsense = json!({ "blob": nonsense["hash"], "len": nonsense["len"] });
    client.files.insert(text(&ring.join("left.blend")), nonsense);
    client.files.insert(text(&ring.join("right.blend")), Value::Null);
    let scene = client.read(listed);
    let problems: BTreeMap<&str, &str> = scene["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|missing| {
            assert_eq!(missing["kind"], "library");
            (missing["path"].as_str().unwrap(), missing["problem"].as_str().unwrap())
        })
        .collect();
    let problem = |name: &str| problems[text(&ring.join(name)).as_str()];
    assert!(problem("left.blend").contains("is not a .blend file"), "{problems:?}");
    assert!(problem("right.blend").contains("cannot be read (permission denied)"), "{problems:?}");
    assert_eq!(scene["files"], json!([shots[2]]));
}

#[test]
fn what_cannot_be_is_refused_with_a_sentence() {
    let farm = Farm::new();
    let http = Http::of(&farm, "submitter");
    let path = "/home/ada/shot.blend";
    let blend = sent(&http, &scenes().join("turn.blend"));
    let ask = |path: &str, files: &Value, folders: &Value| {
        let told = json!({ "path": path, "files": files, "folders": folders });
        http.ask("POST", "/api/v1/scenes", &told)
    };
    let files = json!({ path: blend });
    let of_file = |file: Value| ask(path, &json!({ path: file }), &json!({}));
    let of_folders = |folders: Value| ask(path, &files, &folders);
    let of_name = |name: &str| of_folders(json!({ "/home": { "files": [name] } }));
    assert!(ask(path, &files, &json!({ "/": null })).json(200)["scene"].is_object());

    let unknown = json!({ "blob": "00".repeat(32), "len": 3 });
    of_file(unknown).problem(422, "missing_blobs", "does not have /home/ada/shot.blend: send it");
    let mut longer = blend.clone();
    longer["len"] = json!(7);
    of_file(longer).problem(422, "missing_blobs", "does not have /home/ada/shot.blend: send it");
    of_file(Value::Null).problem(422, "invalid", "`files` lacks /home/ada/shot.blend");
    ask(path, &json!({}), &json!({})).problem(422, "invalid", "`files` lacks /home/ada/shot");
    let nonsense = http.send("POST", "/api/v1/blobs", &[], b"no scene at all".to_vec()).json(201);
    of_file(json!({ "blob": nonsense["hash"], "len": nonsense["len"] })).problem(
        422,
        "invalid",
        "`/home/ada/shot.blend` is not a .blend file",
    );

    for bad in ["shot.blend", "C:\\shot.blend", "/home/../shot.blend", "/home//shot.blend", ""] {
        ask(bad, &json!({ bad: blend }), &json!({})).problem(422, "invalid", "absolute path");
        of_folders(json!({ bad: null })).problem(422, "invalid", "absolute path");
    }
    for bad in ["a/b.png", "..", ".", "", "/", "a\0"] {
        of_name(bad).problem(422, "invalid", "is not the name of a file in a folder");
    }
    let extra = json!({ "path": path, "files": files, "more": 1 });
    http.ask("POST", "/api/v1/scenes", &extra).problem(422, "invalid", "unknown field");

    let many: Vec<String> = (0..100_001).map(|at| at.to_string()).collect();
    of_folders(json!({ "/home": { "files": many } })).problem(422, "invalid", "move its files");
    let long = "a".repeat(17 << 20);
    of_name(&long).problem(413, "too_large", "send it in parts");
    assert!(!farm.said("coordinator").contains("panicked"));
}
