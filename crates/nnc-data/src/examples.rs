//! Files that are one example each: which there are, of which class, and the decoding of all of them.
//!
//! The class of a file is the folder it lies in, or a part of its name. Classes are sorted by the bytes of their names,
//! and the place of one is its number; within a class files are sorted in the same way, and by their paths where the
//! name tells the class.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;

use crate::error::{DataError, ErrorKind, Result};
use crate::files::Files;
use crate::pattern;
use crate::sample;
use crate::types::{Column, FieldType};

/// The most threads that decode at once.
const MOST_THREADS: usize = 16;

/// The files of a source.
pub(crate) struct Examples {
    /// What they are, such as `image`, for messages.
    kind: &'static str,
    /// The folder that they lie below.
    folder: PathBuf,
    /// Where they are.
    files: Files,
    /// The names of the classes; empty when there are none.
    pub(crate) classes: Vec<String>,
    /// The files, each with the index of its class.
    pub(crate) list: Vec<(PathBuf, usize)>,
}

impl Examples {
    /// Lists the files below `folder`; the label is what stands for `{}` in their names, else the folder they lie in.
    ///
    /// # Errors
    /// A missing or empty folder, files beside folders, a name without a label.
    pub(crate) fn list(kind: &'static str, folder: &Path, label: Option<&str>, labelled: bool) -> Result<Self> {
        let folder: PathBuf = folder.components().collect();
        let files = Files::around(&folder)?;
        let mut found = Self { kind, folder, files, classes: Vec::new(), list: Vec::new() };
        match label.filter(|_| labelled) {
            Some(pattern) => found.by_name(pattern)?,
            None => found.by_folder(labelled)?,
        }
        Ok(found)
    }

    fn by_name(&mut self, pattern: &str) -> Result<()> {
        let paths = self.files.below(&self.folder)?;
        if paths.is_empty() {
            return Err(self.nothing());
        }
        let mut labels = Vec::with_capacity(paths.len());
        for path in &paths {
            let name = file_name(path);
            let Some(label) = pattern::label(pattern, &name) else {
                let error = DataError::new(ErrorKind::Mismatch, path, format!("its name has not the form `{pattern}`"));
                return Err(error.help("take the file away, or write another form"));
            };
            labels.push(label.to_owned());
        }
        self.classes = labels.clone();
        self.classes.sort_unstable();
        self.classes.dedup();
        let classes = &self.classes;
        let number = |label: &String| classes.binary_search(label).expect("each label is a class");
        self.list = paths.into_iter().zip(&labels).map(|(path, label)| (path, number(label))).collect();
        Ok(())
    }

    fn by_folder(&mut self, needs_classes: bool) -> Result<()> {
        let (folders, files) = self.files.entries(&self.folder)?;
        if let (Some(class), Some(file)) = (folders.first(), files.first()) {
            let message = format!("has both folders (`{}`) and files (`{}`)", file_name(class), file_name(file));
            let error = DataError::new(ErrorKind::Mismatch, &self.folder, message);
            return Err(error.help("keep one folder per class, and nothing beside them"));
        }
        if folders.is_empty() && (needs_classes || files.is_empty()) {
            return Err(self.nothing());
        }
        self.list = files.into_iter().map(|path| (path, 0)).collect();
        for (class, path) in folders.iter().enumerate() {
            let files = self.files_of_class(path)?;
            self.list.extend(files.into_iter().map(|path| (path, class)));
        }
        self.classes = folders.iter().map(|path| file_name(path)).collect();
        Ok(())
    }

    /// The files in the folder of a class.
    fn files_of_class(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let (folders, files) = self.files.entries(folder)?;
        if let Some(inner) = folders.first() {
            let message = format!("is the folder of a class, and has a folder `{}` in it", file_name(inner));
            let error = DataError::new(ErrorKind::Mismatch, folder, message);
            let help = format!("if the folders in `{}` are the classes, name that folder", folder.display());
            return Err(error.help(help));
        }
        if files.is_empty() {
            let message = format!("is the folder of a class without {}s", self.kind);
            let help = format!("add {}s or remove the folder", self.kind);
            return Err(DataError::new(ErrorKind::Empty, folder, message).help(help));
        }
        Ok(files)
    }

