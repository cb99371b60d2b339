//! Pictures that were rendered.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use exr::prelude::{ReadChannels, ReadLayers, read};

/// The names of all files below a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    fn collect(folder: &Path, prefix: &str, names: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                collect(&entry.path(), &format!("{name}/"), names);
            } else {
                names.push(name);
            }
        }
    }
    let mut found = Vec::new();
    collect(folder, "", &mut found);
    found.sort();
    found
}

/// The pixels of a picture, as 8-bit RGBA, and its size.
#[track_caller]
pub(crate) fn pixels(path: &Path) -> (u32, u32, Vec<u8>) {
    let picture = image::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let picture = picture.to_rgba8();
    (picture.width(), picture.height(), picture.into_raw())
}

/// Width and height of an EXR, and its channels by name: rows from the top.
#[track_caller]
pub(crate) fn channels(path: &Path) -> (usize, usize, BTreeMap<String, Vec<f32>>) {
    let image = read().no_deep_data().largest_resolution_level().all_channels();
    let image = image.first_valid_layer().all_attributes().non_parallel().from_file(path);
    let layer = image.unwrap_or_else(|error| panic!("{}: {error}", path.display())).layer_data;
    let values = |channel: exr::prelude::AnyChannel<exr::prelude::FlatSamples>| {
        (channel.name.to_string(), channel.sample_data.values_as_f32().collect())
    };
    let channels = layer.channel_data.list.into_iter().map(values).collect();
    (layer.size.0, layer.size.1, channels)
}
