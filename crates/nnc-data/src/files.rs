//! Files below a folder or in an archive, seen alike.
//!
//! A tar archive (POSIX.1-2001, also packed with gzip) is a folder: `digits.tar.gz`, `photos.tar/train`. It is read
//! whole, as its files are all wanted. Only its plain files count, and what else is in it is told; of two with one name
//! the later one does, as for `tar -x`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use tar::EntryType;

use crate::content::{self, Role};
use crate::error::{DataError, ErrorKind, Result};

/// Where files are.
pub(crate) enum Files {
    /// In folders of the system.
    Folder,
    /// In an archive: its content, and where each file is in it. Paths begin with that of the archive.
    Archive {
        /// The archive, unpacked.
        content: Vec<u8>,
        /// The files.
        places: Places,
        /// What is worth telling: entries that are no plain files.
        remark: Option<String>,
    },
}

/// Where files are in the content of an archive, by their paths.
type Places = BTreeMap<PathBuf, Range<usize>>;

/// More folders within one another than this are a mistake, or meant to do harm.
const DEEPEST: usize = 256;

/// The folders and the files in a folder, each sorted by the bytes of their names.
pub(crate) type Entries = (Vec<PathBuf>, Vec<PathBuf>);

impl Files {
    /// What `path` is in: an archive when a beginning of it is a file.
    ///
    /// # Errors
    /// An archive that cannot be read, or that is none.
    pub(crate) fn around(path: &Path) -> Result<Self> {
        // A path may end in a slash, which the system takes for a folder.
        let path: PathBuf = path.components().collect();
        match path.ancestors().find(|beginning| beginning.is_file()) {
            Some(archive) => Self::archive(archive),
            None => Ok(Self::Folder),
        }
    }

    fn archive(path: &Path) -> Result<Self> {
        let content = content::read_file(path, Role::Source)?;
        if content.get(257..262) != Some(b"ustar") {
            let message = format!("is neither a folder nor a tar archive: it {}", content::first_bytes(&content));
            return Err(DataError::new(ErrorKind::Malformed, path, message));
        }
        let (places, remark) = places(&content, path)?;
        Ok(Self::Archive { content, places, remark })
    }

    /// What is worth telling of the archive.
    pub(crate) fn remark(&self) -> Option<&str> {
        match self {
            Self::Folder => None,
            Self::Archive { remark, .. } => remark.as_deref(),
        }
    }

    /// What is in `folder`; names that begin with a dot are passed over.
    ///
    /// # Errors
    /// There is no such folder, or it cannot be read.
    pub(crate) fn entries(&self, folder: &Path) -> Result<Entries> {
        match self {
            Self::Folder => entries_on_disk(folder),
            Self::Archive { places, .. } => entries_in_archive(places, folder),
        }
    }

    /// All files below `folder`, in the order of their paths.
    ///
    /// # Errors
    /// As [`Self::entries`]; a link that leads back to a folder around it.
    pub(crate) fn below(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let (folders, mut files) = self.entries(folder)?;
        for inner in folders {
            if matches!(self, Self::Folder) {
                refuse_circle(&inner)?;
            }
            files.extend(self.below(&inner)?);
        }
        Ok(files)
    }

    /// The content of a file.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn read(&self, path: &Path) -> Result<Cow<'_, [u8]>> {
        match self {
            Self::Folder => read_plain(path).map(Cow::Owned),
            Self::Archive { content, places, .. } => {
                let found = places.get(path).and_then(|place| content.get(place.clone()));
                found.map(Cow::Borrowed).ok_or_else(|| crate::similar::missing(path, Role::Source))
            }
        }
    }
}

/// The content of a plain file: a pipe between the examples would be waited for.
fn read_plain(path: &Path) -> Result<Vec<u8>> {
    let metadata = path.metadata().map_err(|cause| content::cannot_read(path, &cause, Role::Source))?;
    if !metadata.is_file() {
        let error = DataError::new(ErrorKind::Unreadable, path, "is no plain file");
        return Err(error.help("take it out of the folder"));
    }
    content::read_raw(path, Role::Source)
}

