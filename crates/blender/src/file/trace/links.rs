//! The names of files in datablocks, struct by struct.
//!
//! A struct is known by its name wherever it lies: the settings of an IES node are found in
//! materials, lights and node groups alike.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::LinkKind;
use super::search::Spread;
use crate::file::blocks::Code;
use crate::file::document::Document;
use crate::file::paths::{self, StoredPath};
use crate::file::place::Place;
use crate::file::record::Record;

/// Of one image: Blender numbers them from 1001 to 2000.
const TILES_MAX: usize = 1_000;
/// More than any scene has; each may have a file of every picture.
const VIEWS_MAX: usize = 1_000;

/// A name of a file in a datablock.
pub(super) struct Link<'a> {
    pub(super) document: &'a Document,
    pub(super) datablock: Record<'a>,
    pub(super) kind: LinkKind,
    pub(super) stored: StoredPath,
    pub(super) spread: Spread,
    /// Whether there may be a file for each view of a stereo scene.
    pub(super) has_views: bool,
    /// Whether it may well not be there.
    pub(super) optional: bool,
}

/// All names of files in a datablock of a document that lies in that place.
pub(super) fn of<'a>(
    place: &Place,
    document: &'a Document,
    datablock: Record<'a>,
) -> Vec<Link<'a>> {
    let directory = document.directory_of(datablock);
    let mut links = Links { document, datablock, directory, found: Vec::new() };
    for part in document.blocks.belongings(datablock.owner()).take_while(|_| !place.is_late()) {
        links.part(part);
    }
    links.found
}

/// A datablock for people: ``image `Wood` ``, with its file unless that is `main`.
pub(super) fn described(document: &Document, datablock: Record<'_>, main: &Path) -> String {
    let noun = match datablock.code() {
        Code::Datablock(letters) => noun(letters),
        _ => "datablock",
    };
    let name = datablock.name();
    if document.path == main {
        return format!("{noun} `{name}`");
    }
    let file = document.path.file_name().unwrap_or_default().to_string_lossy();
    format!("{noun} `{name}` in `{file}`")
}

/// What the scenes of a document add to the names of their views' pictures.
pub(super) fn view_suffixes(document: &Document) -> Vec<String> {
    let scenes = document.blocks.datablocks(*b"SC");
    let views =
        scenes.filter_map(|scene| scene.inside("r")).flat_map(|render| render.list("views"));
    let suffixes = views.take(VIEWS_MAX).map(|view| view.text("suffix"));
    let suffixes: BTreeSet<String> = suffixes.filter(|suffix| !suffix.is_empty()).collect();
    suffixes.into_iter().collect()
}

/// The names of the other views' files, if the name is that of one view's.
pub(super) fn views_of(path: &Path, suffixes: &[String]) -> Vec<PathBuf> {
    let text = path.to_string_lossy();
    let dot = text.rfind('.').filter(|dot| text.rfind('/') < Some(*dot)).unwrap_or(text.len());
    let (stem, extension) = text.split_at(dot);
    let own = suffixes.iter().find_map(|suffix| stem.strip_suffix(suffix.as_str()));
    own.map_or(Vec::new(), |prefix| {
        suffixes.iter().map(|suffix| format!("{prefix}{suffix}{extension}").into()).collect()
    })
}

struct Links<'a> {
    document: &'a Document,
    datablock: Record<'a>,
    /// Where its relative paths start.
    directory: PathBuf,
    found: Vec<Link<'a>>,
}

impl<'a> Links<'a> {
    fn part(&mut self, part: Record<'a>) {
        const EXTERNAL: Option<i64> = Some(1);
        match part.struct_name() {
            "Image" => self.image(part),
            "MovieClip" => self.movie_clip(part),
            "bSound" => self.unless_packed(part, LinkKind::Sound, "name"),
            "VFont" if part.text("name") != "<builtin>" => {
                self.unless_packed(part, LinkKind::Font, "name");
            }
            "Volume" => self.unless_packed(part, LinkKind::Volume, "filepath"),
            "CacheFile" | "CacheFileLayer" => self.cache_file(part),
            "MeshCacheModifierData" => self.one(LinkKind::MeshCache, &part.text("filepath")),
            "CustomDataExternal" => self.one(LinkKind::Multires, &part.text("filename")),
            "NodeShaderTexIES" if part.int("mode") == EXTERNAL => {
                self.one(LinkKind::Ies, &part.text("filepath"));
            }
            "NodeShaderScript" if part.int("mode") == EXTERNAL => {
                self.one(LinkKind::Osl, &part.text("filepath"));
            }
            "Camera" if part.int("custom_mode") == EXTERNAL => {
                self.one(LinkKind::Osl, &part.text("custom_filepath"));
            }
            "Sequence" => self.strip(part),
            "PointCache" => self.point_cache(part),
            "FluidDomainSettings" => self.fluid(part),
            "OceanModifierData" => self.ocean(part),
            "NodesModifierData" => self.nodes_modifier(part),
            "bNode" => self.import_node(part),
            "bNodeSocketValueString" => self.path_socket(part),
            _ => {}
        }
    }

