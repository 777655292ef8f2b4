//! Files mapped into memory for reading, so that weights are loaded by the page as they are used.

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::path::Path;

/// The bytes of a file, read-only, aligned to a page.
///
/// The file must not be changed or cut while it is mapped: reading a page that is gone ends the
/// process, and changed bytes are seen. Checkpoints are replaced by renaming, never changed in
/// place, so a mapping of one keeps the old bytes.
#[derive(Debug)]
pub struct MappedFile {
    map: Option<Mmap>,
}

impl MappedFile {
    /// Maps the whole file at `path`.
    ///
    /// # Errors
    /// If it cannot be opened or mapped.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if metadata.len() == 0 {
            return Ok(Self { map: None });
        }
        // SAFETY: the mapping is private and read-only. That nobody changes the file meanwhile
        // cannot be enforced on Linux; the type's doc makes it a condition of use.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { map: Some(map) })
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        std::fs::write(&path, b"abc").unwrap();
        assert_eq!(MappedFile::open(&path).unwrap().bytes(), b"abc");
        std::fs::write(folder.path().join("empty"), b"").unwrap();
        assert!(MappedFile::open(&folder.path().join("empty")).unwrap().bytes().is_empty());
        assert!(MappedFile::open(&folder.path().join("none")).is_err());
        assert!(MappedFile::open(folder.path()).is_err());
    }
}
