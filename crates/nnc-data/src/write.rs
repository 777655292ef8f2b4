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
/// The folder is missing, read-only or full, the file is there and read-only, or `fill` fails; then the file is as it
/// was.
pub fn write_atomically(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    Staged::new(path, fill)?.commit()
}

/// Whether `path` can be written, told before the work whose result goes there. The file is left as it is.
///
/// # Errors
/// As those of [`write_atomically`], as far as they can be foreseen.
pub fn check_writable(path: &Path) -> Result<()> {
    if is_special(path) { Ok(()) } else { Staged::new(path, |_| Ok(())).map(drop) }
}

/// Refuses to write `path` when it is one of the files that its content is made from, under whatever name. An input may
/// be a folder, of all that is below it, or a path into an archive.
///
/// # Errors
/// It is one of `inputs`, or in one of them.
pub fn check_not_input(path: &Path, inputs: &[&Path]) -> Result<()> {
    let Some(existing) = identity(path) else { return Ok(()) };
    let place = path.canonicalize().ok();
    let is_below =
        |folder: &Path| place.as_ref().zip(folder.canonicalize().ok()).is_some_and(|(p, f)| p.starts_with(f));
    let holds = |input: &Path| match input.is_dir() {
        true => is_below(input),
        false => input.ancestors().find_map(identity).as_ref() == Some(&existing),
    };
    if inputs.iter().any(|input| holds(input)) {
        let error = DataError::new(ErrorKind::BadRequest, path, "is an input, and would be overwritten");
        return Err(error.help("choose another name"));
    }
    Ok(())
}

/// What tells a regular file from every other, whatever its names.
#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some((metadata.dev(), metadata.ino()))
}

/// What tells a regular file from every other, whatever its names.
#[cfg(not(unix))]
fn identity(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok().filter(|path| path.is_file())
}

/// New content of a file, complete on the device, but beside its place. [`Staged::commit`] puts it there; several files
/// that belong together are all staged before the first is committed, so that a full device leaves the old ones.
/// Dropped without that, it is gone.
#[derive(Debug)]
#[must_use]
pub struct Staged {
    /// The file as the caller named it.
    path: PathBuf,
    /// What is replaced: a symbolic link stays one.
    target: PathBuf,
    /// Where the content is; `None` once it is in place.
    partial: Option<PathBuf>,
}

impl Staged {
    /// Writes the content of `path` with `fill` beside it. What is no regular file is written directly.
    ///
    /// # Errors
    /// As [`write_atomically`].
    pub fn new(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<Self> {
        Self::write(path, fill).map_err(|cause| cannot_write(path, &cause))
    }

    fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<Self> {
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut staged = Self { path: path.to_owned(), target, partial: None };
        if is_special(&staged.target) {
            fill_file(OpenOptions::new().write(true).open(&staged.target)?, fill)?;
            return Ok(staged);
        }
        let existing = fs::metadata(&staged.target);
        if existing.as_ref().is_ok_and(|existing| existing.permissions().readonly()) {
            let message = "the file that is there is read-only; choose another name";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        let partial = partial_name(&staged.target)?;
        let file = OpenOptions::new().write(true).create_new(true).open(&partial)?;
        staged.partial = Some(partial);
        if let Ok(existing) = existing {
            file.set_permissions(existing.permissions())?;
        }
        fill_file(file, fill)?.sync_all()?;
        Ok(staged)
    }

    /// Puts the content in its place, in one step.
    ///
    /// # Errors
    /// The system refuses; then the old content stands.
    pub fn commit(mut self) -> Result<()> {
        let Some(partial) = &self.partial else { return Ok(()) };
        fs::rename(partial, &self.target).map_err(|cause| cannot_write(&self.path, &cause))?;
        self.partial = None;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // The fault that led here is the one to report; a leftover is harmless.
            let _ = fs::remove_file(partial);
        }
    }
}

/// Removes what processes that were killed while they wrote `path` left beside it.
pub fn remove_leftovers(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else { return };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let is_leftover = |file: &str| {
        let process = file.strip_prefix(&format!(".{name}.")).and_then(|rest| rest.strip_suffix(".partial"));
        process.is_some_and(|process| process.parse::<u32>().is_ok_and(|process| process != std::process::id()))
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_leftover) {
            // One that cannot be removed does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether something is there that is no regular file.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file())
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
    fn files_that_are_staged_appear_when_they_are_committed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a"), "old").unwrap();
        let first = Staged::new(&path("a"), |file| file.write_all(b"new")).unwrap();
        assert!(Staged::new(&path("b"), |_| Err(io::ErrorKind::StorageFull.into())).is_err());
        drop(first);
        assert_eq!(fs::read(path("a")).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a"]);
        let first = Staged::new(&path("a"), |file| file.write_all(b"new")).unwrap();
        Staged::new(&path("b"), |file| file.write_all(b"b")).unwrap().commit().unwrap();
        first.commit().unwrap();
        assert_eq!(fs::read(path("a")).unwrap(), b"new");
        assert_eq!(names(folder.path()).len(), 2);
    }

    #[test]
    fn what_can_be_written_is_known_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        check_writable(&path).unwrap();
        assert!(names(folder.path()).is_empty());
        fs::write(&path, "old").unwrap();
        check_writable(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert!(check_writable(&folder.path().join("none").join("a")).is_err());
        assert!(check_writable(&path.join("below a file")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn an_input_is_known_under_every_name() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a"), "input").unwrap();
        fs::hard_link(path("a"), path("hard")).unwrap();
        symlink(path("a"), path("soft")).unwrap();
        for name in ["a", "hard", "soft"] {
            let error = check_not_input(&path(name), &[Path::new("none"), &path("a")]).unwrap_err();
            assert!(error.to_string().contains("is an input"), "{error}");
        }
        assert!(
            check_not_input(&path("a"), &[&path("a").join("train")]).is_err(),
            "an archive is read for what is in it"
        );
        assert!(check_not_input(&path("soft"), &[folder.path()]).is_err(), "a folder is read with all that is in it");
        fs::create_dir(path("other")).unwrap();
        check_not_input(&path("a"), &[&path("other"), &path("none/of/them")]).unwrap();
        check_not_input(&path("new"), &[&path("a")]).unwrap();
        fs::set_permissions(path("a"), fs::Permissions::from_mode(0o640)).unwrap();
        write_atomically(&path("a"), |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::metadata(path("a")).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_file_that_is_read_only_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "old").unwrap();
        let mut access = fs::metadata(&path).unwrap().permissions();
        access.set_readonly(true);
        fs::set_permissions(&path, access).unwrap();
        for error in [check_writable(&path).unwrap_err(), write_atomically(&path, |_| Ok(())).unwrap_err()] {
            assert!(error.to_string().contains("is read-only; choose another name"), "{error}");
        }
        assert_eq!((fs::read(&path).unwrap(), names(folder.path()).len()), (b"old".to_vec(), 1));
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
