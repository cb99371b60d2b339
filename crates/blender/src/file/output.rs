//! The pictures that a scene writes: where its file puts them, in which format, and how Blender
//! names them.

use grange_protocol::name::BadName;
use grange_protocol::shot::OutputPattern;
use grange_protocol::{BlenderVersion, OutputName};

use super::document::Document;
use super::record::Record;
use super::template::Variables;

// Bits of `RenderData.scemode`, the same since 2.7.
const ADDS_EXTENSION: i64 = 1 << 4;
const MULTIVIEW: i64 = 1 << 21;

/// Of a pattern, so that a frame number, a view's suffix and an extension still fit.
const NAME_MAX_BYTES: usize = 200;

/// Extensions that Blender takes off a name before it adds its own.
const REPLACED: [&str; 22] = [
    "png", "tga", "bmp", "jpg", "jpeg", "sgi", "rgb", "rgba", "tif", "tiff", "tx", "jp2", "j2c",
    "hdr", "dds", "dpx", "cin", "exr", "psd", "pdd", "psb", "webp",
];

/// Where and how a scene writes its pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSettings {
    /// `render.filepath` as the file has it.
    pub filepath: String,
    /// The last part of that path as the name of an output, without the extension that Blender
    /// adds, with templates (4.5 and later) filled in; `####` if the path names no file.
    pub pattern: OutputPattern,
    pub format: PictureFormat,
    /// Whether Blender adds the format's extension to names.
    pub adds_extension: bool,
    /// `None` if views play no part in names.
    pub multiview: Option<Multiview>,
}

/// A format of pictures or movies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureFormat {
    /// As Blender's Python calls it: `PNG`, `OPEN_EXR`, `FFMPEG` …
    pub id: &'static str,
    /// Without the dot: `png`, `exr`, `mp4` …
    pub extension: &'static str,
    /// Whether all frames go into one file.
    pub is_movie: bool,
}

/// Several views of one frame: stereo, or any cameras.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multiview {
    pub format: ViewsFormat,
    /// What is added to the names of the rendered views, such as `_L` and `_R`, in their order.
    pub suffixes: Vec<String>,
}

/// How views become files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewsFormat {
    /// A file for each view.
    Individual,
    /// Both eyes in one picture.
    Stereo3d,
    /// All views in one EXR.
    Multiview,
}

impl OutputSettings {
    /// The main pictures that Blender writes for a frame: one, or one for each view. None for a
    /// movie format, whose only file has no frame.
    ///
    /// The error is a view's suffix that cannot be part of a name.
    pub fn pictures(
        &self,
        pattern: &OutputPattern,
        frame: i32,
    ) -> Result<Vec<OutputName>, BadName> {
        if self.format.is_movie {
            return Ok(Vec::new());
        }
        let mut name = pattern.expand(frame);
        if self.adds_extension {
            name = self.format.with_extension(&name);
        }
        match &self.multiview {
            Some(Multiview { format: ViewsFormat::Individual, suffixes }) => {
                suffixes.iter().map(|suffix| with_suffix(&name, suffix).parse()).collect()
            }
            _ => Ok(vec![name.parse()?]),
        }
    }
}

impl PictureFormat {
    const fn picture(id: &'static str, extension: &'static str) -> Self {
        Self { id, extension, is_movie: false }
    }

    const fn movie(id: &'static str, extension: &'static str) -> Self {
        Self { id, extension, is_movie: true }
    }

    /// From `ImageFormatData.imtype`. A number that no known Blender writes passes for PNG, as
    /// Blender has it.
    fn of(number: i64, settings: Record<'_>, render: Record<'_>) -> Self {
        match number {
            0 => Self::picture("TARGA", "tga"),
            1 => Self::picture("IRIS", "rgb"),
            4 => Self::picture("JPEG", "jpg"),
            14 => Self::picture("TARGA_RAW", "tga"),
            15 => Self::movie("AVI_RAW", "avi"),
            16 => Self::movie("AVI_JPEG", "avi"),
            20 => Self::picture("BMP", "bmp"),
            21 => Self::picture("HDR", "hdr"),
            22 => Self::picture("TIFF", "tif"),
            23 => Self::picture("OPEN_EXR", "exr"),
            24 | 31..=33 | 36 => Self::movie("FFMPEG", container(render)),
            26 => Self::picture("CINEON", "cin"),
            27 => Self::picture("DPX", "dpx"),
            28 => Self::picture("OPEN_EXR_MULTILAYER", "exr"),
            29 => Self::picture("DDS", "dds"),
            30 => match settings.int("jp2_codec") {
                Some(1) => Self::picture("JPEG2000", "j2c"),
                _ => Self::picture("JPEG2000", "jp2"),
            },
            35 => Self::picture("WEBP", "webp"),
            _ => Self::picture("PNG", "png"),
        }
    }