    fn image(&mut self, image: Record<'_>) {
        const SEQUENCE: i64 = 2;
        const MOVIE: i64 = 3;
        const TILED: i64 = 6;
        const FILE: i64 = 1;
        if image.points("packedfile") || !image.is_list_empty("packedfiles") {
            return;
        }
        let (kind, spread) = match image.int("source") {
            Some(FILE) => (LinkKind::Image, Spread::One),
            Some(SEQUENCE) => (LinkKind::ImageSequence, Spread::Numbered),
            Some(MOVIE) => (LinkKind::Movie, Spread::One),
            Some(TILED) => {
                let numbers = image.list("tiles").filter_map(|tile| tile.int("tile_number"));
                let numbers = numbers.filter_map(|number| u32::try_from(number).ok());
                (LinkKind::UdimTile, Spread::Tiles(numbers.take(TILES_MAX).collect()))
            }
            // Generated, or a viewer's.
            _ => return,
        };
        const USES_VIEWS: i64 = 1 << 14;
        let has_views = image.flag("flag", USES_VIEWS) && image.int("views_format") == Some(0);
        self.add_view(kind, &image.text("name"), spread, has_views);
    }

    fn movie_clip(&mut self, clip: Record<'_>) {
        const SEQUENCE: i64 = 1;
        let spread = match clip.int("source") {
            Some(SEQUENCE) => Spread::Numbered,
            _ => Spread::One,
        };
        self.add(LinkKind::MovieClip, &clip.text("name"), spread);
    }

    fn unless_packed(&mut self, datablock: Record<'_>, kind: LinkKind, field: &str) {
        if !datablock.points("packedfile") {
            self.add(kind, &datablock.text(field), spread_of(datablock));
        }
    }

    fn cache_file(&mut self, part: Record<'_>) {
        let spread = spread_of(self.datablock);
        self.add(LinkKind::CacheFile, &part.text("filepath"), spread);
    }

    /// A strip's pictures, or its movie; sounds are datablocks of their own.
    fn strip(&mut self, strip: Record<'_>) {
        const IMAGE: i64 = 0;
        const MOVIE: i64 = 3;
        const USES_VIEWS: i64 = 1 << 29;
        let elements = match strip.int("type") {
            Some(IMAGE) => usize::MAX,
            Some(MOVIE) => 1,
            _ => return,
        };
        let has_views = strip.flag("flag", USES_VIEWS) && strip.int("views_format") == Some(0);
        let Some(source) = strip.follow("strip") else { return };
        let directory = source.text("dir");
        for element in source.array("stripdata").take(elements) {
            let name = element.text("name");
            if !name.is_empty() {
                let joined = match directory.ends_with(['/', '\\']) || directory.is_empty() {
                    true => format!("{directory}{name}"),
                    false => format!("{directory}/{name}"),
                };
                self.add_view(LinkKind::Strip, &joined, Spread::One, has_views);
            }
        }
    }

    fn point_cache(&mut self, cache: Record<'_>) {
        const BAKED: i64 = 1;
        const ON_DISK: i64 = 1 << 6;
        const EXTERNAL: i64 = 1 << 9;
        let extensions = &["bphys"];
        if cache.flag("flag", EXTERNAL) {
            let name = cache.text("name");
            let prefix = if name.is_empty() { name } else { format!("{name}_") };
            let spread = Spread::Directory { prefix, extensions };
            self.add(LinkKind::PointCache, &cache.text("path"), spread);
        } else if cache.flag("flag", ON_DISK) {
            // Beside the file, or beside the library that has the object.
            let file = self.document.path.file_stem().unwrap_or_default().to_string_lossy();
            let stored = format!("//blendcache_{file}");
            let spread = Spread::Directory { prefix: String::new(), extensions };
            if let Some(link) = self.add(LinkKind::PointCache, &stored, spread) {
                link.optional = !cache.flag("flag", BAKED);
            }
        }
    }

