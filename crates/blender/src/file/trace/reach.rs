//! What some datablocks of a file lead to.

use std::collections::BTreeSet;

use crate::file::blocks::Blocks;

/// Fields that all datablocks have and that lead to what is not needed: the neighbour in Blender's
/// list, and notes of the running program.
const LOOSE: [&str; 6] = ["next", "prev", "newid", "lib", "orig_id", "py_instance"];

/// These datablocks and all that they lead to, through any number of steps, in this file.
///
/// Any word of a datablock or of what it owns that is the address of another datablock counts as
/// a pointer to it, whichever field it is in. So no version's fields need to be known, and custom
/// properties and arrays of pointers are followed too.
pub(super) fn from(blocks: &Blocks, roots: &[u32]) -> BTreeSet<u32> {
    let loose = loose_offsets(blocks);
    let word = blocks.layout.pointer_bytes();
    let mut reached: BTreeSet<u32> = roots.iter().copied().collect();
    let mut pending: Vec<u32> = reached.iter().copied().collect();
    while let Some(owner) = pending.pop() {
        for (at, bytes) in blocks.contents(owner).enumerate() {
            for (position, pointer) in bytes.chunks_exact(word).enumerate() {
                // A datablock's own block comes first and starts with what all have in common.
                if at == 0 && loose.contains(&(position * word)) {
                    continue;
                }
                if let Some(target) = blocks.datablock_at(blocks.layout.number(pointer))
                    && reached.insert(target)
                {
                    pending.push(target);
                }
            }
        }
    }
    reached
}

fn loose_offsets(blocks: &Blocks) -> Vec<usize> {
    let id = blocks.layout.named("ID");
    let offset = |name: &&str| Some(id?.field(name)?.offset);
    LOOSE.iter().filter_map(offset).collect()
}
