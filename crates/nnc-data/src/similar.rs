//! Advice for a file that is not there: names in its folder that look like it.
//!
//! Likeness is the Levenshtein distance, after an ending `.gz` is taken off both names.

use std::path::Path;

use crate::content::Role;
use crate::error::{DataError, ErrorKind};

/// The most names that one message proposes.
const MOST_NAMES: usize = 3;
/// The most directory entries that are looked at.
const MOST_ENTRIES: usize = 10_000;

/// The fault of a missing file or folder at `path`.
pub(crate) fn missing(path: &Path, role: Role) -> DataError {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let message = if folder.is_dir() {
        "there is no such file or folder".to_owned()
    } else {
        format!("there is no folder `{}`", folder.display())
    };
    let error = DataError::new(ErrorKind::Missing, path, message);
    match advice(path, folder, role) {
        Some(advice) => error.help(advice),
        None => error,
    }
}

/// What to try, if there is anything.
fn advice(path: &Path, folder: &Path, role: Role) -> Option<String> {
    let names = similar_names(path, folder);
    let proposal = (!names.is_empty()).then(|| format!("`{}` has {}", folder.display(), names.join(", ")));
    let option = match role {
        Role::Source => Some("say where the data files are with `--data DIR`".to_owned()),
        Role::Input => None,
    };
    let parts: Vec<String> = proposal.into_iter().chain(option).collect();
    (!parts.is_empty()).then(|| parts.join(", or "))
}

/// Names in `folder` that resemble the last part of `path`, nearest first.
fn similar_names(path: &Path, folder: &Path) -> Vec<String> {
    let Some(wanted) = path.file_name().map(|name| name.to_string_lossy()) else {
        return Vec::new();
    };
    let Ok(entries) = folder.read_dir() else {
        return Vec::new();
    };
    let mut near: Vec<(usize, String)> = entries
        .take(MOST_ENTRIES)
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .map(|name| (distance(stem(&wanted), stem(&name)), name))
        .filter(|(distance, _)| *distance <= wanted.chars().count() / 3)
        .collect();
    near.sort();
    near.truncate(MOST_NAMES);
    near.into_iter().map(|(_, name)| format!("`{name}`")).collect()
}

/// The name without an ending `.gz`.
fn stem(name: &str) -> &str {
    name.strip_suffix(".gz").unwrap_or(name)
}

/// The Levenshtein distance between two names, in characters.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut costs: Vec<usize> = (0..=right.len()).collect();
    for (row, from) in left.to_lowercase().chars().enumerate() {
        let mut diagonal = costs[0];
        costs[0] = row + 1;
        for (column, &to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = costs[column + 1];
            costs[column + 1] = replaced.min(diagonal + 1).min(costs[column] + 1);
        }
    }
    costs[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshtein() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("Same", "same"), 0);
    }

    #[test]
    fn proposes_the_file_without_gz() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("train-images"), b"x").unwrap();
        std::fs::write(folder.path().join("unrelated.txt"), b"x").unwrap();
        let error = missing(&folder.path().join("train-images.gz"), Role::Source);
        let text = error.to_string();
        assert!(text.contains("has `train-images`"), "{text}");
        assert!(text.contains("--data DIR"), "{text}");
        assert!(!text.contains("unrelated"), "{text}");
    }

    #[test]
    fn names_the_missing_folder() {
        let error = missing(Path::new("nowhere-at-all/a.csv"), Role::Input);
        assert!(error.message.contains("no folder `nowhere-at-all`"));
        assert_eq!(error.help, None);
    }
}
