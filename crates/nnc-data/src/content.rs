//! Reads whole files, unpacks gzip by content, and tells formats apart by their first bytes.
//!
//! Files are read whole: an example is small and a table lives in memory anyway. Memory grows
//! only with bytes that were really read, never with what a header claims. Deflate can expand about
//! a thousandfold, so what is unpacked, as what is read, is at most half of the memory that is free:
//! a process that asks for more than there is gets ended.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::error::{DataError, ErrorKind, Result};
use crate::similar;

/// What a file is wanted for; it decides the advice when the file is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Named by a data block: `--data DIR` says where to look.
    Source,
    /// Given on the command line.
    Input,
}

/// A format, as the first bytes tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A gzip stream (RFC 1952).
    Gzip,
    /// A NumPy array.
    Npy,
    /// A zip archive, as `numpy.savez` makes.
    Zip,
    /// Portable network graphics.
    Png,
    /// A JPEG image.
    Jpeg,
    /// The format of the original MNIST files.
    Idx,
    /// Printable text: a table of numbers.
    Text,
    /// Another format that is known by name, and not read.
    Foreign(&'static str),
    /// Nothing known.
    Unknown,
}

impl Format {
    /// What a file of this format is, where it is evidently no text.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Format::Text | Format::Unknown => None,
            Format::Foreign(name) => Some(name),
            Format::Gzip => Some("a gzip file within a gzip file"),
            Format::Npy => Some("an .npy file"),
            Format::Zip => Some("a zip archive"),
            Format::Png | Format::Jpeg => Some("an image"),
            Format::Idx => Some("an idx file"),
        }
    }
}

const FOREIGN: [(&[u8], &str); 12] = [
    (b"GIF8", "a GIF image"),
    (b"\xFF\xFE", "text in UTF-16"),
    (b"RIFF", "a RIFF file (WAV or WebP)"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"%PDF", "a PDF document"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PAR1", "a Parquet file"),
    (b"BZh", "a bzip2 file"),
    (b"\xFD7zXZ", "an xz file"),
    (b"\x28\xB5\x2F\xFD", "a Zstandard file"),
    (b"\x80\x04", "a Python pickle"),
];

/// Tells the format of `content` from its first bytes.
pub(crate) fn sniff(content: &[u8]) -> Format {
    let starts = |magic: &[u8]| content.starts_with(magic);
    if starts(b"\x1F\x8B") {
        return Format::Gzip;
    }
    if starts(b"\x93NUMPY") {
        return Format::Npy;
    }
    if starts(b"PK\x03\x04") || starts(b"PK\x05\x06") {
        return Format::Zip;
    }
    if starts(b"\x89PNG\r\n\x1A\n") {
        return Format::Png;
    }
    if starts(b"\xFF\xD8\xFF") {
        return Format::Jpeg;
    }
    if matches!(content, [0, 0, 0x08..=0x0E, 1..=16, ..]) {
        return Format::Idx;
    }
    // Two letters may begin a line of text; the zeros are reserved fields of a BMP header.
    if matches!(content, [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..]) {
        return Format::Foreign("a BMP image");
    }
    let foreign = FOREIGN.iter().find(|(magic, _)| starts(magic));
    if let Some((_, name)) = foreign {
        return Format::Foreign(name);
    }
    if is_text(content) {
        return Format::Text;
    }
    Format::Unknown
}

/// Whether the first bytes are printable, as a table of numbers is.
fn is_text(content: &[u8]) -> bool {
    let head = &content[..content.len().min(1024)];
    let printable = |&byte: &u8| byte >= b' ' && byte != 0x7F || matches!(byte, b'\t' | b'\r' | b'\n');
    head.iter().all(printable)
}

/// Shows the first bytes of `content` for a message.
pub(crate) fn first_bytes(content: &[u8]) -> String {
    if content.is_empty() {
        return "is empty".to_owned();
    }
    let shown: Vec<String> = content.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("begins with the bytes {}", shown.join(" "))
}

/// The content of the file at `path`, unpacked if it is a gzip stream.
pub(crate) fn read_file(path: &Path, role: Role) -> Result<Vec<u8>> {
    let content = read_raw(path, role)?;
    unpack(content, path)
}

/// The content of the file at `path` as it is.
pub(crate) fn read_raw(path: &Path, role: Role) -> Result<Vec<u8>> {
    // A pipe to which nobody writes could not even be opened.
    let metadata = path.metadata().map_err(|cause| cannot_read(path, &cause, role))?;
    let kind = metadata.file_type();
    let refused = match role {
        _ if kind.is_dir() => Some("is a folder, a file is expected here"),
        // Some of them have no end.
        _ if kind.is_char_device() || kind.is_block_device() => Some("is a device, a file is expected here"),
        Role::Source if !kind.is_file() => Some("is a pipe, a file is expected here"),
        Role::Source | Role::Input => None,
    };
    if let Some(why) = refused {
        return Err(DataError::new(ErrorKind::Unreadable, path, why));
    }
    if metadata.len() > ALWAYS_FITS {
        let room = room();
        if usize::try_from(metadata.len()).unwrap_or(usize::MAX) > room {
            return Err(too_large(path, &format!("has {} MB", metadata.len() >> 20), room));
        }
    }
    let mut file = File::open(path).map_err(|cause| cannot_read(path, &cause, role))?;
    let mut content = Vec::new();
    file.read_to_end(&mut content).map_err(|cause| cannot_read(path, &cause, role))?;
    Ok(content)
}

/// Bytes of a file for which the memory that is free is not asked for: a folder may have many of such.
const ALWAYS_FITS: u64 = 1 << 24;

/// The most bytes that a file may have, packed or not: half of the memory that is free. Any number where that cannot be
/// told.
fn room() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    available_bytes(&text).map_or(usize::MAX, |bytes| bytes / 2)
}

