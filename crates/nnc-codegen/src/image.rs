//! An object file laid out flat: code and its constants in one piece, with relocations applied.
//!
//! The code is position independent and calls nothing outside, so only relocations relative to the place occur
//! (`R_X86_64_PC32`, `R_X86_64_PLT32`; ELF x86-64 psABI: S + A - P, 32 bits). Any other is a bug.

use crate::{CodegenError, ENTRY};
use object::{Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, elf};
use std::collections::BTreeMap;

/// Position-independent code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// To be mapped at a page boundary, readable and executable.
    pub bytes: Vec<u8>,
    /// Where the entry begins.
    pub entry_offset: usize,
}

pub(crate) fn lay_out(file: &[u8]) -> Result<Image, CodegenError> {
    let bug = |what: String| CodegenError::Bug(format!("the object file: {what}"));
    let object = object::File::parse(file).map_err(|error| bug(error.to_string()))?;
    let mut bytes = vec![];
    let mut starts: BTreeMap<usize, usize> = BTreeMap::new();
    for section in object.sections().filter(is_loaded) {
        let alignment = (section.align() as usize).max(1);
        bytes.resize(bytes.len().next_multiple_of(alignment), 0);
        starts.insert(section.index().0, bytes.len());
        bytes.extend_from_slice(section.data().map_err(|error| bug(error.to_string()))?);
    }
    let place_of = |symbol: &object::Symbol<'_, '_>| {
        let section = symbol.section_index()?;
        Some(starts.get(&section.0)? + symbol.address() as usize)
    };
    for section in object.sections().filter(is_loaded) {
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(index) = relocation.target() else {
                return Err(bug("a relocation without a symbol".to_string()));
            };
            let symbol = object.symbol_by_index(index).map_err(|error| bug(error.to_string()))?;
            let target = place_of(&symbol).ok_or_else(|| bug(format!("it needs {:?} from outside", symbol.name())))?;
            let place = starts[&section.index().0] + offset as usize;
            apply(&mut bytes, place, target, relocation.addend(), relocation.flags()).map_err(bug)?;
        }
    }
    let entry = object.symbols().find(|symbol| symbol.name() == Ok(ENTRY));
    let entry_offset = entry.as_ref().and_then(place_of).ok_or_else(|| bug("it has no entry".to_string()))?;
    Ok(Image { bytes, entry_offset })
}

fn is_loaded(section: &object::Section<'_, '_>) -> bool {
    matches!(section.kind(), object::SectionKind::Text | object::SectionKind::ReadOnlyData)
}

fn apply(bytes: &mut [u8], place: usize, target: usize, addend: i64, flags: RelocationFlags) -> Result<(), String> {
    match flags {
        RelocationFlags::Elf { r_type: elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 } => {
            let value = target as i64 + addend - place as i64;
            let value = i32::try_from(value).map_err(|_| "code of more than 2 GB".to_string())?;
            let field = bytes.get_mut(place..place + 4).ok_or("a relocation outside its section")?;
            field.copy_from_slice(&value.to_le_bytes());
            Ok(())
        }
        other => Err(format!("the relocation {other:?}")),
    }
}