    /// The name with the format's extension, as Blender makes sure of it: another picture's
    /// extension is replaced, anything else is kept.
    fn with_extension(&self, name: &str) -> String {
        let own: &[&str] = match self.extension {
            "jpg" => &["jpg", "jpeg"],
            "tif" => &["tif", "tiff"],
            _ => &[self.extension],
        };
        match known_extension(name) {
            Some((_, has)) if own.contains(&has.as_str()) => name.into(),
            Some((stem, _)) => format!("{stem}.{}", self.extension),
            None => format!("{}.{}", name.trim_end_matches('.'), self.extension),
        }
    }
}

pub(super) fn read(
    document: &Document,
    scene: Record<'_>,
    render: Record<'_>,
) -> Option<OutputSettings> {
    let settings = render.inside("im_format")?;
    let format = PictureFormat::of(settings.int("imtype")?, settings, render);
    let adds_extension = render.flag("scemode", ADDS_EXTENSION);
    let filepath = render.text("pic");
    let variables = variables(document, scene, render);
    let pattern = pattern_of(&filepath, variables.as_ref(), adds_extension, format);
    let multiview = multiview(document.blocks.saved_by, render, settings);
    Some(OutputSettings { filepath, pattern, format, adds_extension, multiview })
}

/// The name that the last part of an output path gives to pictures.
fn pattern_of(
    filepath: &str,
    variables: Option<&Variables>,
    adds_extension: bool,
    format: PictureFormat,
) -> OutputPattern {
    let last = filepath.rsplit(['/', '\\']).next().unwrap_or(filepath);
    let expanded = variables.map_or_else(|| last.into(), |variables| variables.expand(last));
    let mut name = expanded.as_str();
    if format.is_movie
        && let Some((stem, extension)) = name.rsplit_once('.')
    {
        name = if extension.eq_ignore_ascii_case(format.extension) { stem } else { name };
    } else if adds_extension && let Some((stem, _)) = known_extension(name) {
        name = stem;
    }
    let numbers = || "####".parse().expect("a run of # names an output");
    sanitised(name).parse().unwrap_or_else(|_| numbers())
}

/// What a name cannot have becomes `_`; what is too long for a file is cut.
fn sanitised(name: &str) -> String {
    let is_bad = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':');
    let mut name = name.replace(is_bad, "_");
    while name.len() > NAME_MAX_BYTES {
        name.pop();
    }
    name
}

/// What templates can name; `None` before 4.5, where braces are ordinary characters.
fn variables(document: &Document, scene: Record<'_>, render: Record<'_>) -> Option<Variables> {
    if document.blocks.saved_by < BlenderVersion::new(4, 5) {
        return None;
    }
    let number = |field| render.int(field).unwrap_or_default() as f64;
    let pixels = |field| (number(field) * number("size") / 100.0).trunc();
    Some(Variables {
        blend_name: document.path.file_stem().unwrap_or_default().to_string_lossy().into(),
        scene_name: scene.name(),
        camera_name: scene.follow("camera").map(|camera| camera.name()),
        fps: number("frs_sec") / render.float("frs_sec_base").unwrap_or(1.0),
        resolution_x: pixels("xsch"),
        resolution_y: pixels("ysch"),
    })
}

