//! The code and data that `nnc build` has appended to this executable.
//!
//! A built executable has two segments more than the stub it is made from: one of code, mapped
//! readable and executable, and one of data, mapped read-only, which begins with a [`Header`]. The
//! system maps both when it starts the program; [`Image::own`] finds them through the program
//! headers (`dl_iterate_phdr`, which also knows how far a position-independent executable was
//! moved). Nothing is copied, and pages are read as they are touched.
//!
//! Format of the header: ELF specification, "Program Header"; the rest is ours, little-endian.

use crate::abi::EntryFn;
use std::ffi::{CStr, OsStr, c_int, c_void};
use std::os::unix::ffi::OsStrExt;

/// Size of a page, to which segments are aligned: that of x86-64.
pub const PAGE: usize = 4096;

const MAGIC: [u8; 16] = *b"nnc payload \0\x01\r\n";

/// What the data segment begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// Address of the code segment, as in the program header.
    pub code_address: u64,
    /// Bytes of code.
    pub code_bytes: u64,
    /// Bytes of the manifest, which follows the header.
    pub manifest_bytes: u64,
    /// Where the weights begin, counted from the header; a multiple of [`PAGE`].
    pub weights_offset: u64,
    /// Bytes of weights.
    pub weights_bytes: u64,
}

impl Header {
    /// Bytes of an encoded header.
    pub const BYTES: usize = 56;

    /// The header as it lies in the file.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&MAGIC);
        let fields = [self.code_address, self.code_bytes, self.manifest_bytes, self.weights_offset, self.weights_bytes];
        for (field, place) in fields.iter().zip(bytes[16..].chunks_exact_mut(8)) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// Reads a header from the start of `bytes`, if there is one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.get(..Self::BYTES)?.strip_prefix(&MAGIC)?;
        let mut fields = rest.chunks_exact(8).map(|field| {
            let mut word = [0; 8];
            word.copy_from_slice(field);
            u64::from_le_bytes(word)
        });
        Some(Self {
            code_address: fields.next()?,
            code_bytes: fields.next()?,
            manifest_bytes: fields.next()?,
            weights_offset: fields.next()?,
            weights_bytes: fields.next()?,
        })
    }
}

/// The appended parts of this executable.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    code: &'static [u8],
    manifest: &'static [u8],
    weights: &'static [u8],
}

/// Why the appended parts cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ImageError {
    /// The program headers or the header contradict each other, or the file was cut short.
    #[error("this executable is damaged: {0}")]
    Damaged(&'static str),
}

impl Image {
    /// Finds what was appended to this executable: `None` if nothing was.
    ///
    /// # Errors
    /// If the file is shorter than its segments, or they do not fit together.
    pub fn own() -> Result<Option<Self>, ImageError> {
        let segments = own_segments();
        let end = segments.iter().map(|segment| segment.file_end).max().unwrap_or(0);
        // Touching a mapped page beyond the end of its file would end the process by a signal.
        if own_file_bytes().is_some_and(|bytes| bytes < end) {
            return Err(ImageError::Damaged("the file is cut short"));
        }
        let found = segments.iter().filter(|segment| !segment.writable && !segment.executable);
        for segment in found {
            // SAFETY: the segment is mapped readable for the life of the process, its file is long
            // enough, and nobody writes to it: it has no write permission, and Linux refuses to
            // open a running executable for writing.
            let data = unsafe { std::slice::from_raw_parts(segment.start, segment.bytes) };
            if let Some(header) = Header::decode(data) {
                return Self::assemble(&header, data, &segments).map(Some);
            }
        }
        Ok(None)
    }

    fn assemble(header: &Header, data: &'static [u8], segments: &[Segment]) -> Result<Self, ImageError> {
        let code = segments
            .iter()
            .find(|segment| segment.executable && !segment.writable && segment.address == header.code_address)
            .ok_or(ImageError::Damaged("its code segment is missing"))?;
        // SAFETY: as in `own`.
        let code = unsafe { std::slice::from_raw_parts(code.start, code.bytes) };
        let part = |whole: &'static [u8], offset: u64, bytes: u64| {
            let offset = usize::try_from(offset).ok()?;
            whole.get(offset..offset.checked_add(usize::try_from(bytes).ok()?)?)
        };
        let missing = |what| ImageError::Damaged(what);
        Ok(Self {
            code: part(code, 0, header.code_bytes).ok_or(missing("its code is too short"))?,
            manifest: part(data, Header::BYTES as u64, header.manifest_bytes)
                .ok_or(missing("its description is too short"))?,
            weights: part(data, header.weights_offset, header.weights_bytes)
                .ok_or(missing("its weights are too short"))?,
        })
    }

    /// The encoded description of the program.
    pub fn manifest(&self) -> &'static [u8] {
        self.manifest
    }

    /// The weights; begin at a page.
    pub fn weights(&self) -> &'static [u8] {
        self.weights
    }

    /// The function that begins `offset` bytes into the code.
    pub(crate) fn entry(&self, offset: usize) -> Option<EntryFn> {
        let first = self.code.get(offset)?;
        // SAFETY: the address lies in a segment mapped readable and executable for the life of the
        // process. That an entry of this type begins there is what the executable was built with.
        Some(unsafe { std::mem::transmute::<*const u8, EntryFn>(std::ptr::from_ref(first)) })
    }
}

