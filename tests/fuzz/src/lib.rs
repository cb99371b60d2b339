//! What reads bytes that others made, each as one function of bytes ([`TARGETS`]), and what holds for
//! all of them: they answer soon, without a panic, and take no more memory than they may.
//!
//! Three callers feed them. `tests/kept.rs` reads every input that was ever worth keeping, and for a
//! minute damaged ones: that is a part of every run of the tests. `bin/guided.rs` is the same with
//! libFuzzer, which goes where code was not reached yet: `cargo xtask fuzz`. And a person, with one
//! input. Nothing here changes the decoders: there is no build of them for fuzzing.

pub mod corpus;
pub mod damage;
mod memory;
mod scratch;
mod targets;

pub use targets::TARGETS;

/// A reader of bytes from outside.
pub struct Target {
    pub name: &'static str,
    /// Inputs of this many bytes say all that there is to say.
    pub len_max: usize,
    /// Bytes of memory that an input may take besides its own.
    memory: fn(input: &[u8]) -> usize,
    /// Good inputs, to begin with.
    seeds: fn() -> Vec<Vec<u8>>,
    /// Panics if something does not hold.
    read: fn(input: &[u8]),
}

impl Target {
    /// Reads an input. Panics if what must hold of any input does not.
    pub fn read(&self, input: &[u8]) {
        let ((), taken) = memory::taken_by(|| (self.read)(input));
        let may = (self.memory)(input);
        assert!(
            taken <= may,
            "{} takes {taken} bytes of memory for an input of {}, more than {may}",
            self.name,
            input.len()
        );
    }

    /// Good inputs that need not be kept, because the tree has them somewhere else.
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        (self.seeds)()
    }

    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }
}
