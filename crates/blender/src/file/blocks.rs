//! The blocks of one .blend file: an index of them all, and the bytes of those that matter.
//!
//! A file is a run of blocks. A datablock (an object, an image …) is a block with a two-letter
//! code; the `DATA` blocks that follow hold what it owns, so a pointer leads to a block of the
//! same owner or to a datablock. Screens, and bulk such as vertices, pixels and caches, are passed
//! over: what is held of a file of gigabytes is a few megabytes.

use std::collections::HashMap;
use std::ops::Range;

use blend::parsers::blend::{FileFormat, Header, header};
use grange_protocol::BlenderVersion;

use super::error::Fault;
use super::layout::Layout;
use super::record::Record;
use super::source::Source;

/// `DATA` blocks up to this many bytes are held whatever they are.
const SMALL_BYTES: u64 = 64 << 10;
/// Datablocks of the user interface, which lead to nothing that renders.
const INTERFACE: [&[u8; 2]; 4] = [b"WM", b"WS", b"SN", b"SR"];
/// Datablocks whose large arrays are geometry or keyframes.
const GEOMETRY: [&[u8; 2]; 10] =
    [b"ME", b"KE", b"CU", b"CV", b"PT", b"GD", b"GP", b"LT", b"MB", b"AC"];

pub(super) struct Blocks {
    pub(super) saved_by: BlenderVersion,
    pub(super) layout: Layout,
    bytes: Vec<u8>,
    blocks: Vec<Block>,
    /// Datablocks by the address that they had in Blender's memory.
    datablocks: HashMap<u64, u32>,
    /// What datablocks own, by owner and address: one address may be used by several owners.
    owned: HashMap<(u32, u64), u32>,
    /// The library of each placeholder.
    libraries: HashMap<u32, u32>,
    /// Datablocks that are the file's own, by name with code (`OBCube`).
    names: HashMap<Box<[u8]>, u32>,
}

struct Block {
    code: Code,
    owner: u32,
    /// The place of its struct in the layout; 0 for plain bytes.
    of: u32,
    /// How many structs it holds.
    count: u64,
    bytes: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// What a datablock owns.
    Data,
    /// The file's own notes: which scene is active.
    Global,
    /// A datablock of another file, of which only the name is here.
    Placeholder,
    Datablock([u8; 2]),
    /// Thumbnails and the like.
    Other,
}

/// A block's header as it stands in the file.
struct BlockHeader {
    code: [u8; 4],
    len: u64,
    address: u64,
    of: u32,
    count: u64,
}

impl Blocks {
    pub(super) fn read(mut source: Source<'_>) -> Result<Self, Fault> {
        let header = read_header(&mut source)?;
        let mut index = Index::new(&header);
        let dna = loop {
            let block = index.read_block_header(&mut source)?;
            match &block.code {
                b"ENDB" => return Err(Fault::Damaged("it does not describe itself")),
                b"DNA1" => break index.read_dna(&mut source, &block)?,
                _ => index.add(&mut source, &block)?,
            }
        };
        let layout = Layout::parse(&header, &dna)?;
        Ok(index.into_blocks(&header, layout))
    }

