//! The control groups (cgroups(7), versions 1 and 2) that hold this process, whose files say what it may use.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders whose files hold the limits that a controller (`cpu`, `memory`) sets this process: its group and all
/// groups above it, for each mounted hierarchy with that controller. None where that cannot be told.
pub fn folders(controller: &str) -> Vec<PathBuf> {
    let read = |path| fs::read_to_string(path).ok();
    let texts = read("/proc/self/cgroup").zip(read("/proc/self/mountinfo"));
    texts.map_or(vec![], |(groups, mounts)| folders_by(&groups, &mounts, controller))
}

/// As [`folders`], by the text of two files:
///
/// `groups` is the text of `/proc/self/cgroup` (lines `id:controllers:path`, no controllers in
/// version 2); `mounts` that of `/proc/self/mountinfo` (see proc(5)).
fn folders_by(groups: &str, mounts: &str, controller: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let unified = controllers.is_empty();
        if !unified && !controllers.split(',').any(|name| name == controller) {
            continue;
        }
        let mount = mounts.lines().filter_map(Mount::parse).find(|mount| mount.holds(unified, controller));
        if let Some(mount) = mount {
            folders.extend(mount.folders(Path::new(path)));
        }
    }
    folders
}

/// A line of `/proc/self/mountinfo`.
struct Mount<'a> {
    root: &'a Path,
    point: &'a Path,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (Path::new(before.next()?), Path::new(before.next()?));
        let mut after = after.split(' ');
        let kind = after.next()?;
        Some(Self { root, point, kind, options: after.nth(1).unwrap_or("") })
    }

    fn holds(&self, unified: bool, controller: &str) -> bool {
        match unified {
            true => self.kind == "cgroup2",
            false => self.kind == "cgroup" && self.options.split(',').any(|name| name == controller),
        }
    }

    /// The folder of `group` under this mount and those above it, down to the mount's own root.
    /// A group outside the mounted part (as in a container) has only the root.
    fn folders(&self, group: &Path) -> Vec<PathBuf> {
        let inside = group.strip_prefix(self.root).unwrap_or(Path::new(""));
        inside.ancestors().map(|part| self.point.join(part)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_version_2_folders() {
        let mounts = "25 1 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let folders = folders_by("0::/user.slice/job\n", mounts, "memory");
        let expected = ["/sys/fs/cgroup/user.slice/job", "/sys/fs/cgroup/user.slice", "/sys/fs/cgroup/"];
        assert_eq!(folders, expected.map(PathBuf::from));
    }

    #[test]
    fn finds_version_1_folders_of_a_container() {
        let groups = "3:cpuset:/a\n2:cpu,cpuacct:/docker/c0\n";
        let mounts = "\
30 25 0:26 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
31 25 0:27 /docker/c0 /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
";
        let folders = folders_by(groups, mounts, "cpu");
        assert_eq!(folders, [PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/")]);
        let above = folders_by("2:cpu,cpuacct:/docker/c0/inner\n", mounts, "cpu");
        assert_eq!(above.len(), 2);
        assert!(above[0].ends_with("inner"));
    }

    #[test]
    fn strange_text_is_no_folder() {
        assert!(folders_by("nonsense\n1:cpu\n", "also - nonsense", "cpu").is_empty());
        assert!(folders_by("0::/x\n", "", "cpu").is_empty());
    }
}