/// The memory that is free by the text of `/proc/meminfo` (proc_meminfo(5)), whose unit is 1024 bytes.
fn available_bytes(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)
}

/// The fault of a file that memory does not hold.
fn too_large(path: &Path, found: &str, room: usize) -> DataError {
    let message = format!("{found}, and at most half of the free memory is taken, {} MB", room >> 20);
    DataError::new(ErrorKind::TooLarge, path, message).help("divide it, or leave out what is not read")
}

/// Everything on standard input, unpacked if it is a gzip stream.
pub(crate) fn read_stdin() -> Result<Vec<u8>> {
    let path = Path::new("standard input");
    let mut content = Vec::new();
    io::stdin().lock().read_to_end(&mut content).map_err(|cause| cannot_read(path, &cause, Role::Input))?;
    unpack(content, path)
}

/// The fault of a file that cannot be opened or read.
pub(crate) fn cannot_read(path: &Path, cause: &io::Error, role: Role) -> DataError {
    if cause.kind() == io::ErrorKind::NotFound {
        return similar::missing(path, role);
    }
    let message = format!("cannot be read: {cause}");
    DataError::new(ErrorKind::Unreadable, path, message)
}

/// Unpacks `content` if it is a gzip stream, and passes it through otherwise.
pub(crate) fn unpack(content: Vec<u8>, path: &Path) -> Result<Vec<u8>> {
    if sniff(&content) == Format::Gzip { gunzip(&content, path, room()) } else { Ok(content) }
}