    /// All datablocks with a code, such as `OB`, that are in the file itself.
    pub(super) fn datablocks(&self, code: [u8; 2]) -> impl Iterator<Item = Record<'_>> {
        self.with_code(Code::Datablock(code))
    }

    /// How many bytes of memory it takes, about.
    pub(super) fn held(&self) -> u64 {
        held(&self.bytes, &self.blocks)
    }

    /// The file's own notes.
    pub(super) fn global(&self) -> Option<Record<'_>> {
        self.with_code(Code::Global).next()
    }

    /// Datablocks of other files that this one names.
    pub(super) fn placeholders(&self) -> impl Iterator<Item = Record<'_>> {
        self.with_code(Code::Placeholder)
    }

    /// The datablock with that name and code (`OBCube`), if it is the file's own.
    pub(super) fn find(&self, name: &str) -> Option<Record<'_>> {
        self.names.get(name.as_bytes()).and_then(|block| self.record(*block, 0))
    }

    /// Every datablock of the file itself and its notes, as owners of blocks.
    pub(super) fn owners(&self) -> impl Iterator<Item = u32> {
        (0u32..).zip(&self.blocks).filter(|(_, block)| block.code != Code::Data).map(|(at, _)| at)
    }

    /// The owner's own block and all that it owns, struct by struct.
    pub(super) fn belongings(&self, owner: u32) -> impl Iterator<Item = Record<'_>> {
        self.run_of(owner).flat_map(move |block| {
            let count = self.blocks[block as usize].count;
            (0..count).map_while(move |element| self.record(block, element))
        })
    }

    /// The bytes of the owner's own block and of all that it owns.
    pub(super) fn contents(&self, owner: u32) -> impl Iterator<Item = &[u8]> {
        self.run_of(owner).filter_map(|block| self.bytes_of(block))
    }

    pub(super) fn datablock_at(&self, address: u64) -> Option<u32> {
        self.datablocks.get(&address).copied()
    }

    /// The block that an address means to an owner.
    pub(super) fn follow(&self, owner: u32, address: u64) -> Option<u32> {
        self.owned.get(&(owner, address)).copied().or_else(|| self.datablock_at(address))
    }

    /// The library that a placeholder stands in.
    pub(super) fn library_of(&self, placeholder: u32) -> Option<Record<'_>> {
        self.libraries.get(&placeholder).and_then(|library| self.record(*library, 0))
    }

    pub(super) fn code(&self, block: u32) -> Code {
        self.blocks.get(block as usize).map_or(Code::Other, |block| block.code)
    }

    pub(super) fn owner(&self, block: u32) -> u32 {
        self.blocks.get(block as usize).map_or(block, |block| block.owner)
    }

    pub(super) fn bytes_of(&self, block: u32) -> Option<&[u8]> {
        self.bytes.get(self.blocks.get(block as usize)?.bytes.clone())
    }

    /// One of the structs that a block holds; `None` past the last.
    pub(super) fn record(&self, block: u32, element: u64) -> Option<Record<'_>> {
        let of = self.layout.of_block(self.blocks.get(block as usize)?.of);
        let all = self.bytes_of(block)?;
        let bytes = match of {
            // Plain bytes are one thing, however many structs their header claims.
            None if element > 0 => return None,
            None => all,
            Some(of) if of.len == 0 => return None,
            Some(of) => {
                let start = usize::try_from(element).ok()?.checked_mul(of.len)?;
                all.get(start..start.checked_add(of.len)?)?
            }
        };
        Some(Record::new(self, block, of, bytes))
    }

    fn with_code(&self, code: Code) -> impl Iterator<Item = Record<'_>> {
        (0u32..)
            .zip(&self.blocks)
            .filter(move |(_, block)| block.code == code)
            .filter_map(|(at, _)| self.record(at, 0))
    }

    fn run_of(&self, owner: u32) -> impl Iterator<Item = u32> {
        let blocks = self.blocks.get(owner as usize..).unwrap_or_default();
        (owner..).zip(blocks).take_while(move |(_, block)| block.owner == owner).map(|(at, _)| at)
    }
}

/// The index while the file is being read.
struct Index {
    big_addresses: bool,
    format: FileFormat,
    little_endian: bool,
    bytes: Vec<u8>,
    blocks: Vec<Block>,
    /// The datablock that what follows belongs to; none if that is passed over.
    owner: Option<u32>,
    library: Option<u32>,
    datablocks: HashMap<u64, u32>,
    owned: HashMap<(u32, u64), u32>,
    libraries: HashMap<u32, u32>,
}

impl Index {
    fn new(header: &Header) -> Self {
        Self {
            big_addresses: header.pointer_size.bytes_num() == 8,
            format: header.format,
            little_endian: matches!(header.endianness, blend::parsers::Endianness::Little),
            bytes: Vec::new(),
            blocks: Vec::new(),
            owner: None,
            library: None,
            datablocks: HashMap::new(),
            owned: HashMap::new(),
            libraries: HashMap::new(),
        }
    }

    fn read_block_header(&self, source: &mut Source<'_>) -> Result<BlockHeader, Fault> {
        let mut code = [0; 4];
        source.fill(&mut code)?;
        if &code == b"ENDB" {
            return Ok(BlockHeader { code, len: 0, address: 0, of: 0, count: 0 });
        }
        let header = match self.format {
            FileFormat::Legacy => {
                let len = u64::from(self.word(source)?);
                let address = match self.big_addresses {
                    true => self.long(source)?,
                    false => u64::from(self.word(source)?),
                };
                let of = self.word(source)?;
                let count = u64::from(self.word(source)?);
                BlockHeader { code, len, address, of, count }
            }
            FileFormat::New => {
                let of = self.word(source)?;
                let address = self.long(source)?;
                let len = self.long(source)?;
                let count = self.long(source)?;
                BlockHeader { code, len, address, of, count }
            }
        };
        Ok(header)
    }

