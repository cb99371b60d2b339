//! The dashboard's files get into the program anew when they were built anew.

fn main() {
    println!("cargo::rerun-if-changed=web/dist");
}