/// Unpacks the gzip stream `packed`, which may have several members, to at most `room` bytes.
#[cfg(feature = "gz")]
fn gunzip(packed: &[u8], path: &Path, room: usize) -> Result<Vec<u8>> {
    use crate::error::Place;

    let mut content = Vec::new();
    let mut stream = flate2::bufread::MultiGzDecoder::new(packed).take((room as u64).saturating_add(1));
    let cause = match stream.read_to_end(&mut content) {
        Ok(_) if content.len() > room => return Err(too_large(path, "unpacks to more than memory holds", room)),
        Ok(_) => return Ok(content),
        Err(cause) if cause.kind() == io::ErrorKind::OutOfMemory => {
            return Err(too_large(path, "unpacks to more than memory holds", room));
        }
        Err(cause) => cause,
    };
    let place = Place::Byte(content.len() as u64);
    let error = if cause.kind() == io::ErrorKind::UnexpectedEof {
        let message = format!("the gzip stream is cut off after {} packed bytes", packed.len());
        DataError::new(ErrorKind::Truncated, path, message)
    } else {
        let message = format!("the gzip stream is damaged: {cause}");
        DataError::new(ErrorKind::Malformed, path, message)
    };
    Err(error.at(place).help("download or copy the file again"))
}

/// Refuses gzip in a build without it.
#[cfg(not(feature = "gz"))]
fn gunzip(_packed: &[u8], path: &Path, _room: usize) -> Result<Vec<u8>> {
    let message = "is packed with gzip, which this program was built without";
    Err(DataError::new(ErrorKind::Unsupported, path, message).help("unpack it with `gunzip`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_content() {
        assert_eq!(sniff(b"\x1F\x8B\x08"), Format::Gzip);
        assert_eq!(sniff(b"\x93NUMPY\x01"), Format::Npy);
        assert_eq!(sniff(b"\0\0\x08\x03rest"), Format::Idx);
        assert_eq!(sniff(b"1,2,3\n"), Format::Text);
        assert_eq!(sniff(b"GIF89a"), Format::Foreign("a GIF image"));
        assert_eq!(sniff(b"BM\x10\0\0\0\0\0\0\0"), Format::Foreign("a BMP image"));
        assert_eq!(sniff(b"BMI,age\n20.1,33\n"), Format::Text);
        assert_eq!(sniff(b"\0\x01\x02"), Format::Unknown);
    }

    #[test]
    fn free_memory_is_read_off() {
        let text = "MemTotal:       1000 kB\nMemFree:  3 kB\nMemAvailable:     70 kB\n";
        assert_eq!(available_bytes(text), Some(70 * 1024));
        assert_eq!(available_bytes("MemTotal: 3 kB\n"), None);
        if cfg!(target_os = "linux") {
            assert!((1 << 20..1 << 50).contains(&room()));
        }
    }

    #[cfg(feature = "gz")]
    #[test]
    fn what_unpacks_to_more_than_there_is_room_for_is_told_so() {
        use flate2::{Compression, write::GzEncoder};
        use std::io::Write;

        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&[b'1'; 3 << 20]).unwrap();
        let packed = encoder.finish().unwrap();
        assert!(packed.len() < 100_000);
        assert_eq!(gunzip(&packed, Path::new("a.csv.gz"), 3 << 20).unwrap().len(), 3 << 20);
        let error = gunzip(&packed, Path::new("a.csv.gz"), 2 << 20).unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge);
        let words = "a.csv.gz: unpacks to more than memory holds, and at most half of the free memory is taken, 2 MB";
        assert!(error.to_string().starts_with(words), "{error}");
        assert!(!error.to_string().contains("download"), "{error}");
    }

    #[cfg(feature = "gz")]
    #[test]
    fn a_cut_gzip_stream_is_reported_as_such() {
        use flate2::{Compression, write::GzEncoder};
        use std::io::Write;

        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let plain: Vec<u8> = (0..5000u32).map(|index| (index * index % 251) as u8).collect();
        encoder.write_all(&plain).unwrap();
        let packed = encoder.finish().unwrap();

        assert_eq!(unpack(packed.clone(), Path::new("a.gz")).unwrap(), plain);
        let cut = packed[..packed.len() / 2].to_vec();
        let error = unpack(cut, Path::new("a.gz")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Truncated);
        let mut damaged = packed;
        damaged[0x20] ^= 0xFF;
        let error = unpack(damaged, Path::new("a.gz")).unwrap_err();
        assert!(error.help.is_some());
    }
}
