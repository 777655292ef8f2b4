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

use crate::control_group;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::OnceLock;

/// An instruction set that generated code may be for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Isa {
    /// x86-64-v3 with F16C: AVX2 and FMA, vectors of 32 bytes, 16 of them.
    Avx2,
    /// That, and AVX-VNNI (Intel Alder Lake, AMD Zen 5 or later): sums of products of bytes in one instruction.
    AvxVnni,
    /// [`Isa::Avx2`], and AVX-512 F, BW, DQ, VL and VNNI (Intel Cascade Lake, AMD Zen 4 or later): vectors of 64 bytes,
    /// 32 of them, mask registers, and sums of products of bytes in one instruction.
    Avx512,
}

impl Isa {
    /// Every set, the least first: a processor that has several is best served by the last of them.
    pub const ALL: [Self; 3] = [Self::Avx2, Self::AvxVnni, Self::Avx512];

    /// The name on the command line and in built executables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avxvnni",
            Self::Avx512 => "avx512",
        }
    }

    /// The set of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|isa| isa.name() == name)
    }

    /// Whether one instruction adds four products of unsigned by signed bytes to each lane of 32 bits (VNNI).
    pub fn has_byte_products(self) -> bool {
        match self {
            Self::Avx2 => false,
            Self::AvxVnni | Self::Avx512 => true,
        }
    }

    /// Names of the instructions that this processor lacks for it; empty when it can run such code.
    pub fn missing(self) -> Vec<&'static str> {
        self.wanted().into_iter().filter(|(_, found)| !found).map(|(name, _)| name).collect()
    }

    /// The instructions that it is made of, and whether this processor has them.
    fn wanted(self) -> Vec<(&'static str, bool)> {
        let base = base_instructions();
        match self {
            Self::Avx2 => base,
            Self::AvxVnni => [base, byte_instructions()].concat(),
            Self::Avx512 => [base, wide_instructions()].concat(),
        }
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
fn byte_instructions() -> Vec<(&'static str, bool)> {
    vec![("avxvnni", std::is_x86_feature_detected!("avxvnni"))]
}

#[cfg(target_arch = "x86_64")]
fn wide_instructions() -> Vec<(&'static str, bool)> {
    vec![
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
        ("avx512bw", std::is_x86_feature_detected!("avx512bw")),
        ("avx512dq", std::is_x86_feature_detected!("avx512dq")),
        ("avx512vl", std::is_x86_feature_detected!("avx512vl")),
        ("avx512vnni", std::is_x86_feature_detected!("avx512vnni")),
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn base_instructions() -> Vec<(&'static str, bool)> {
    vec![("x86-64", false)]
}

#[cfg(not(target_arch = "x86_64"))]
fn byte_instructions() -> Vec<(&'static str, bool)> {
    vec![]
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
    control_group::folders("cpu").iter().filter_map(|folder| folder_quota(folder)).min()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_at_least_one_thread() {
        assert!(available_threads().get() >= 1);
    }

    #[test]
    fn sets_go_from_the_least_to_the_best() {
        assert!(Isa::ALL.is_sorted());
        assert!(Isa::ALL.iter().all(|isa| Isa::from_name(isa.name()) == Some(*isa)));
        let runs = |isa: &Isa| isa.missing().is_empty();
        assert_eq!(Isa::host(), Isa::ALL.into_iter().filter(runs).max());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn each_set_is_the_least_one_and_what_it_adds() {
        let names = |isa: Isa| isa.wanted().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let [least, bytes, wide] = Isa::ALL.map(names);
        let added = |names: Vec<&'static str>| names.strip_prefix(&least[..]).unwrap_or_default().to_vec();
        assert_eq!(added(bytes), ["avxvnni"]);
        assert_eq!(added(wide), ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"]);
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
}
