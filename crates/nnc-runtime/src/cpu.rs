//! What this machine offers: instruction sets, and the number of processors we may use.
//!
//! The number of threads is the smallest of
//! - the processors in the affinity mask (`Cpus_allowed_list` of `/proc/self/status`, which also
//!   holds the cpuset), and
//! - the CPU quota of each control group from ours up to the root, rounded up: `cpu.max` in
//!   version 2, `cpu.cfs_quota_us` over `cpu.cfs_period_us` in version 1.
//!
//! The files are read once. Their text is taken apart by pure functions, so that samples of any
//! system can be tested anywhere.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// An instruction set that generated code may be for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Isa {
    /// x86-64-v3 with F16C: AVX2 and FMA, vectors of 32 bytes, 16 of them.
    Avx2,
    /// That, and AVX-512 F, BW, DQ, VL, VBMI and VNNI (Intel Ice Lake, AMD Zen 4 or later): vectors of 64 bytes, 32 of
    /// them, and mask registers.
    Avx512,
}

impl Isa {
    /// Every set, the least first.
    pub const ALL: [Self; 2] = [Self::Avx2, Self::Avx512];

    /// The name on the command line and in built executables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// The set of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|isa| isa.name() == name)
    }

    /// Names of the instructions that this processor lacks for it; empty when it can run such code.
    pub fn missing(self) -> Vec<&'static str> {
        let base = base_instructions();
        let wanted = match self {
            Self::Avx2 => base,
            Self::Avx512 => [base, wide_instructions()].concat(),
        };
        wanted.into_iter().filter(|(_, found)| !found).map(|(name, _)| name).collect()
    }

    /// The best set that this processor has; `None` below [`Isa::Avx2`].
    pub fn host() -> Option<Self> {
        Self::ALL.into_iter().rev().find(|isa| isa.missing().is_empty())
    }
}

#[cfg(target_arch = "x86_64")]
fn base_instructions() -> Vec<(&'static str, bool)> {
    vec![
        ("avx", std::is_x86_feature_detected!("avx")),
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("bmi1", std::is_x86_feature_detected!("bmi1")),
        ("bmi2", std::is_x86_feature_detected!("bmi2")),
        ("f16c", std::is_x86_feature_detected!("f16c")),
        ("fma", std::is_x86_feature_detected!("fma")),
        ("lzcnt", std::is_x86_feature_detected!("lzcnt")),
        ("movbe", std::is_x86_feature_detected!("movbe")),
    ]
}

#[cfg(target_arch = "x86_64")]
fn wide_instructions() -> Vec<(&'static str, bool)> {
    vec![
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
        ("avx512bw", std::is_x86_feature_detected!("avx512bw")),
        ("avx512dq", std::is_x86_feature_detected!("avx512dq")),
        ("avx512vl", std::is_x86_feature_detected!("avx512vl")),
        ("avx512vbmi", std::is_x86_feature_detected!("avx512vbmi")),
        ("avx512vnni", std::is_x86_feature_detected!("avx512vnni")),
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn base_instructions() -> Vec<(&'static str, bool)> {
    vec![("x86-64", false)]
}

#[cfg(not(target_arch = "x86_64"))]
fn wide_instructions() -> Vec<(&'static str, bool)> {
    vec![]
}

/// How many threads may compute at once; read once per process.
pub fn available_threads() -> NonZeroUsize {
    static FOUND: OnceLock<NonZeroUsize> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let affinity = fs::read_to_string("/proc/self/status")
            .ok()
            .and_then(|status| allowed_processors(&status))
            .or_else(|| std::thread::available_parallelism().ok().map(NonZeroUsize::get));
        let threads = affinity.unwrap_or(1).min(quota_threads().unwrap_or(usize::MAX));
        NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN)
    })
}

/// The least quota of the control groups that hold this process, in whole processors.
fn quota_threads() -> Option<usize> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    group_folders(&groups, &mounts).iter().filter_map(|folder| folder_quota(folder)).min()
}

