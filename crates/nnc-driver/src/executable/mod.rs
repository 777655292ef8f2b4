//! Writes native executables: the stub, with compiled code and weights appended.
//!
//! ```text
//! stub (ELF)  | header manifest | weights | code
//!             | read-only segment         | executable segment
//! ```
//! Each part begins at a page. The two segments take the place of program headers that the stub
//! does not need (`elf`), so the system maps them when it starts the program, and nothing is
//! linked: no toolchain is needed to build, and none to run.
//!
//! The file appears whole or not at all: it is written beside its place, flushed, and renamed. Of one that is cut short
//! afterwards, the stub tells that it is damaged, as long as the stub itself is whole; one that ends within the stub is
//! ended by the system before any code of ours runs.

mod elf;

use nnc_runtime::image::{Header, PAGE};
use nnc_stub::Manifest;
use nnc_stub::manifest::Reading;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The program that executables are made from; see `build.rs`.
static STUB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/nnc-stub"));

/// The same with the decoders of texts and sounds, for executables that read such.
static FULL_STUB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/nnc-stub-full"));

/// The bare stub as a file: an executable without a program, which says so when it is run.
pub fn stub() -> &'static [u8] {
    STUB
}

/// Why an executable was not written. No file is left, and an old one is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ExecutableError {
    /// The system refused: no such folder, no permission, no space.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The executable.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It would replace a file that it is made from.
    #[error("{}: is an input, and would be overwritten; choose another name", path.display())]
    IsInput {
        /// The executable.
        path: PathBuf,
    },
    /// It would lie in a folder of data, which would then hold something else.
    #[error("{}: lies in a folder that is a source of data, and would be taken for an example; choose another place", path.display())]
    AmongInputs {
        /// The executable.
        path: PathBuf,
    },
    /// A folder, a device or the like stands in its place.
    #[error("{}: is not a regular file; choose another name", path.display())]
    NotAFile {
        /// The executable.
        path: PathBuf,
    },
    /// The description does not fit the code and the weights.
    #[error("bug in the compiler: the executable would not start: {0}")]
    Manifest(String),
    /// The stub is not an executable of the expected form.
    #[error("bug in nnc: the stub cannot be extended: {0}")]
    Stub(&'static str),
}

/// Refuses a place for an executable that one of the files it is made from has, under whatever
/// name, or that is no regular file. A place where nothing is yet is good, unless it is in a folder that is read.
///
/// # Errors
/// [`ExecutableError::IsInput`], [`ExecutableError::AmongInputs`] or [`ExecutableError::NotAFile`].
pub fn check_target(target: &Path, inputs: &[&Path]) -> Result<(), ExecutableError> {
    let path = target.to_owned();
    let Ok(existing) = fs::metadata(target) else {
        let is_within = inputs.iter().any(|input| input.is_dir() && lies_in(target, input));
        return if is_within { Err(ExecutableError::AmongInputs { path }) } else { Ok(()) };
    };
    if !existing.is_file() {
        return Err(ExecutableError::NotAFile { path });
    }
    nnc_data::check_not_input(target, inputs).map_err(|_| ExecutableError::IsInput { path })
}

/// Whether a file that is not there yet would be in a folder, or below it.
fn lies_in(target: &Path, folder: &Path) -> bool {
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    parent
        .canonicalize()
        .ok()
        .zip(folder.canonicalize().ok())
        .is_some_and(|(parent, folder)| parent.starts_with(folder))
}

/// Writes the executable `path` (mode 0755, less the umask).
///
/// `code` must be position-independent and free of relocations; its entry is at
/// [`nnc_stub::manifest::Variant::entry`], that of each variant. See [`check_target`] for what `path` should not be.
///
/// # Errors
/// If it cannot be written, or the manifest does not fit.
pub fn write(path: &Path, manifest: &Manifest, code: &[u8], weights: &[u8]) -> Result<(), ExecutableError> {
    check_target(path, &[])?;
    check(manifest, code, weights)?;
    let parts = Parts::new(stub_of(manifest), manifest, code, weights)?;
    replace(path, &parts).map_err(|source| ExecutableError::Write { path: path.to_owned(), source })
}

