//! What shots were measured to need.

use comfy_table::Cell;
use grange_protocol::agent::DeviceKind;
use grange_protocol::footprint::Memory;
use grange_protocol::shot::Label;
use grange_protocol::view::FootprintView;

use super::{UNKNOWN, hide, kind, right, table, wrap};

/// Characters of a file's name, and of a scene's or a view layer's, in a line.
const FILE_CHARS: u16 = 24;
const LABEL_CHARS: u16 = 12;

/// A line for each class of size. Columns in which no line has anything to say are left out.
pub(crate) fn footprints(footprints: &[FootprintView]) -> String {
    let Some(first) = footprints.first() else {
        return "nothing was measured yet: every frame that the farm renders adds to this".into();
    };
    let mut table = table([
        "FILE", "SCENE", "LAYER", "DEVICE", "SIZE", "MEMORY", "RAM", "LOAD", "FRAME", "FRAMES",
        "OOM",
    ]);
    let label =
        |label: &Option<Label>| Cell::new(label.as_ref().map_or(UNKNOWN, |label| label.as_str()));
    for footprint in footprints {
        table.add_row(vec![
            Cell::new(&footprint.file),
            label(&footprint.scene),
            label(&footprint.view_layer),
            Cell::new(kind(footprint.device)),
            right(size(footprint.pixels)),
            right(peaks(footprint)),
            right(ram(footprint)),
            right(seconds(footprint.load_ms)),
            right(seconds(footprint.frame_ms)),
            right(footprint.frames),
            right(match footprint.out_of_memory {
                0 => String::new(),
                times => times.to_string(),
            }),
        ]);
    }
    wrap(&mut table, 0, FILE_CHARS);
    wrap(&mut table, 1, LABEL_CHARS);
    wrap(&mut table, 2, LABEL_CHARS);
    let all = |says_nothing: fn(&FootprintView) -> bool| footprints.iter().all(says_nothing);
    for (column, says_nothing) in [
        (1, all(|footprint| footprint.scene.is_none())),
        (2, all(|footprint| footprint.view_layer.is_none())),
        (6, all(|footprint| !has_own_memory(footprint))),
        (10, all(|footprint| footprint.out_of_memory == 0)),
    ] {
        if says_nothing {
            hide(&mut table, column);
        }
    }
    format!(
        "{}\n\nmemory is the most that one Blender took, without / with the scene's data kept \
         between frames;\n{} % more is set aside for it",
        table.trim_fmt(),
        first.margin_percent
    )
}

/// A CPU renders in RAM.
fn has_own_memory(footprint: &FootprintView) -> bool {
    footprint.device != DeviceKind::Cpu
}

/// In millions of pixels.
fn size(pixels: u64) -> String {
    match pixels {
        0 => UNKNOWN.into(),
        1..100_000 => format!("{:.2} MP", (pixels as f64 / 1e6).max(0.01)),
        _ => format!("{:.1} MP", pixels as f64 / 1e6),
    }
}

/// On the device, without and with the scene's data kept between frames.
fn peaks(footprint: &FootprintView) -> String {
    let mib = |peak: Option<Memory>| peak.map(|memory| memory.device_mib.to_string());
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.into());
    match (mib(footprint.plain), mib(footprint.kept)) {
        (None, None) => UNKNOWN.into(),
        (plain, kept) => format!("{} / {} MiB", or_unknown(plain), or_unknown(kept)),
    }
}

/// Of the host, beside the device's own memory; the larger of the two ways to render.
fn ram(footprint: &FootprintView) -> String {
    let peak = [footprint.plain, footprint.kept].into_iter().flatten().reduce(Memory::max);
    match peak.filter(|_| has_own_memory(footprint)) {
        Some(peak) => format!("{} MiB", peak.ram_mib),
        None => UNKNOWN.into(),
    }
}

fn seconds(millis: u32) -> String {
    if millis == 0 { UNKNOWN.into() } else { format!("{:.1} s", f64::from(millis) / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footprint(file: &str, device: DeviceKind, pixels: u64) -> FootprintView {
        let memory = |device_mib, ram_mib| Some(Memory { device_mib, ram_mib });
        FootprintView {
            file: file.into(),
            scene: None,
            view_layer: None,
            device,
            pixels,
            plain: memory(693, 1_204),
            kept: memory(1_633, 1_790),
            margin_percent: 10,
            load_ms: 4_210,
            frame_ms: 812,
            frames: 96,
            out_of_memory: 0,
        }
    }

    #[test]
    fn a_farm_of_cpus_and_files_as_they_are_has_few_columns() {
        let mut new = footprint("turn.blend", DeviceKind::Cpu, 320 * 180);
        (new.kept, new.load_ms, new.frame_ms) = (None, 0, 0);
        insta::assert_snapshot!(footprints(&[
            footprint("shot.blend", DeviceKind::Cpu, 1920 * 1080),
            new,
        ]));
        insta::assert_snapshot!(footprints(&[]), @"nothing was measured yet: every frame that the farm renders adds to this");
    }

    #[test]
    fn every_column_fits_beside_the_others() {
        let mut layered =
            footprint("sq010_sh0040_lighting_v012.blend", DeviceKind::Cuda, 3840 * 2160);
        layered.scene = Some("Lighting".parse().unwrap());
        layered.view_layer = Some("Characters".parse().unwrap());
        layered.out_of_memory = 2;
        layered.plain = Some(Memory { device_mib: 18_934, ram_mib: 21_000 });
        layered.kept = None;
        (layered.frame_ms, layered.frames) = (312_400, 1_440);
        let mut unknown = footprint("b.blend", DeviceKind::OneApi, 0);
        (unknown.plain, unknown.kept) = (None, None);
        insta::assert_snapshot!(footprints(&[
            layered,
            footprint("b.blend", DeviceKind::Cpu, 1920 * 1080),
            unknown,
        ]));
    }
}
