//! `grange-bench`: see `grange_tests::bench`. Run it as `cargo xtask bench`, which builds what it
//! measures.

use std::process::ExitCode;

fn main() -> ExitCode {
    grange_tests::bench::main()
}
