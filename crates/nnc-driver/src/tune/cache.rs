//! What tuning found, in files: one for each product on each kind of machine.
//!
//! The folder is `NNC_CACHE`, or else `nnc` in `XDG_CACHE_HOME` or in `~/.cache` (freedesktop.org, "XDG Base Directory
//! Specification"). A file's name is a hash of what was tuned; its three lines are a title, all that the choice holds
//! for, and the choice. A file that does not read exactly so is passed over, as is a choice that lowering would not
//! make by itself, so the folder may be lost, shared or damaged: nothing becomes wrong. A file is written beside its
//! place and renamed, so that processes that tune at the same time never see halves; a link is replaced, not followed.

use crate::compiled::Compiler;
use nnc_data::write_atomically;
use nnc_graph::hash::fnv1a;
use nnc_kernel::Choice;
use std::env;
use std::fs;
use std::path::PathBuf;

/// The first line of a file.
const TITLE: &str = "nnc tuning 1";
/// A file is smaller: what is larger is none.
const MOST_BYTES: u64 = 1 << 16;

/// A folder of choices, for a kind of machine.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: Option<PathBuf>,
    machine: String,
}

impl Cache {
    /// The user's, for this machine as a compiler uses it.
    pub fn of_user(compiler: &Compiler) -> Self {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("NNC_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|caches| caches.join("nnc")))
            .or_else(|| set("HOME").map(|home| home.join(".cache").join("nnc")));
        Self { folder, machine: machine(compiler) }
    }

    /// A folder, whether it is there or not.
    pub fn at(folder: PathBuf, compiler: &Compiler) -> Self {
        Self { folder: Some(folder), machine: machine(compiler) }
    }

    /// All that a choice for a product holds for, in a line.
    fn subject(&self, key: &str) -> String {
        format!("{}: {key}", self.machine).replace(['\n', '\r'], " ")
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        let name = format!("{:016x}.tuning", fnv1a(self.subject(key).into_bytes()));
        Some(self.folder.as_ref()?.join(name))
    }

    /// The choice for a product, if there is one that can be read.
    pub fn get(&self, key: &str) -> Option<Choice> {
        let path = self.path(key)?;
        let is_small = fs::metadata(&path).is_ok_and(|data| data.is_file() && data.len() < MOST_BYTES);
        let text = is_small.then(|| fs::read_to_string(&path).ok())??;
        let lines: Vec<&str> = text.lines().collect();
        match lines[..] {
            [title, subject, choice] if title == TITLE && subject == self.subject(key) => choice.parse().ok(),
            _ => None,
        }
    }

    /// Keeps a choice.
    ///
    /// # Errors
    /// Why it cannot be kept, in a line.
    pub fn put(&self, key: &str, choice: Choice) -> Result<(), String> {
        let path = self.path(key).ok_or("neither NNC_CACHE nor XDG_CACHE_HOME nor HOME is set")?;
        // A pipe would be waited for.
        if fs::metadata(&path).is_ok_and(|there| !there.is_file()) {
            return Err(format!("{}: this is no regular file", path.display()));
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        // The content of a link would go where it points, to a file that is none of the cache's.
        if fs::symlink_metadata(&path).is_ok_and(|there| there.is_symlink()) {
            fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let text = format!("{TITLE}\n{}\n{choice}\n", self.subject(key));
        write_atomically(&path, |file| file.write_all(text.as_bytes())).map_err(|error| error.to_string())
    }
}

/// The processor, what code is made for it, the threads, and the compiler.
fn machine(compiler: &Compiler) -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let name = name.trim_start_matches([' ', '\t', ':']);
    let threads = compiler.pool.threads();
    format!("nnc {}, {}, {name}, {threads} threads", env!("CARGO_PKG_VERSION"), compiler.engine.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dot of f32: [64, 64] by [64, 64]";

    fn choice(rows: usize) -> Choice {
        Choice { tile_rows: 6, tile_vectors: 2, rows, columns: 4 }
    }

    fn cache(folder: &std::path::Path) -> Cache {
        Cache { folder: Some(folder.to_owned()), machine: "a machine".to_owned() }
    }

    #[test]
    fn what_is_kept_is_found_by_its_machine_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder.path().join("new"));
        assert_eq!(cache.get(KEY), None);
        cache.put(KEY, choice(3)).unwrap();
        cache.put(KEY, choice(5)).unwrap();
        assert_eq!(cache.get(KEY), Some(choice(5)));
        assert_eq!(cache.get("dot"), None);
        assert_eq!(Cache { machine: "another".to_owned(), ..cache }.get(KEY), None);
    }

    #[test]
    fn what_is_damaged_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        cache.put(KEY, choice(3)).unwrap();
        let path = cache.path(KEY).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() - 1 {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(cache.get(KEY), None, "{length} bytes");
        }
        for text in ["\u{0}\n\n", "nnc tuning 1\nother\n6x2 tile, 3 x 4 blocks\n", "nnc tuning 2\n"] {
            fs::write(&path, text).unwrap();
            assert_eq!(cache.get(KEY), None, "{text}");
        }
        fs::write(&path, [0xff; 100]).unwrap();
        assert_eq!(cache.get(KEY), None);
        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert_eq!(cache.get(KEY), None);
        assert!(cache.put(KEY, choice(3)).unwrap_err().contains("no regular file"), "nobody reads the pipe");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(cache.get(KEY), None);
        assert!(cache.put(KEY, choice(3)).is_err());
    }

    /// Whatever a link in the folder points to stays as it is.
    #[cfg(unix)]
    #[test]
    fn a_link_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder.path().join("cache"));
        cache.put(KEY, choice(3)).unwrap();
        let path = cache.path(KEY).unwrap();
        let note = folder.path().join("note");
        for is_there in [true, false] {
            fs::remove_file(&path).unwrap();
            if is_there {
                fs::write(&note, "precious").unwrap();
            } else {
                fs::remove_file(&note).unwrap();
            }
            std::os::unix::fs::symlink(&note, &path).unwrap();
            cache.put(KEY, choice(5)).unwrap();
            assert_eq!(fs::read_to_string(&note).ok().as_deref(), is_there.then_some("precious"));
            assert!(fs::symlink_metadata(&path).unwrap().is_file());
            assert_eq!(cache.get(KEY), Some(choice(5)));
        }
    }

    #[test]
    fn a_folder_that_cannot_be_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let cache = cache(&file.path().join("below"));
        assert_eq!(cache.get(KEY), None);
        assert!(!cache.put(KEY, choice(3)).unwrap_err().contains('\n'));
        let nowhere = Cache { folder: None, machine: String::new() };
        assert!(nowhere.put(KEY, choice(3)).is_err());
    }
}