/// A `PT_LOAD` segment of this executable.
#[derive(Clone, Copy, Debug)]
struct Segment {
    /// Where it is mapped.
    start: *const u8,
    bytes: usize,
    /// Its address in the program header, before the executable was moved.
    address: u64,
    /// The end of its bytes in the file.
    file_end: u64,
    writable: bool,
    executable: bool,
}

fn own_segments() -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    // SAFETY: `collect` has the type that is asked for, and its data pointer is to `segments`,
    // which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(collect), (&raw mut segments).cast::<c_void>()) };
    segments
}

/// The length of this executable's file; `None` where it cannot be told.
///
/// The file is found by `AT_EXECFN`, not by `/proc/self/exe`, which names the dynamic linker when
/// that was told to run a program.
fn own_file_bytes() -> Option<u64> {
    // SAFETY: reads a word that the system gave this process; 0 if there is none.
    let name = usize::try_from(unsafe { libc::getauxval(libc::AT_EXECFN) }).ok()?;
    if name == 0 {
        return None;
    }
    // SAFETY: the word is the address of a string that the system put above the stack, and that
    // stays there for the life of the process (getauxval(3)).
    let name = unsafe { CStr::from_ptr(std::ptr::with_exposed_provenance(name)) };
    let file = std::fs::metadata(OsStr::from_bytes(name.to_bytes())).ok()?;
    Some(file.len())
}

/// Called first for the executable itself (dl_iterate_phdr(3)); ends the iteration there.
unsafe extern "C" fn collect(info: *mut libc::dl_phdr_info, _size: usize, data: *mut c_void) -> c_int {
    // SAFETY: the C library passes a valid description, whose headers are an array of `dlpi_phnum`
    // entries; `data` is what `own_segments` gave.
    let (base, headers, segments) = unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        (info.dlpi_addr, headers, &mut *data.cast::<Vec<Segment>>())
    };
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD) {
        let address = base.wrapping_add(header.p_vaddr);
        segments.push(Segment {
            start: std::ptr::with_exposed_provenance(usize::try_from(address).unwrap_or(0)),
            bytes: usize::try_from(header.p_filesz).unwrap_or(0),
            address: header.p_vaddr,
            file_end: header.p_offset.saturating_add(header.p_filesz),
            writable: header.p_flags & libc::PF_W != 0,
            executable: header.p_flags & libc::PF_X != 0,
        });
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips() {
        let header = Header {
            code_address: 1 << 40,
            code_bytes: 2,
            manifest_bytes: 3,
            weights_offset: 4096,
            weights_bytes: u64::MAX,
        };
        assert_eq!(Header::decode(&header.encode()), Some(header));
        assert_eq!(Header::decode(&header.encode()[..50]), None);
        assert_eq!(Header::decode(&[0; 64]), None);
    }

    #[test]
    fn this_test_has_segments_but_no_image() {
        let segments = own_segments();
        assert!(segments.iter().any(|segment| segment.executable));
        assert!(segments.iter().all(|segment| !(segment.executable && segment.writable)));
        assert_eq!(own_file_bytes(), std::fs::metadata("/proc/self/exe").ok().map(|file| file.len()));
        assert!(Image::own().unwrap().is_none());
    }

    #[test]
    fn contradicting_headers_are_damage() {
        static DATA: [u8; 64] = [0; 64];
        let code = |address| Segment {
            start: DATA.as_ptr(),
            bytes: 8,
            address,
            file_end: 8,
            writable: false,
            executable: true,
        };
        let fits = Header { code_address: 5, code_bytes: 8, manifest_bytes: 8, ..Header::default() };
        assert!(Image::assemble(&fits, &DATA, &[code(5)]).is_ok());
        for (header, address) in [
            (fits, 6),
            (Header { code_bytes: 9, ..fits }, 5),
            (Header { manifest_bytes: 9, ..fits }, 5),
            (Header { weights_offset: 60, weights_bytes: 5, ..fits }, 5),
            (Header { weights_offset: u64::MAX, weights_bytes: 5, ..fits }, 5),
        ] {
            assert!(Image::assemble(&header, &DATA, &[code(address)]).is_err());
        }
    }
}
