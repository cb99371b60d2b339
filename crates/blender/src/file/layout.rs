//! What the structs of one .blend file look like: its DNA, with every field's place worked out.

use std::collections::HashMap;

use blend::parsers::Endianness;
use blend::parsers::blend::Header;
use blend::parsers::dna::{Dna, DnaParseContext, DnaStruct};

use super::error::Fault;

pub(super) struct Layout {
    structs: Vec<Struct>,
    little_endian: bool,
    pointer_bytes: usize,
}

/// A C struct of the Blender that saved the file.
pub(super) struct Struct {
    pub(super) name: Box<str>,
    pub(super) len: usize,
    fields: Vec<Field>,
}

pub(super) struct Field {
    /// Without the `*` and `[n]` of its declaration.
    name: Box<str>,
    pub(super) kind: FieldKind,
    pub(super) offset: usize,
    /// Of all its elements together, in bytes.
    pub(super) len: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldKind {
    Pointer,
    Signed {
        bytes: usize,
    },
    Unsigned {
        bytes: usize,
    },
    Float,
    Double,
    /// The struct's place in the layout.
    Struct(usize),
    Opaque,
}

impl Layout {
    /// From the `DNA1` block of a file with that header.
    pub(super) fn parse(header: &Header, bytes: &[u8]) -> Result<Self, Fault> {
        let context = DnaParseContext::new(header.endianness, header.pointer_size);
        let (_, dna) = context
            .dna(bytes)
            .map_err(|_| Fault::Damaged("its description of itself cannot be read"))?;
        let pointer_bytes = header.pointer_size.bytes_num();
        let mut places = HashMap::new();
        for (place, of) in dna.structs.iter().enumerate() {
            places.entry(of.type_index).or_insert(place);
        }
        let structs = dna
            .structs
            .iter()
            .map(|of| lay_out(&dna, &places, of, pointer_bytes))
            .collect::<Option<_>>()
            .ok_or(Fault::Damaged("its description of itself contradicts itself"))?;
        let little_endian = matches!(header.endianness, Endianness::Little);
        Ok(Self { structs, little_endian, pointer_bytes })
    }

    /// The struct of a block's header; none for place 0, which stands for plain bytes.
    pub(super) fn of_block(&self, place: u32) -> Option<&Struct> {
        if place == 0 { None } else { self.at(place as usize) }
    }

    pub(super) fn at(&self, place: usize) -> Option<&Struct> {
        self.structs.get(place)
    }

    pub(super) fn named(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|of| &*of.name == name)
    }

    pub(super) fn pointer_bytes(&self) -> usize {
        self.pointer_bytes
    }

    /// The unsigned number that fills `bytes` (at most eight of them).
    pub(super) fn number(&self, bytes: &[u8]) -> u64 {
        let fold = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        if self.little_endian {
            bytes.iter().rev().fold(0, fold)
        } else {
            bytes.iter().fold(0, fold)
        }
    }
}

impl Struct {
    pub(super) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| &*field.name == name)
    }
}

/// `None` if the description names types or names that it does not have.
fn lay_out(
    dna: &Dna,
    places: &HashMap<usize, usize>,
    of: &DnaStruct,
    pointer_bytes: usize,
) -> Option<Struct> {
    let own = dna.types.get(of.type_index)?;
    let mut offset = 0usize;
    let mut fields = Vec::with_capacity(of.fields.len());
    for field in &of.fields {
        let declared = Declarator::parse(dna.names.get(field.name_index)?)?;
        let of_type = dna.types.get(field.type_index)?;
        let place = places.get(&field.type_index).copied();
        let kind = match declared.is_pointer {
            true => FieldKind::Pointer,
            false => kind_of(&of_type.name, of_type.bytes_len, place),
        };
        let each = if declared.is_pointer { pointer_bytes } else { of_type.bytes_len };
        let len = each.checked_mul(declared.elements)?;
        fields.push(Field { name: declared.name.into(), kind, offset, len });
        offset = offset.checked_add(len)?;
    }
    Some(Struct { name: own.name.as_str().into(), len: own.bytes_len, fields })
}

fn kind_of(name: &str, bytes: usize, place: Option<usize>) -> FieldKind {
    match name {
        "char" | "short" | "int" | "long" | "int8_t" | "int16_t" | "int32_t" | "int64_t" => {
            FieldKind::Signed { bytes }
        }
        "uchar" | "ushort" | "uint" | "ulong" | "uint8_t" | "uint16_t" | "uint32_t"
        | "uint64_t" | "bool" => FieldKind::Unsigned { bytes },
        "float" => FieldKind::Float,
        "double" => FieldKind::Double,
        _ => place.map_or(FieldKind::Opaque, FieldKind::Struct),
    }
}

/// A field's name as the C declaration has it: `*next`, `name[66]`, `(*free_edit)()`.
struct Declarator<'a> {
    name: &'a str,
    is_pointer: bool,
    elements: usize,
}

impl<'a> Declarator<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        if let Some(function) = text.strip_prefix("(*") {
            let name = function.split(')').next().unwrap_or(function);
            return Some(Self { name, is_pointer: true, elements: 1 });
        }
        let bare = text.trim_start_matches('*');
        let (name, dimensions) = bare.split_once('[').unwrap_or((bare, ""));
        let elements = dimensions
            .split(['[', ']'])
            .filter(|part| !part.is_empty())
            .try_fold(1usize, |product, part| product.checked_mul(part.parse().ok()?))?;
        Some(Self { name, is_pointer: bare.len() < text.len(), elements })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_taken_apart() {
        let parse = |text| {
            Declarator::parse(text).map(|of| (of.name.to_string(), of.is_pointer, of.elements))
        };
        assert_eq!(parse("flag"), Some(("flag".into(), false, 1)));
        assert_eq!(parse("**mat"), Some(("mat".into(), true, 1)));
        assert_eq!(parse("obmat[4][4]"), Some(("obmat".into(), false, 16)));
        assert_eq!(parse("*gputexture[3][2]"), Some(("gputexture".into(), true, 6)));
        assert_eq!(parse("(*free_edit)()"), Some(("free_edit".into(), true, 1)));
        assert_eq!(parse("huge[4294967296][4294967296]"), None);
    }
}