    /// The fault of a folder without examples.
    pub(crate) fn nothing(&self) -> DataError {
        let error = DataError::new(ErrorKind::Empty, &self.folder, format!("has no {}s", self.kind));
        error.help(format!("put the {}s of each class into a folder with its name", self.kind))
    }

    /// What is worth telling of where the files are.
    pub(crate) fn remarks(&self) -> impl Iterator<Item = String> {
        self.files.remark().map(str::to_owned).into_iter()
    }

    /// The column of class numbers.
    ///
    /// # Errors
    /// `ty` is no scalar, or does not hold as many numbers as there are classes.
    pub(crate) fn labels(&self, ty: &FieldType) -> Result<Column> {
        let mut bytes = Vec::new();
        let is_scalar = ty.elements() == Some(1);
        let fits = |bytes: &mut Vec<u8>, class| sample::push_index(class, ty.dtype, bytes);
        if !is_scalar || !self.list.iter().all(|&(_, class)| fits(&mut bytes, class)) {
            let classes = self.classes.len();
            let message = format!("the index of one of {classes} classes does not fit a label declared {ty}");
            let error = DataError::new(ErrorKind::WrongType, &self.folder, message);
            return Err(error.help("declare the label u8, i32 or i64"));
        }
        Ok(Column::new(ty.clone(), self.list.len(), bytes))
    }

    /// The names of the files, with their folders below the source's.
    pub(crate) fn names(&self) -> Vec<String> {
        let inner = |path: &Path| path.strip_prefix(&self.folder).unwrap_or(path).to_string_lossy().into_owned();
        self.list.iter().map(|(path, _)| inner(path)).collect()
    }

    /// Decodes all files on several threads, each its own run of rows; `decode` appends the bytes of one, which `ty`
    /// says.
    ///
    /// # Errors
    /// The first fault in the order of rows, on any number of threads; more bytes than there is memory.
    pub(crate) fn decode<F>(&self, ty: &FieldType, decode: F) -> Result<Column>
    where
        F: Fn(&[u8], &Path, &mut Vec<u8>) -> Result<()> + Sync,
    {
        let size = ty.row_bytes().unwrap_or(0).saturating_mul(self.list.len());
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
        let share = self.list.len().div_ceil(threads).max(1);
        let mut bytes = self.room(size)?;
        let parts: Vec<Result<Vec<u8>>> = thread::scope(|scope| {
            let decode = &decode;
            let start = |share| scope.spawn(move || self.decode_share(share, ty, decode));
            let workers: Vec<_> = self.list.chunks(share).map(start).collect();
            let join = |worker: thread::ScopedJoinHandle<'_, _>| worker.join().unwrap_or_else(|_| Err(self.crashed()));
            workers.into_iter().map(join).collect()
        });
        for part in parts {
            bytes.append(&mut part?);
        }
        Ok(Column::new(ty.clone(), self.list.len(), bytes))
    }

    /// Decodes a run of files, one after the other.
    fn decode_share<F>(&self, share: &[(PathBuf, usize)], ty: &FieldType, decode: &F) -> Result<Vec<u8>>
    where
        F: Fn(&[u8], &Path, &mut Vec<u8>) -> Result<()>,
    {
        let mut bytes = self.room(ty.row_bytes().unwrap_or(0).saturating_mul(share.len()))?;
        for (path, _) in share {
            decode(&self.files.read(path)?, path, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// Memory for so many bytes.
    fn room(&self, size: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match bytes.try_reserve_exact(size) {
            Ok(()) => Ok(bytes),
            Err(_) => {
                let (count, size) = (self.list.len(), size >> 20);
                let message = format!("{count} {}s as declared take {size} MB, more memory than there is", self.kind);
                let error = DataError::new(ErrorKind::Unsupported, &self.folder, message);
                Err(error.help("declare smaller elements, as u8, or take fewer files"))
            }
        }
    }

    /// The fault of a decoder that panicked.
    fn crashed(&self) -> DataError {
        let message = format!("one of the {}s made its decoder fail", self.kind);
        DataError::new(ErrorKind::Malformed, &self.folder, message)
    }
}

/// The last part of `path`, for people.
fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}
