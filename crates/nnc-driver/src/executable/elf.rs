//! Adds loaded segments to a finished ELF executable.
//!
//! The table of program headers stands between other parts of the file and cannot grow, but some
//! of its entries are dispensable: notes, and the index of unwinding tables, since the stub never
//! unwinds. Two of them make room for two `PT_LOAD` entries, which go behind the last that is
//! there, because the table must list loaded segments by rising addresses. The new segments get
//! the addresses behind all others.
//!
//! The table of sections is cut off (its entries in the ELF header become zero): it does not know
//! of the new parts, and a tool that rewrites the file by sections, such as `strip`, would lose
//! them. Without it such tools refuse.
//!
//! Format: System V ABI, "Object Files" and "Program Header"; 64-bit, little-endian.

use nnc_runtime::image::PAGE;

const LOAD: u32 = 1;
const NOTE: u32 = 4;
const GNU_EH_FRAME: u32 = 0x6474_e550;
const GNU_PROPERTY: u32 = 0x6474_e553;
/// What the stub can do without, the most dispensable first.
const DISPENSABLE: [u32; 3] = [NOTE, GNU_PROPERTY, GNU_EH_FRAME];

const EXECUTE: u32 = 1;
const READ: u32 = 4;

/// Bytes of a program header.
const HEADER: usize = 56;
/// Places in the ELF header.
const PROGRAM_HEADERS: usize = 0x20;
const SECTION_HEADERS: usize = 0x28;
const HEADER_SIZE: usize = 0x36;
const HEADER_COUNT: usize = 0x38;
const SECTION_COUNT: usize = 0x3c;

/// Bytes that will be appended to the file at `offset`, a multiple of [`PAGE`].
#[derive(Clone, Copy, Debug)]
pub struct Appended {
    /// Where in the file.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// Whether they are code; else they are read-only data.
    pub executable: bool,
}

/// Changes the program headers of `file` so that `parts` are loaded; returns their addresses.
///
/// # Errors
/// If the file is not an ELF executable with two dispensable headers.
pub fn append<const N: usize>(file: &mut [u8], parts: [Appended; N]) -> Result<[u64; N], &'static str> {
    if !file.starts_with(b"\x7fELF\x02\x01") || get::<2>(file, HEADER_SIZE) != Some(HEADER as u64) {
        return Err("it is no 64-bit ELF file");
    }
    let start = get::<8>(file, PROGRAM_HEADERS).and_then(|start| usize::try_from(start).ok());
    let count = get::<2>(file, HEADER_COUNT).and_then(|count| usize::try_from(count).ok());
    let (start, count) = start.zip(count).ok_or("its header is cut short")?;
    let table = count.checked_mul(HEADER).and_then(|bytes| file.get_mut(start..start.checked_add(bytes)?));
    let table = table.ok_or("its program headers are cut short")?;

    let mut headers: Vec<ProgramHeader> = table.chunks_exact(HEADER).map(ProgramHeader::read).collect();
    for _ in 0..N {
        remove_dispensable(&mut headers)?;
    }
    let mut addresses = [0; N];
    for (part, address) in parts.iter().zip(&mut addresses) {
        *address = insert(&mut headers, part)?;
    }
    for (header, place) in headers.iter().zip(table.chunks_exact_mut(HEADER)) {
        header.write(place);
    }
    file[SECTION_HEADERS..SECTION_HEADERS + 8].fill(0);
    file[SECTION_COUNT..SECTION_COUNT + 4].fill(0);
    Ok(addresses)
}

fn remove_dispensable(headers: &mut Vec<ProgramHeader>) -> Result<(), &'static str> {
    let find = |kind: &u32| headers.iter().position(|header| header.kind == *kind);
    let place = DISPENSABLE.iter().find_map(find).ok_or("it has too few dispensable program headers")?;
    headers.remove(place);
    Ok(())
}

/// Puts a header for `part` behind the last loaded one.
fn insert(headers: &mut Vec<ProgramHeader>, part: &Appended) -> Result<u64, &'static str> {
    let last = headers.iter().rposition(|header| header.kind == LOAD).ok_or("it loads nothing")?;
    let ends = headers.iter().filter(|header| header.kind == LOAD);
    let end = ends.map(|header| header.address.saturating_add(header.memory_bytes)).max().unwrap_or(0);
    let address = end.checked_next_multiple_of(PAGE as u64).ok_or("its addresses are too large")?;
    let flags = if part.executable { READ | EXECUTE } else { READ };
    let header = ProgramHeader {
        kind: LOAD,
        flags,
        offset: part.offset,
        address,
        physical: address,
        file_bytes: part.bytes,
        memory_bytes: part.bytes,
        align: PAGE as u64,
    };
    headers.insert(last + 1, header);
    Ok(address)
}