/// Refuses a folder that is one of those around it by way of a link: what is below would have no end.
fn refuse_circle(folder: &Path) -> Result<()> {
    let unreadable = |cause| content::cannot_read(folder, &cause, Role::Source);
    let Some(around) = folder.parent() else { return Ok(()) };
    let (own, around) = (folder.canonicalize().map_err(unreadable)?, around.canonicalize().map_err(unreadable)?);
    if !around.starts_with(&own) {
        return Ok(());
    }
    let error = DataError::new(ErrorKind::Malformed, folder, "is a link that leads back to a folder around it");
    Err(error.help("take it away"))
}

fn entries_on_disk(folder: &Path) -> Result<Entries> {
    let unreadable = |cause| content::cannot_read(folder, &cause, Role::Source);
    let mut paths = Vec::new();
    for entry in folder.read_dir().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort_by(|left, right| left.as_os_str().as_encoded_bytes().cmp(right.as_os_str().as_encoded_bytes()));
    Ok(paths.into_iter().partition(|path| path.is_dir()))
}

fn entries_in_archive(places: &Places, folder: &Path) -> Result<Entries> {
    let (mut folders, mut files) = (BTreeSet::new(), BTreeSet::new());
    // Paths are ordered by their parts, so those below a folder follow it.
    let below = places.range(folder.to_owned()..).map_while(|(path, _)| Some((path, path.strip_prefix(folder).ok()?)));
    for (_, inner) in below {
        let mut parts = inner.components();
        match (parts.next(), parts.next()) {
            (Some(first), Some(_)) => folders.insert(folder.join(first)),
            (Some(first), None) => files.insert(folder.join(first)),
            (None, _) => false,
        };
    }
    if folders.is_empty() && files.is_empty() {
        return Err(DataError::new(ErrorKind::Missing, folder, "there is no such folder in the archive"));
    }
    let sorted = |paths: BTreeSet<PathBuf>| {
        let mut paths: Vec<PathBuf> = paths.into_iter().collect();
        paths.sort_by(|left, right| left.as_os_str().as_encoded_bytes().cmp(right.as_os_str().as_encoded_bytes()));
        paths
    };
    Ok((sorted(folders), sorted(files)))
}

/// Where each plain file of an archive is in its `content`, and what is worth telling of the other entries.
fn places(content: &[u8], archive: &Path) -> Result<(Places, Option<String>)> {
    let damaged = |cause: std::io::Error| {
        let error = DataError::new(ErrorKind::Malformed, archive, format!("the archive is damaged: {cause}"));
        error.help("download or copy the file again")
    };
    let mut reader = tar::Archive::new(Cursor::new(content));
    let mut places = BTreeMap::new();
    let mut passed_over = Vec::new();
    for entry in reader.entries().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?;
        if is_hidden(&path) || matches!(entry.header().entry_type(), EntryType::Directory | EntryType::XGlobalHeader) {
            continue;
        }
        if !entry.header().entry_type().is_file() || !path.components().all(is_plain) {
            passed_over.push(path.display().to_string());
            continue;
        }
        if path.components().count() > DEEPEST {
            let message = format!("has a file in more than {DEEPEST} folders within one another");
            return Err(DataError::new(ErrorKind::Malformed, archive, message));
        }
        let start = usize::try_from(entry.raw_file_position()).unwrap_or(usize::MAX);
        let end = usize::try_from(entry.size()).ok().and_then(|size| start.checked_add(size));
        let Some(end) = end.filter(|&end| end <= content.len()) else {
            let message = format!("the archive is cut off in `{}`", path.display());
            let error = DataError::new(ErrorKind::Truncated, archive, message);
            return Err(error.help("download or copy the file again"));
        };
        // The path of an entry may begin with `./`.
        let inner: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
        places.insert(archive.join(inner), start..end);
    }
    let remark = passed_over.first().map(|first| {
        let more = if passed_over.len() > 1 { format!(" and {} more", passed_over.len() - 1) } else { String::new() };
        let what = "no plain files of the archive (links, devices, paths out of it), and were passed over";
        format!("{}: `{first}`{more} are {what}", archive.display())
    });
    Ok((places, remark))
}

/// Whether a part of a path begins with a dot.
fn is_hidden(path: &Path) -> bool {
    let is_dotted = |part| matches!(part, Component::Normal(name) if name.as_encoded_bytes().starts_with(b"."));
    path.components().any(is_dotted)
}

/// Whether a part of a path in an archive is a name, or `.`.
fn is_plain(part: Component<'_>) -> bool {
    match part {
        Component::Normal(_) | Component::CurDir => true,
        Component::Prefix(_) | Component::RootDir | Component::ParentDir => false,
    }
}
