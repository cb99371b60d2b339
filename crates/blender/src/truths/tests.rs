use super::*;
use ::exr::image::write::WritableImage;
use ::exr::image::{AnyChannel, AnyChannels, Encoding, FlatSamples, Image, Layer};
use ::exr::meta::header::LayerAttributes;
use ::exr::prelude::{ReadChannels, ReadLayers, read};
use serde_json::json;

const SIZE: (usize, usize) = (3, 2);
const PIXELS: usize = 6;

/// A file as Blender writes it: every channel has one value everywhere, but for its last pixel,
/// where it is `last`.
fn passes(dir: &Path, channels: &[(&str, f32)], last: f32, encoding: Encoding) -> File {
    let planes = channels.iter().map(|(name, value)| {
        let mut plane = vec![*value; PIXELS];
        plane[PIXELS - 1] = last;
        AnyChannel::new(*name, FlatSamples::F32(plane))
    });
    let channels = AnyChannels::sort(planes.collect());
    let layer = Layer::new(SIZE, LayerAttributes::default(), encoding, channels);
    let path = dir.join("passes.exr");
    Image::from_layer(layer).write().to_file(&path).unwrap();
    File::open(path).unwrap()
}

fn truth(kind: serde_json::Value) -> Truth {
    let more = json!({"file": "a/x.exr", "debug": "a/x.png", "codec": "ZIP", "layer": "Front.1"});
    let mut whole = kind;
    for (key, value) in more.as_object().unwrap() {
        whole[key] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

/// Channels of the file that was made, with the first and the last pixel of each.
fn made(channels: &[(&str, f32)], last: f32, truth: &Truth) -> Vec<(String, f32, f32)> {
    let dir = tempfile::tempdir().unwrap();
    let passes = passes(dir.path(), channels, last, Encoding::UNCOMPRESSED);
    let files = split(passes, std::slice::from_ref(truth), dir.path()).unwrap();
    assert_eq!(files.len(), 2);
    for file in &files {
        crate::verify::verify(&file.path).unwrap();
        assert_eq!(file.path, dir.path().join(file.name.as_str()));
    }
    let image = read().no_deep_data().largest_resolution_level().all_channels();
    let image = image.first_valid_layer().all_attributes().from_file(&files[1].path).unwrap();
    let channels = image.layer_data.channel_data.list.into_iter();
    let ends = |channel: AnyChannel<FlatSamples>| {
        let values: Vec<f32> = channel.sample_data.values_as_f32().collect();
        (channel.name.to_string(), values[0], values[PIXELS - 1])
    };
    channels.map(ends).collect()
}

fn plane(name: &str, first: f32, last: f32) -> (String, f32, f32) {
    (name.into(), first, last)
}

#[test]
fn what_is_beyond_everything_is_infinitely_far() {
    let depth = truth(json!({"kind": "depth"}));
    let found = made(&[("Front.1.Depth.Z", 7.25)], 1e10, &depth);
    assert_eq!(found, [plane("Y", 7.25, f32::INFINITY)]);
    let eevee = truth(json!({"kind": "depth", "far": 1000}));
    let found = made(&[("Front.1.Depth.Z", 7.25)], 1000.55, &eevee);
    assert_eq!(found, [plane("Y", 7.25, f32::INFINITY)]);
}

#[test]
fn motion_is_from_here_to_there_with_y_down() {
    let channels = ["X", "Y", "Z", "W"].map(|channel| format!("Front.1.Vector.{channel}"));
    let [x, y, z, w] = &channels;
    let channels = [(&x[..], -4.0), (&y[..], -2.0), (&z[..], -1.0), (&w[..], -3.0)];
    let flow =
        |direction| made(&channels, 0.0, &truth(json!({"kind": "flow", "direction": direction})));
    let (forward, backward) = ((1.0, -3.0), (-4.0, 2.0));
    assert_eq!(
        flow("both"),
        [
            plane("A", backward.1, 0.0),
            plane("B", backward.0, 0.0),
            plane("G", forward.1, 0.0),
            plane("R", forward.0, 0.0)
        ]
    );
    let one = |(x, y)| [plane("B", 0.0, 0.0), plane("G", y, 0.0), plane("R", x, 0.0)];
    assert_eq!(flow("forward"), one(forward));
    assert_eq!(flow("backward"), one(backward));
}

#[test]
fn normals_are_turned_and_of_unit_length() {
    let channels =
        [("Front.1.Normal.X", 0.3), ("Front.1.Normal.Y", 0.0), ("Front.1.Normal.Z", 0.4)];
    let rotation = json!([[0, 0, 1], [0, 1, 0], [-1, 0, 0]]);
    let normal = truth(json!({"kind": "normal", "rotation": rotation}));
    let found = made(&channels, 0.0, &normal);
    assert_eq!(found, [plane("B", -0.6, 0.0), plane("G", 0.0, 0.0), plane("R", 0.8, 0.0)]);
}

#[test]
fn reflections_are_light_times_color_under_the_names_of_every_blender() {
    let specular = truth(json!({"kind": "specular"}));
    for [direct, indirect, color] in
        [["GlossDir", "GlossInd", "GlossCol"], ["Glossy Direct", "Glossy Indirect", "Glossy Color"]]
    {
        let mut channels = Vec::new();
        for channel in ["R", "G", "B"] {
            for (pass, value) in [(direct, 2.0), (indirect, 1.0), (color, 0.5)] {
                channels.push((format!("Front.1.{pass}.{channel}"), value));
            }
        }
        let all: Vec<_> = channels.iter().map(|(name, value)| (&name[..], *value)).collect();
        let expected = |value| ["B", "G", "R"].map(|name| plane(name, value, 0.0));
        assert_eq!(made(&all, 0.0, &specular), expected(1.5));
        // EEVEE makes none of them.
        let some: Vec<_> = all.into_iter().filter(|(name, _)| !name.contains(indirect)).collect();
        assert_eq!(made(&some, 0.0, &specular), expected(1.0));
    }
}

#[test]
fn numbers_are_exact_with_every_codec() {
    for codec in ["NONE", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24"] {
        let mut truth = truth(json!({"kind": "segmentation"}));
        truth.codec = serde_json::from_value(json!(codec)).unwrap();
        for name in ["Front.1.IndexOB.X", "Front.1.Object Index.X", "Fro.IndexOB.X"] {
            let found = made(&[(name, 32_767.0), ("Front.1.Depth.Z", 1.0)], 12_345.0, &truth);
            assert_eq!(found, [plane("Y", 32_767.0, 12_345.0)], "{codec}");
        }
    }
}

#[test]
fn of_several_layers_the_one_that_is_meant_is_taken() {
    let depth = truth(json!({"kind": "depth"}));
    let channels = [("Back.Depth.Z", 1.0), ("Front.1.Depth.Z", 2.0)];
    assert_eq!(made(&channels, 3.0, &depth), [plane("Y", 2.0, 3.0)]);
}

#[test]
fn passes_that_are_not_there_or_not_blenders_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let depth = truth(json!({"kind": "depth"}));
    let refused = |file| split(file, std::slice::from_ref(&depth), dir.path()).unwrap_err();

    let others = [("Front.1.Normal.X", 1.0)];
    let failure = refused(passes(dir.path(), &others, 0.0, Encoding::UNCOMPRESSED));
    assert_eq!(failure.kind, FailureKind::Scene);
    assert!(failure.reason.contains("no pass `Depth`, which a/x.exr is made of"), "{failure}");

    let small = Encoding { compression: Compression::RLE, ..Encoding::UNCOMPRESSED };
    let channels = [("Front.1.Depth.Z", 1.0)];
    let failure = refused(passes(dir.path(), &channels, 0.0, small));
    assert_eq!(failure.kind, FailureKind::Output);
    assert!(failure.reason.contains("not plain floats"), "{failure}");

    drop(passes(dir.path(), &channels, 0.0, Encoding::UNCOMPRESSED));
    let path = dir.path().join("passes.exr");
    let whole = fs::read(&path).unwrap();
    for len in [0, 20, whole.len() - 1] {
        fs::write(&path, &whole[..len]).unwrap();
        assert_eq!(refused(File::open(&path).unwrap()).kind, FailureKind::Output);
    }
    // A header that claims more than there is takes no memory: both corners of both windows.
    let window = [0_i32, 0, 2, 1].map(i32::to_le_bytes).concat();
    let huge = [0_i32, 0, 30_000, 30_000].map(i32::to_le_bytes).concat();
    let mut claims = whole.clone();
    while let Some(at) = claims.windows(16).position(|bytes| bytes == window) {
        claims[at..at + 16].copy_from_slice(&huge);
    }
    fs::write(&path, claims).unwrap();
    assert_eq!(refused(File::open(&path).unwrap()).kind, FailureKind::Output);
}

#[test]
fn what_a_worker_tells_is_checked() {
    let one = |file: &str, debug: &str| json!({"kind": "depth", "file": file, "debug": debug, "codec": "ZIP", "layer": "L"});
    let folder = "7".parse().unwrap();
    let told = |truths: serde_json::Value| told(&mut json!({"truths": truths}), Some(&folder));
    let truths = told(json!([one("depths/d.exr", "depths/d.png")])).unwrap();
    assert_eq!(truths[0].file.as_str(), "7/depths/d.exr");
    assert_eq!(truths[0].debug.as_ref().unwrap().as_str(), "7/depths/d.png");

    assert_eq!(super::told(&mut json!(null), None).unwrap(), []);
    assert_eq!(super::told(&mut json!({"transform_matrix": []}), None).unwrap(), []);

    let mut unknown = one("a.exr", "a.png");
    unknown["codec"] = json!("DWAA");
    let many: Vec<_> = (0..17).map(|at| one(&format!("{at}.exr"), &format!("{at}.png"))).collect();
    for bad in [
        json!([one("../d.exr", "d.png")]),
        json!([one("/etc/d.exr", "d.png")]),
        json!([one("d.png", "d.png")]),
        json!([one("d.exr", "d.exr")]),
        json!([one("d.exr", "d.png"), one("d.exr", "e.png")]),
        json!([unknown]),
        json!(many),
        json!("all"),
    ] {
        assert_eq!(told(bad.clone()).unwrap_err().kind, FailureKind::Output, "{bad}");
    }
}