fn folder_quota(folder: &Path) -> Option<usize> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    if let Some(text) = read("cpu.max") {
        return quota_v2(&text);
    }
    quota_v1(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?)
}

/// Counts the processors of `Cpus_allowed_list: 0-3,8` in the text of `/proc/self/status`.
fn allowed_processors(status: &str) -> Option<usize> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut count = 0usize;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    (count > 0).then_some(count)
}

/// `cpu.max`: quota and period in µs, or `max` for no limit.
fn quota_v2(text: &str) -> Option<usize> {
    let mut words = text.split_whitespace();
    let quota = words.next()?;
    whole_processors(quota.parse().ok()?, words.next().unwrap_or("100000").parse().ok()?)
}

/// `cpu.cfs_quota_us` (-1 for no limit) and `cpu.cfs_period_us`.
fn quota_v1(quota: &str, period: &str) -> Option<usize> {
    whole_processors(quota.trim().parse().ok()?, period.trim().parse().ok()?)
}

fn whole_processors(quota: i64, period: i64) -> Option<usize> {
    let (quota, period) = (u64::try_from(quota).ok()?, u64::try_from(period).ok()?);
    if period == 0 {
        return None;
    }
    usize::try_from(quota.div_ceil(period).max(1)).ok()
}

/// The folders whose files hold our CPU quotas: our group and all groups above it, for each
/// mounted hierarchy that has the `cpu` controller.
///
/// `groups` is the text of `/proc/self/cgroup` (lines `id:controllers:path`, no controllers in
/// version 2); `mounts` that of `/proc/self/mountinfo` (see proc(5)).
fn group_folders(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let unified = controllers.is_empty();
        if !unified && !controllers.split(',').any(|name| name == "cpu") {
            continue;
        }
        let mount = mounts.lines().filter_map(Mount::parse).find(|mount| mount.holds_cpu(unified));
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

    fn holds_cpu(&self, unified: bool) -> bool {
        match unified {
            true => self.kind == "cgroup2",
            false => self.kind == "cgroup" && self.options.split(',').any(|name| name == "cpu"),
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
    fn there_is_at_least_one_thread() {
        assert!(available_threads().get() >= 1);
    }

    #[test]
    fn counts_the_affinity_list() {
        let status = |list: &str| format!("Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t{list}\n");
        assert_eq!(allowed_processors(&status("0-3,8")), Some(5));
        assert_eq!(allowed_processors(&status("7")), Some(1));
        assert_eq!(allowed_processors(&status("3-1")), None);
        assert_eq!(allowed_processors(&status("")), None);
        assert_eq!(allowed_processors("Name:\tx\n"), None);
        let all = format!("0-{}", usize::MAX);
        assert_eq!(allowed_processors(&status(&all)), None);
    }

    #[test]
    fn quotas_are_rounded_up() {
        assert_eq!(quota_v2("max 100000\n"), None);
        assert_eq!(quota_v2("150000 100000\n"), Some(2));
        assert_eq!(quota_v2("10000 100000"), Some(1));
        assert_eq!(quota_v2("400000"), Some(4));
        assert_eq!(quota_v2(""), None);
        assert_eq!(quota_v2("1 0"), None);
        assert_eq!(quota_v1("-1\n", "100000\n"), None);
        assert_eq!(quota_v1("250000\n", "100000\n"), Some(3));
        assert_eq!(quota_v1("x", "100000"), None);
    }

    #[test]
    fn finds_version_2_folders() {
        let mounts = "25 1 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let folders = group_folders("0::/user.slice/job\n", mounts);
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
        let folders = group_folders(groups, mounts);
        assert_eq!(folders, [PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/")]);
        let above = group_folders("2:cpu,cpuacct:/docker/c0/inner\n", mounts);
        assert_eq!(above.len(), 2);
        assert!(above[0].ends_with("inner"));
    }

    #[test]
    fn strange_text_is_no_folder() {
        assert!(group_folders("nonsense\n1:cpu\n", "also - nonsense").is_empty());
        assert!(group_folders("0::/x\n", "").is_empty());
    }
}
