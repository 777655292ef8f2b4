//! Files that are written whole or not at all.
//!
//! The content goes to a new file in the same folder, is flushed to the device, and takes the
//! name in one step (POSIX `rename`). A reader sees the old content or the new, and a fault or a
//! kill leaves the old one in place. What is no regular file, such as a pipe, is written directly.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{DataError, ErrorKind, Result};

/// Writes the file `path` with `fill`: whole, or not at all.
///
/// # Errors
/// The folder is missing, read-only or full, or `fill` fails; then the file is as it was.
pub fn write_atomically(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    replace(path, fill).map_err(|cause| cannot_write(path, &cause))
}

/// Writes beside `path` and renames.
fn replace(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    // A symbolic link stays one: what it points to is replaced.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if fs::metadata(&target).is_ok_and(|metadata| !metadata.is_file()) {
        return fill_file(OpenOptions::new().write(true).open(&target)?, fill).map(drop);
    }
    let partial = partial_name(&target)?;
    let file = OpenOptions::new().write(true).create_new(true).open(&partial)?;
    let written = fill_file(file, fill).and_then(|file| file.sync_all()).and_then(|()| fs::rename(&partial, &target));
    if written.is_err() {
        // The first fault is the one to report; a leftover is harmless.
        let _ = fs::remove_file(&partial);
    }
    written
}

/// Fills `file` through a buffer.
fn fill_file(file: File, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<File> {
    let mut buffered = BufWriter::new(file);
    fill(&mut buffered)?;
    buffered.into_inner().map_err(io::IntoInnerError::into_error)
}

/// A name beside `target` that no other process uses, and that is free.
fn partial_name(target: &Path) -> io::Result<PathBuf> {
    let name = target.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no file name"))?;
    let mut partial = OsString::from(".");
    partial.push(name);
    partial.push(format!(".{}.partial", std::process::id()));
    let path = target.with_file_name(partial);
    match fs::remove_file(&path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        Ok(()) | Err(_) => Ok(path),
    }
}

/// The fault of a file that cannot be written.
fn cannot_write(path: &Path, cause: &io::Error) -> DataError {
    let message = format!("cannot be written: {cause}");
    let error = DataError::new(ErrorKind::Unwritable, path, message);
    match cause.kind() {
        io::ErrorKind::NotFound => error.help("create its folder first"),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            error.help("choose a folder you may write to")
        }
        io::ErrorKind::StorageFull => error.help("free some space or choose another folder"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<OsString> {
        let entries = folder.read_dir().unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn replaces_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "old").unwrap();
        write_atomically(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn a_fault_leaves_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "old").unwrap();
        let error = write_atomically(&path, |file| {
            file.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unwritable);
        assert!(error.help.unwrap().contains("space"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn a_missing_folder_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none").join("a");
        let error = write_atomically(&path, |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("create its folder"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_atomically(&link, |to| to.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }
}