/// An entry of the table, field by field in the order of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical: u64,
    file_bytes: u64,
    memory_bytes: u64,
    align: u64,
}

impl ProgramHeader {
    /// Reads an entry of [`HEADER`] bytes.
    fn read(bytes: &[u8]) -> Self {
        let word = |place| get::<8>(bytes, place).unwrap_or(0);
        let half = |place| get::<4>(bytes, place).and_then(|half| u32::try_from(half).ok()).unwrap_or(0);
        Self {
            kind: half(0),
            flags: half(4),
            offset: word(8),
            address: word(16),
            physical: word(24),
            file_bytes: word(32),
            memory_bytes: word(40),
            align: word(48),
        }
    }

    /// Writes it to [`HEADER`] bytes.
    fn write(&self, to: &mut [u8]) {
        to[..4].copy_from_slice(&self.kind.to_le_bytes());
        to[4..8].copy_from_slice(&self.flags.to_le_bytes());
        let words = [self.offset, self.address, self.physical, self.file_bytes, self.memory_bytes, self.align];
        for (word, place) in words.iter().zip(to[8..].chunks_exact_mut(8)) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// The little-endian number of `SIZE` bytes at `place`.
fn get<const SIZE: usize>(bytes: &[u8], place: usize) -> Option<u64> {
    let number = bytes.get(place..place.checked_add(SIZE)?)?;
    Some(number.iter().rev().fold(0, |value, &byte| (value << 8) | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u32, address: u64, bytes: u64) -> ProgramHeader {
        let (physical, file_bytes, memory_bytes) = (address, bytes, bytes);
        ProgramHeader { kind, flags: READ, offset: 0, address, physical, file_bytes, memory_bytes, align: 1 }
    }

    fn file(headers: &[ProgramHeader]) -> Vec<u8> {
        let mut file = vec![0; 64 + headers.len() * HEADER];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[PROGRAM_HEADERS] = 64;
        file[SECTION_HEADERS] = 1;
        file[SECTION_COUNT] = 1;
        file[HEADER_SIZE] = 56;
        file[HEADER_COUNT] = u8::try_from(headers.len()).unwrap();
        for (header, place) in headers.iter().zip(file[64..].chunks_exact_mut(HEADER)) {
            header.write(place);
        }
        file
    }

    fn parts() -> [Appended; 2] {
        [
            Appended { offset: 0x3000, bytes: 0x1801, executable: false },
            Appended { offset: 0x5000, bytes: 10, executable: true },
        ]
    }

    #[test]
    fn loads_follow_the_last_load() {
        let kinds = [6, LOAD, LOAD, GNU_EH_FRAME, 0x6474_e551, NOTE];
        let headers = kinds.map(|kind| header(kind, if kind == LOAD { 0x1000 } else { 0 }, 0x123));
        let mut file = file(&headers);
        assert_eq!(append(&mut file, parts()), Ok([0x2000, 0x4000]));
        let found: Vec<ProgramHeader> = file[64..].chunks_exact(HEADER).map(ProgramHeader::read).collect();
        let kinds: Vec<u32> = found.iter().map(|header| header.kind).collect();
        assert_eq!(kinds, [6, LOAD, LOAD, LOAD, LOAD, 0x6474_e551]);
        assert_eq!((found[3].flags, found[4].flags), (READ, READ | EXECUTE));
        assert_eq!((found[3].offset, found[3].file_bytes, found[3].align), (0x3000, 0x1801, 4096));
        assert_eq!(file[SECTION_HEADERS], 0);
    }

    #[test]
    fn other_files_are_refused() {
        assert!(append(&mut [], parts()).is_err());
        assert!(append(&mut b"#!/bin/sh".to_vec(), parts()).is_err());
        let one_note = [header(LOAD, 0, 1), header(NOTE, 0, 1)];
        assert!(append(&mut file(&one_note), parts()).unwrap_err().contains("dispensable"));
        let mut cut = file(&one_note);
        cut.truncate(100);
        assert!(append(&mut cut, parts()).unwrap_err().contains("cut short"));
        assert_eq!(append(&mut file(&[header(NOTE, 0, 1); 2]), parts()), Err("it loads nothing"));
    }
}
