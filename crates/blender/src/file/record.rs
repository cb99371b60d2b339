//! One struct in a .blend file, read field by field. Whatever a file lacks is `None`: fields come
//! and go with Blender's versions, and files are damaged.

use super::blocks::{Blocks, Code};
use super::layout::{Field, FieldKind, Struct};

#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    blocks: &'a Blocks,
    block: u32,
    of: Option<&'a Struct>,
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    pub(super) fn new(
        blocks: &'a Blocks,
        block: u32,
        of: Option<&'a Struct>,
        bytes: &'a [u8],
    ) -> Self {
        Self { blocks, block, of, bytes }
    }

    /// The name of the struct; empty for plain bytes.
    pub(super) fn struct_name(&self) -> &'a str {
        self.of.map_or("", |of| &of.name)
    }

    pub(super) fn has(&self, field: &str) -> bool {
        self.field(field).is_some()
    }

    /// A whole number; of an array the first.
    pub(super) fn int(&self, field: &str) -> Option<i64> {
        let field = self.field(field)?;
        let layout = &self.blocks.layout;
        match field.kind {
            FieldKind::Signed { bytes: 8 } | FieldKind::Unsigned { bytes: 8 } => {
                Some(layout.number(self.slice(field)?.get(..8)?) as i64)
            }
            FieldKind::Unsigned { bytes } => {
                Some(layout.number(self.slice(field)?.get(..bytes)?) as i64)
            }
            FieldKind::Signed { bytes } => {
                let number = layout.number(self.slice(field)?.get(..bytes)?) as i64;
                let unused = 64u32.checked_sub(u32::try_from(bytes).ok()?.checked_mul(8)?)?;
                Some(number.checked_shl(unused)? >> unused)
            }
            _ => None,
        }
    }

    /// Whether a bit of a whole number is set.
    pub(super) fn flag(&self, field: &str, bit: i64) -> bool {
        self.int(field).is_some_and(|flags| flags & bit != 0)
    }

    pub(super) fn float(&self, field: &str) -> Option<f64> {
        let field = self.field(field)?;
        let layout = &self.blocks.layout;
        match field.kind {
            FieldKind::Float => {
                let bits = layout.number(self.slice(field)?.get(..4)?) as u32;
                Some(f64::from(f32::from_bits(bits)))
            }
            FieldKind::Double => Some(f64::from_bits(layout.number(self.slice(field)?.get(..8)?))),
            _ => None,
        }
    }

    /// The text of a `char` array up to its zero byte; what is no UTF-8 becomes `�`.
    pub(super) fn text(&self, field: &str) -> String {
        let bytes = self.field(field).and_then(|field| self.slice(field)).unwrap_or_default();
        text_of(bytes)
    }

    /// The text that a `char *` points to.
    pub(super) fn text_behind(&self, field: &str) -> String {
        let target = self.pointer(field).and_then(|to| self.blocks.follow(self.owner(), to));
        target.and_then(|block| self.blocks.bytes_of(block)).map(text_of).unwrap_or_default()
    }

    /// The bytes that a pointer leads to.
    pub(super) fn bytes_behind(&self, field: &str) -> Option<&'a [u8]> {
        self.blocks.bytes_of(self.blocks.follow(self.owner(), self.pointer(field)?)?)
    }

    /// Whether a pointer points anywhere, be it to something that the file does not have.
    pub(super) fn points(&self, field: &str) -> bool {
        self.pointer(field).is_some()
    }

    /// The struct inside this one.
    pub(super) fn inside(&self, field: &str) -> Option<Self> {
        let field = self.field(field)?;
        let FieldKind::Struct(place) = field.kind else { return None };
        let of = self.blocks.layout.at(place)?;
        let bytes = self.slice(field)?.get(..of.len)?;
        Some(Self { blocks: self.blocks, block: self.block, of: Some(of), bytes })
    }

    /// The struct that a pointer leads to; of several the first.
    pub(super) fn follow(&self, field: &str) -> Option<Self> {
        let block = self.blocks.follow(self.owner(), self.pointer(field)?)?;
        self.blocks.record(block, 0)
    }

    /// All structs of the array that a pointer leads to.
    pub(super) fn array(&self, field: &str) -> impl Iterator<Item = Self> + use<'a> {
        let block = self.pointer(field).and_then(|to| self.blocks.follow(self.owner(), to));
        let blocks = self.blocks;
        block
            .into_iter()
            .flat_map(move |block| (0..).map_while(move |element| blocks.record(block, element)))
    }

    /// The elements of a list (Blender's `ListBase`); one that is tied into a ring ends too.
    pub(super) fn list(&self, field: &str) -> List<'a> {
        let first = self.inside(field).and_then(|ends| ends.follow("first"));
        List { next: first, mark: None, steps: 0, turn: 1 }
    }

    /// Whether a list has no elements, be they in the file or not.
    pub(super) fn is_list_empty(&self, field: &str) -> bool {
        !self.inside(field).is_some_and(|ends| ends.points("first"))
    }

    /// A datablock's name with its code, such as `OBCube`.
    pub(super) fn id_name(&self) -> String {
        self.id().map(|id| id.text("name")).unwrap_or_default()
    }

    /// A datablock's name as people see it.
    pub(super) fn name(&self) -> String {
        self.id_name().chars().skip(2).collect()
    }

    /// What all datablocks have in common.
    pub(super) fn id(&self) -> Option<Self> {
        if self.struct_name() == "ID" { Some(*self) } else { self.inside("id") }
    }

    /// Whether this datablock was linked and then packed into this file (5.0 and later).
    pub(super) fn is_linked_and_packed(&self) -> bool {
        const LINKED_AND_PACKED: i64 = 1 << 15;
        self.id().is_some_and(|id| id.flag("flag", LINKED_AND_PACKED))
    }

    /// Whether this is a datablock of another file, of which only the name is here.
    pub(super) fn is_placeholder(&self) -> bool {
        self.blocks.code(self.block) == Code::Placeholder
    }

    /// The library of a placeholder.
    pub(super) fn library(&self) -> Option<Self> {
        self.blocks.library_of(self.block)
    }

    /// The datablock that this belongs to, as a place among the blocks.
    pub(super) fn owner(&self) -> u32 {
        self.blocks.owner(self.block)
    }

    pub(super) fn code(&self) -> Code {
        self.blocks.code(self.block)
    }

    fn field(&self, name: &str) -> Option<&'a Field> {
        self.of?.field(name)
    }

    fn slice(&self, field: &Field) -> Option<&'a [u8]> {
        self.bytes.get(field.offset..field.offset.checked_add(field.len)?)
    }

    /// The address in a pointer; `None` for null.
    fn pointer(&self, name: &str) -> Option<u64> {
        let field = self.field(name).filter(|field| field.kind == FieldKind::Pointer)?;
        let layout = &self.blocks.layout;
        let address = layout.number(self.slice(field)?.get(..layout.pointer_bytes())?);
        (address != 0).then_some(address)
    }
}

/// Elements that point each to the next.
pub(super) struct List<'a> {
    next: Option<Record<'a>>,
    /// An element passed before: to meet it again is to go in circles (Brent's method).
    mark: Option<u32>,
    steps: usize,
    turn: usize,
}

impl<'a> Iterator for List<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let element = self.next.filter(|element| self.mark != Some(element.block))?;
        self.steps += 1;
        if self.steps == self.turn {
            self.mark = Some(element.block);
            self.turn *= 2;
        }
        self.next = element.follow("next");
        Some(element)
    }
}

fn text_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