    fn word(&self, source: &mut Source<'_>) -> Result<u32, Fault> {
        let mut bytes = [0; 4];
        source.fill(&mut bytes)?;
        Ok(if self.little_endian { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    fn long(&self, source: &mut Source<'_>) -> Result<u64, Fault> {
        let mut bytes = [0; 8];
        source.fill(&mut bytes)?;
        Ok(if self.little_endian { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) })
    }

    fn read_dna(&self, source: &mut Source<'_>, block: &BlockHeader) -> Result<Vec<u8>, Fault> {
        self.check_held(source, block.len)?;
        let mut dna = Vec::new();
        source.append(&mut dna, block.len)?;
        Ok(dna)
    }

    fn add(&mut self, source: &mut Source<'_>, header: &BlockHeader) -> Result<(), Fault> {
        let code = code_of(header.code);
        let at = u32::try_from(self.blocks.len())
            .map_err(|_| Fault::TooLarge("more than four thousand million blocks"))?;
        if code != Code::Data {
            self.owner = (code != Code::Other).then_some(at);
        }
        let Some(owner) = self.owner.filter(|_| self.is_wanted(code, header)) else {
            return source.skip(header.len);
        };
        self.check_held(source, header.len)?;
        let start = self.bytes.len();
        source.append(&mut self.bytes, header.len)?;
        match code {
            Code::Data => {
                self.owned.entry((owner, header.address)).or_insert(at);
            }
            Code::Datablock(letters) => {
                self.datablocks.entry(header.address).or_insert(at);
                if &letters == b"LI" {
                    self.library = Some(at);
                }
            }
            Code::Placeholder => {
                self.datablocks.entry(header.address).or_insert(at);
                self.libraries.extend(self.library.map(|library| (at, library)));
            }
            Code::Global | Code::Other => {}
        }
        self.blocks.push(Block {
            code,
            owner,
            of: header.of,
            count: header.count,
            bytes: start..self.bytes.len(),
        });
        Ok(())
    }

    fn is_wanted(&self, code: Code, header: &BlockHeader) -> bool {
        if code != Code::Data || header.len <= SMALL_BYTES {
            return true;
        }
        let owner = self.owner.and_then(|owner| self.blocks.get(owner as usize));
        match owner.map(|owner| owner.code) {
            // A library may lie packed in the file.
            Some(Code::Datablock(letters)) if &letters == b"LI" => true,
            Some(Code::Datablock(letters)) => header.of != 0 && !GEOMETRY.contains(&&letters),
            _ => false,
        }
    }

    fn check_held(&self, source: &Source<'_>, more: u64) -> Result<(), Fault> {
        let held = held(&self.bytes, &self.blocks);
        if held.saturating_add(more) > source.held_max {
            return Err(Fault::TooLarge("its datablocks fill more memory than any real scene's"));
        }
        Ok(())
    }

    fn into_blocks(self, header: &Header, layout: Layout) -> Blocks {
        let mut blocks = Blocks {
            saved_by: BlenderVersion::new(header.version.major, header.version.minor),
            layout,
            bytes: self.bytes,
            blocks: self.blocks,
            datablocks: self.datablocks,
            owned: self.owned,
            libraries: self.libraries,
            names: HashMap::new(),
        };
        let mut names = HashMap::new();
        for owner in blocks.owners() {
            let record = blocks.record(owner, 0).filter(|record| !record.is_linked_and_packed());
            if let (Code::Datablock(_), Some(record)) = (blocks.code(owner), record) {
                names.entry(record.id_name().into_bytes().into()).or_insert(owner);
            }
        }
        blocks.names = names;
        blocks
    }
}

/// The file's header; what follows are blocks.
fn read_header(source: &mut Source<'_>) -> Result<Header, Fault> {
    let mut start = [0; 17];
    source.fill(&mut start[..7])?;
    if &start[..7] != b"BLENDER" {
        return Err(Fault::NotBlend);
    }
    source.fill(&mut start[7..12])?;
    let mut len = 12;
    // Since 5.0 the header's length follows, and later the format's version.
    if start[7].is_ascii_digit() {
        len = 17;
        source.fill(&mut start[12..])?;
        if &start[7..9] != b"17" || &start[10..12] != b"01" {
            return Err(Fault::TooNew);
        }
    }
    match header(&start[..len]) {
        Ok((_, header)) => Ok(header),
        Err(_) => Err(Fault::NotBlend),
    }
}

/// The index itself takes memory too: a block without bytes is not free.
fn held(bytes: &[u8], blocks: &[Block]) -> u64 {
    let each = size_of::<Block>() + size_of::<((u32, u64), u32)>();
    (bytes.len() + blocks.len() * each) as u64
}

fn code_of(code: [u8; 4]) -> Code {
    match &code {
        b"DATA" => Code::Data,
        b"GLOB" => Code::Global,
        b"ID\0\0" => Code::Placeholder,
        [first, second, 0, 0] if !INTERFACE.contains(&&[*first, *second]) => {
            Code::Datablock([*first, *second])
        }
        _ => Code::Other,
    }
}
