//! One target with libFuzzer, which the environment names; its command line is libFuzzer's. Without a
//! name it lists the targets. `cargo xtask fuzz` builds and starts it.
#![no_main]

use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;

use grange_fuzz::{TARGETS, Target, corpus};

/// The target's name.
const TARGET: &str = "GRANGE_FUZZ_TARGET";
/// A folder to write the inputs to that the tree has, before anything is read.
const SEEDS: &str = "GRANGE_FUZZ_SEEDS";
/// A folder of inputs to keep in the tree, which is all that is done.
const CHOOSE: &str = "GRANGE_FUZZ_CHOOSE";

libfuzzer_sys::fuzz_target!(init: prepare(), |input: &[u8]| target().read(input));

fn prepare() {
    // Decoders of others' may panic where that is caught and made an error; libfuzzer-sys would end
    // the process before. A panic that nobody catches ends it all the same.
    let _ = std::panic::take_hook();
    if std::env::var_os(TARGET).is_none() {
        list();
        std::process::exit(0);
    }
    if let Some(folder) = std::env::var_os(SEEDS) {
        for (at, (_, input)) in corpus::kept(target()).iter().enumerate() {
            let written = std::fs::write(Path::new(&folder).join(format!("kept-{at}")), input);
            written.expect("the folder for inputs can be written to");
        }
    }
    if let Some(folder) = std::env::var_os(CHOOSE) {
        let count = corpus::choose(target(), Path::new(&folder)).expect("inputs can be kept");
        writeln!(std::io::stdout(), "{count}").expect("somebody reads how many");
        std::process::exit(0);
    }
}

/// Each with the bytes that its inputs have at most.
fn list() {
    for Target { name, len_max, .. } in &TARGETS {
        writeln!(std::io::stdout(), "{name} {len_max}").expect("somebody reads the list");
    }
}

fn target() -> &'static Target {
    static CHOSEN: OnceLock<&Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var(TARGET).unwrap_or_default();
        Target::named(&name).unwrap_or_else(|| panic!("{TARGET} names no target: `{name}`"))
    })
}
