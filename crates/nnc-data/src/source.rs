//! The data sources by name, for a caller that learns which one only from a `.nn` file.

use std::path::PathBuf;

use crate::error::Result;
use crate::types::{FieldType, Table};
#[cfg(any(feature = "csv", feature = "text"))]
use crate::words::WordOptions;

/// Where the examples of a split come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// One file per field, see [`crate::idx`].
    #[cfg(feature = "idx")]
    Idx(Vec<PathBuf>),
    /// One text file, see [`crate::csv`].
    #[cfg(feature = "csv")]
    Csv(PathBuf, crate::csv::CsvOptions, WordOptions),
    /// One file per field, see [`crate::npy`].
    #[cfg(feature = "npy")]
    Npy(Vec<PathBuf>),
    /// One archive and the name of an array per field, see [`crate::npz`].
    #[cfg(feature = "npz")]
    Npz(PathBuf, Vec<String>),
    /// One file and the name of a tensor per field, see [`crate::safetensors`].
    #[cfg(feature = "safetensors")]
    Safetensors(PathBuf, Vec<String>),
    /// A folder with a folder per class, or with labels in the names of files; or a folder per field, see
    /// [`crate::images`].
    #[cfg(feature = "folders")]
    Images(Vec<PathBuf>, Option<String>),
    /// A folder of sounds, see [`crate::wav`].
    #[cfg(feature = "folders")]
    Wav(PathBuf, crate::wav::WavOptions),
    /// One file of characters, see [`crate::text`].
    #[cfg(feature = "text")]
    Text(PathBuf, crate::text::TextOptions),
    /// One file of byte-pair tokens, see [`crate::running`].
    #[cfg(feature = "text")]
    Running(PathBuf, WordOptions),
    /// One file of lines per field, see [`crate::lines`].
    #[cfg(feature = "text")]
    Lines(Vec<PathBuf>, WordOptions),
}

impl Source {
    /// The files, or the folder, that it reads: one for each field, or one for all.
    pub fn files(&self) -> &[PathBuf] {
        match self {
            #[cfg(feature = "idx")]
            Source::Idx(files) => files,
            #[cfg(feature = "csv")]
            Source::Csv(file, ..) => std::slice::from_ref(file),
            #[cfg(feature = "npy")]
            Source::Npy(files) => files,
            #[cfg(feature = "npz")]
            Source::Npz(file, _) => std::slice::from_ref(file),
            #[cfg(feature = "safetensors")]
            Source::Safetensors(file, _) => std::slice::from_ref(file),
            #[cfg(feature = "folders")]
            Source::Images(folders, _) => folders,
            #[cfg(feature = "folders")]
            Source::Wav(folder, _) => std::slice::from_ref(folder),
            #[cfg(feature = "text")]
            Source::Text(file, _) => std::slice::from_ref(file),
            #[cfg(feature = "text")]
            Source::Running(file, _) => std::slice::from_ref(file),
            #[cfg(feature = "text")]
            Source::Lines(files, _) => files,
        }
    }

    /// Reads all examples, held to the declared types of their fields.
    ///
    /// # Errors
    /// Anything that is wrong with the files; see the module of each source.
    pub fn open(&self, fields: &[FieldType]) -> Result<Table> {
        match self {
            #[cfg(feature = "idx")]
            Source::Idx(files) => crate::idx::open(files, fields),
            #[cfg(feature = "csv")]
            Source::Csv(file, options, words) => crate::csv::open(file, fields, options, words),
            #[cfg(feature = "npy")]
            Source::Npy(files) => crate::npy::open(files, fields),
            #[cfg(feature = "npz")]
            Source::Npz(file, names) => crate::npz::open(file, names, fields),
            #[cfg(feature = "safetensors")]
            Source::Safetensors(file, names) => crate::safetensors::open(file, names, fields),
            #[cfg(feature = "folders")]
            Source::Images(folders, label) => match &folders[..] {
                [folder] => crate::images::open(folder, fields, label.as_deref()),
                _ => crate::images::open_aligned(folders, fields),
            },
            #[cfg(feature = "folders")]
            Source::Wav(folder, options) => crate::wav::open(folder, fields, options),
            #[cfg(feature = "text")]
            Source::Text(file, options) => crate::text::open(file, fields, options),
            #[cfg(feature = "text")]
            Source::Running(file, words) => crate::running::open(file, fields, words),
            #[cfg(feature = "text")]
            Source::Lines(files, words) => crate::lines::open(files, fields, words),
        }
    }
}