    fn fluid(&mut self, domain: Record<'_>) {
        let extensions = &["uni", "vdb", "raw", "gz", "obj", "bobj", "npz", "bphys"];
        let stored = domain.text("cache_directory");
        self.add(LinkKind::FluidCache, &stored, Spread::Tree { extensions });
    }

    /// An ocean that is not marked as baked may still find a bake, but needs none.
    fn ocean(&mut self, ocean: Record<'_>) {
        let is_baked = ocean.int("cached").is_some_and(|cached| cached != 0);
        let spread = Spread::Directory { prefix: String::new(), extensions: &["exr"] };
        if let Some(link) = self.add(LinkKind::OceanCache, &ocean.text("cachepath"), spread) {
            link.optional = !is_baked;
        }
    }

    /// Where bakes of its simulations lie, and files that it gives its node group by name.
    fn nodes_modifier(&mut self, modifier: Record<'_>) {
        let bakes = modifier.array("bakes").filter(|bake| !bake.points("packed"));
        let own = bakes.map(|bake| bake.text_behind("directory"));
        let shared = modifier.text_behind("simulation_bake_directory");
        for directory in own.chain([shared]) {
            let spread = Spread::Tree { extensions: &["json", "blob", "vdb"] };
            self.add_optional(LinkKind::NodesBake, &directory, spread);
        }
        let settings =
            modifier.inside("settings").and_then(|settings| settings.follow("properties"));
        let values = settings.and_then(|settings| settings.inside("data"));
        for property in values.into_iter().flat_map(|values| values.list("group")) {
            const TEXT: i64 = 0;
            let is_text = property.int("type") == Some(TEXT);
            let value = property.inside("data").filter(|_| is_text);
            let text = value.map(|value| value.text_behind("pointer")).unwrap_or_default();
            if text.starts_with('/') {
                self.add_optional(LinkKind::NodesImport, &text, Spread::One);
            }
        }
    }

    fn import_node(&mut self, node: Record<'_>) {
        if node.text("idname").starts_with("GeometryNodeImport") {
            for input in node.list("inputs") {
                if let Some(value) = input.follow("default_value").filter(is_path) {
                    self.one(LinkKind::NodesImport, &value.text("value"));
                }
            }
        }
    }

    /// The default of a socket that is meant for paths: of a node group, for instance.
    fn path_socket(&mut self, value: Record<'_>) {
        if is_path(&value) {
            self.add_optional(LinkKind::NodesImport, &value.text("value"), Spread::One);
        }
    }

    fn one(&mut self, kind: LinkKind, stored: &str) {
        self.add(kind, stored, Spread::One);
    }

    /// Nothing if the name is empty.
    fn add(&mut self, kind: LinkKind, stored: &str, spread: Spread) -> Option<&mut Link<'a>> {
        if stored.is_empty() {
            return None;
        }
        self.found.push(Link {
            document: self.document,
            datablock: self.datablock,
            kind,
            stored: paths::resolve(stored, &self.directory),
            spread,
            has_views: false,
            optional: false,
        });
        self.found.last_mut()
    }

    /// The same for what may well not be there.
    fn add_optional(&mut self, kind: LinkKind, stored: &str, spread: Spread) {
        if let Some(link) = self.add(kind, stored, spread) {
            link.optional = true;
        }
    }

    /// The same for what may be one of several views' files.
    fn add_view(&mut self, kind: LinkKind, stored: &str, spread: Spread, has_views: bool) {
        if let Some(link) = self.add(kind, stored, spread) {
            link.has_views = has_views;
        }
    }
}

fn is_path(value: &Record<'_>) -> bool {
    const FILE_PATH: i64 = 1;
    value.struct_name() == "bNodeSocketValueString" && value.int("subtype") == Some(FILE_PATH)
}

fn spread_of(datablock: Record<'_>) -> Spread {
    match datablock.int("is_sequence") {
        Some(1..) => Spread::Numbered,
        _ => Spread::One,
    }
}

fn noun(code: [u8; 2]) -> &'static str {
    match &code {
        b"CA" => "camera",
        b"CF" => "cache file",
        b"IM" => "image",
        b"LA" => "light",
        b"LI" => "library",
        b"LS" => "line style",
        b"MA" => "material",
        b"MC" => "movie clip",
        b"ME" => "mesh",
        b"NT" => "node group",
        b"OB" => "object",
        b"PA" => "particles",
        b"SC" => "scene",
        b"SO" => "sound",
        b"TE" => "texture",
        b"VF" => "font",
        b"VO" => "volume",
        b"WO" => "world",
        _ => "datablock",
    }
}