fn multiview(
    saved_by: BlenderVersion,
    render: Record<'_>,
    settings: Record<'_>,
) -> Option<Multiview> {
    const DISABLED: i64 = 1;
    const ONLY_STEREO: i64 = 0;
    if !render.flag("scemode", MULTIVIEW) {
        return None;
    }
    let all_views = render.int("views_format") != Some(ONLY_STEREO);
    let suffixes: Vec<String> = render
        .list("views")
        .filter(|view| !view.flag("viewflag", DISABLED))
        .filter(|view| all_views || matches!(view.text("name").as_str(), "left" | "right"))
        .map(|view| view.text("suffix"))
        .collect();
    // A single view gets its suffix only since 4.5.
    if suffixes.is_empty() || suffixes.len() == 1 && saved_by < BlenderVersion::new(4, 5) {
        return None;
    }
    let format = match settings.int("views_format") {
        Some(1) => ViewsFormat::Stereo3d,
        Some(2) => ViewsFormat::Multiview,
        _ => ViewsFormat::Individual,
    };
    Some(Multiview { format, suffixes })
}

/// The name and the extension, in lower case, of a picture's format.
fn known_extension(name: &str) -> Option<(&str, String)> {
    let (stem, extension) = name.rsplit_once('.')?;
    let extension = extension.to_ascii_lowercase();
    REPLACED.contains(&extension.as_str()).then_some((stem, extension))
}

/// A view's suffix goes before whatever extension the name has.
fn with_suffix(name: &str, suffix: &str) -> String {
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[file..].rfind('.').filter(|dot| *dot > 0) {
        Some(dot) => format!("{}{suffix}{}", &name[..file + dot], &name[file + dot..]),
        None => format!("{name}{suffix}"),
    }
}

/// The extension of movies in the scene's container.
fn container(render: Record<'_>) -> &'static str {
    match render.inside("ffcodecdata").and_then(|settings| settings.int("type")) {
        Some(0) => "mpg",
        Some(1) => "dvd",
        Some(3 | 6 | 7) => "avi",
        Some(4) => "mov",
        Some(5) => "dv",
        Some(8) => "flv",
        Some(9) => "mkv",
        Some(10) => "ogv",
        Some(12) => "webm",
        _ => "mp4",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: PictureFormat = PictureFormat::picture("PNG", "png");

    #[test]
    fn output_paths_become_patterns() {
        let pattern = |path: &str| pattern_of(path, None, true, PNG).to_string();
        assert_eq!(pattern("//render/img_####"), "img_####");
        assert_eq!(pattern("/tmp/"), "####");
        assert_eq!(pattern("//"), "####");
        assert_eq!(pattern(""), "####");
        assert_eq!(pattern(r"//render\img_"), "img_");
        assert_eq!(pattern("//img_####.png"), "img_####");
        assert_eq!(pattern("//img.JPG"), "img");
        assert_eq!(pattern("//v1.2"), "v1.2");
        assert_eq!(pattern("//.."), "####");
        assert_eq!(pattern("//{scene}"), "{scene}");
        assert_eq!(pattern("//a:b\u{1}"), "a_b_");
        assert_eq!(pattern(&"x".repeat(300)).len(), NAME_MAX_BYTES);
        let exact = |path: &str| pattern_of(path, None, false, PNG).to_string();
        assert_eq!(exact("//img_####.png"), "img_####.png");
        let movie = PictureFormat::movie("FFMPEG", "mp4");
        assert_eq!(pattern_of("//cut.mp4", None, true, movie).as_str(), "cut");
    }

    #[test]
    fn extensions_are_added_as_blender_does() {
        let jpeg = PictureFormat::picture("JPEG", "jpg");
        for (name, png, jpg) in [
            ("a", "a.png", "a.jpg"),
            ("a.png", "a.png", "a.jpg"),
            ("a.PNG", "a.PNG", "a.jpg"),
            ("a.jpeg", "a.png", "a.jpeg"),
            ("v1.2", "v1.2.png", "v1.2.jpg"),
            ("a.", "a.png", "a.jpg"),
            ("a.mp4", "a.mp4.png", "a.mp4.jpg"),
        ] {
            assert_eq!(PNG.with_extension(name), png);
            assert_eq!(jpeg.with_extension(name), jpg);
        }
    }

    #[test]
    fn suffixes_go_before_extensions() {
        assert_eq!(with_suffix("a.png", "_L"), "a_L.png");
        assert_eq!(with_suffix("a", "_L"), "a_L");
        assert_eq!(with_suffix("d.x/a.b.c", "_L"), "d.x/a.b_L.c");
    }
}
