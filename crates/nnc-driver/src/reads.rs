//! Every file that a project reads, so that no command writes over one.

use crate::project::Project;
use nnc_lang::elaborate::{Literal, SourceCall};
use std::path::{Path, PathBuf};

impl Project {
    /// The files and folders that it reads: its own text, the texts that it uses, the files that its layers begin with,
    /// and the sources of its data, whose paths start at `data`, or else at its own folder. They need not be there.
    pub fn reads(&self, data: Option<&Path>) -> Vec<PathBuf> {
        let named = self.unit.named_files().map(|path| self.folder().join(path));
        let mut found: Vec<PathBuf> = std::iter::once(self.path.clone()).chain(named).collect();
        let root = data.unwrap_or(self.folder());
        let sources = self.unit.data.iter().flat_map(|data| &data.splits).map(|split| &split.source);
        sources.for_each(|source| found.extend(paths(source).map(|path| root.join(path))));
        found
    }
}

/// The paths that a source names, and those that its examples are made from.
fn paths(source: &SourceCall) -> impl Iterator<Item = &str> {
    let calls = std::iter::successors(Some(source), |source| source.maker.as_ref()?.from.as_deref());
    calls.flat_map(|source| &source.arguments).filter_map(|argument| match argument {
        (None, Literal::Str(path)) => Some(path.as_str()),
        (None, Literal::Int(_) | Literal::Float(_) | Literal::Bool(_) | Literal::List(_)) | (Some(_), _) => None,
    })
}