/// The smallest program that reads what goes in.
fn stub_of(manifest: &Manifest) -> &'static [u8] {
    let is_plain = |reading| match reading {
        Reading::Values | Reading::Logits | Reading::Probabilities | Reading::Option => true,
        Reading::Characters | Reading::Text | Reading::Words(_) | Reading::Sound(_) => false,
    };
    if manifest.inputs.iter().all(|port| is_plain(port.reading)) { STUB } else { FULL_STUB }
}

fn check(manifest: &Manifest, code: &[u8], weights: &[u8]) -> Result<(), ExecutableError> {
    manifest.check(weights.len()).map_err(ExecutableError::Manifest)?;
    if manifest.variants.iter().any(|variant| variant.entry >= code.len()) {
        return Err(ExecutableError::Manifest("its entry lies outside its code".into()));
    }
    Ok(())
}

/// What an executable consists of, in order; each part but the first begins at a page.
struct Parts<'a> {
    stub: Vec<u8>,
    description: Vec<u8>,
    weights: &'a [u8],
    code: &'a [u8],
}

impl<'a> Parts<'a> {
    fn new(stub: &[u8], manifest: &Manifest, code: &'a [u8], weights: &'a [u8]) -> Result<Self, ExecutableError> {
        let manifest = manifest.encode();
        let description_bytes = Header::BYTES + manifest.len();
        let weights_offset = description_bytes.next_multiple_of(PAGE);
        let data_bytes = weights_offset + weights.len();
        let data_offset = stub.len().next_multiple_of(PAGE);
        let data = elf::Appended { offset: data_offset as u64, bytes: data_bytes as u64, executable: false };
        let code_offset = (data_offset + data_bytes).next_multiple_of(PAGE);
        let code_segment = elf::Appended { offset: code_offset as u64, bytes: code.len() as u64, executable: true };
        let mut stub = stub.to_vec();
        let addresses = elf::append(&mut stub, [data, code_segment]).map_err(ExecutableError::Stub)?;
        let header = Header {
            code_address: addresses[1],
            code_bytes: code.len() as u64,
            manifest_bytes: manifest.len() as u64,
            weights_offset: weights_offset as u64,
            weights_bytes: weights.len() as u64,
        };
        let description = [header.encode().as_slice(), &manifest].concat();
        Ok(Self { stub, description, weights, code })
    }

    fn write(&self, file: &mut File) -> io::Result<()> {
        for part in [&self.stub, &self.description, self.weights] {
            file.write_all(part)?;
            let padding = part.len().next_multiple_of(PAGE) - part.len();
            file.write_all(&[0; PAGE][..padding])?;
        }
        file.write_all(self.code)
    }
}

/// Writes the parts beside `path`, then renames.
fn replace(path: &Path, parts: &Parts<'_>) -> io::Result<()> {
    let partial = partial_name(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(&partial)?;
    let written = parts.write(&mut file).and_then(|()| file.sync_all());
    // A file that is open for writing cannot be run.
    drop(file);
    let renamed = written.and_then(|()| fs::rename(&partial, path));
    if renamed.is_err() {
        // The first fault is the one to report.
        let _ = fs::remove_file(&partial);
    }
    renamed
}

/// A free name in the same folder.
fn partial_name(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no file name"))?;
    let mut partial = std::ffi::OsString::from(".");
    partial.push(name);
    partial.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(partial);
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(partial),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (input, link) = (folder.path().join("a.nn"), folder.path().join("link"));
        fs::write(&input, "model").unwrap();
        fs::hard_link(&input, &link).unwrap();
        assert!(check_target(&folder.path().join("new"), &[&input]).is_ok());
        let (inner, below) = (folder.path().join("images"), folder.path().join("images/cat"));
        fs::create_dir_all(&below).unwrap();
        for place in [&inner, &below] {
            let refused = check_target(&place.join("new.png"), &[&input, &inner]);
            assert!(matches!(refused, Err(ExecutableError::AmongInputs { .. })));
        }
        assert!(check_target(&folder.path().join("new.png"), &[&input, &inner]).is_ok());
        assert!(check_target(&link, &[Path::new("none")]).is_ok());
        assert!(matches!(check_target(&link, &[&input]), Err(ExecutableError::IsInput { .. })));
        assert!(matches!(check_target(folder.path(), &[]), Err(ExecutableError::NotAFile { .. })));
        assert!(matches!(check_target(Path::new("/dev/null"), &[]), Err(ExecutableError::NotAFile { .. })));
    }
}
