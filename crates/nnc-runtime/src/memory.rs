//! Whether this process may have the memory that a program needs: told before it is taken, since a process that asks
//! for more than there is gets ended.

use crate::buffer::AlignedBuffer;
use crate::control_group;
use crate::program::Layout;
use std::fs;

/// A program that needs more memory than the process may have. Both are told in megabytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OutOfMemory {
    /// There is less, used or not.
    #[error("{needed} MB of memory are needed, and {whose} {there}")]
    Limit {
        /// What is needed.
        needed: usize,
        /// What is there.
        there: usize,
        /// What sets the limit, and its verb.
        whose: &'static str,
    },
    /// Not so much is left of it.
    #[error("{needed} MB of memory are needed, and the system does not give as much to this process")]
    Refused {
        /// What is needed.
        needed: usize,
    },
}

/// Refuses to take so many bytes when the machine with its swap space does not have them, or a limit of this process
/// (its control groups, or `ulimit -v`) forbids them. Where that cannot be told, they are not refused.
///
/// # Errors
/// There are fewer.
pub fn check(bytes: usize) -> Result<(), OutOfMemory> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let limits = [
        (read("/proc/meminfo").and_then(|text| total_bytes(&text)), "this machine has"),
        (group_bytes(), "the control group of this process allows"),
        (read("/proc/self/limits").and_then(|text| address_bytes(&text)), "`ulimit -v` allows"),
    ];
    let least = limits.iter().filter_map(|&(there, whose)| Some((there?, whose))).min_by_key(|&(there, _)| there);
    match least {
        Some((there, whose)) if bytes > there => {
            Err(OutOfMemory::Limit { needed: bytes.div_ceil(1 << 20), there: there >> 20, whose })
        }
        Some(_) | None => Ok(()),
    }
}

/// As [`check`], of memory that is to be taken beside all that the process has: also refused where the system would not
/// give it. It is asked for, and given back untouched.
///
/// # Errors
/// There are fewer.
pub fn check_more(bytes: usize) -> Result<(), OutOfMemory> {
    check(bytes)?;
    match AlignedBuffer::is_given(bytes) {
        true => Ok(()),
        false => Err(OutOfMemory::Refused { needed: bytes.div_ceil(1 << 20) }),
    }
}

/// The least limit of the control groups that hold this process, in bytes: `memory.max`, or `memory.limit_in_bytes` of
/// version 1, which writes a number near 2^63 for none.
fn group_bytes() -> Option<usize> {
    let limit = |folder: &std::path::PathBuf| {
        let read = |name| fs::read_to_string(folder.join(name)).ok();
        read("memory.max").or_else(|| read("memory.limit_in_bytes"))?.trim().parse::<usize>().ok()
    };
    control_group::folders("memory").iter().filter_map(limit).min()
}

/// The most bytes of address space by the text of `/proc/self/limits`; none when it is unlimited.
fn address_bytes(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Layout {
    /// The memory of a program and of its buffers, in bytes, when so many threads run it.
    pub fn total_bytes(&self, threads: usize) -> usize {
        let externals = self.externals.iter().fold(0, |sum: usize, &bytes| sum.saturating_add(bytes));
        let scratch = self.scratch_bytes.saturating_mul(threads);
        externals.saturating_add(scratch).saturating_add(self.arena_bytes)
    }
}

/// Memory and swap space by the text of `/proc/meminfo` (proc_meminfo(5)), whose unit is 1024 bytes.
fn total_bytes(text: &str) -> Option<usize> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse::<usize>().ok()
    };
    field("MemTotal:")?.saturating_add(field("SwapTotal:").unwrap_or(0)).checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_refused() {
        assert_eq!(check(1 << 10), Ok(()));
        let layout = Layout { arena_bytes: 1, scratch_bytes: 10, externals: vec![100, 200], ..Layout::default() };
        assert_eq!(layout.total_bytes(3), 331);
        let layout = Layout { externals: vec![usize::MAX, 5], ..layout };
        assert_eq!(layout.total_bytes(3), usize::MAX);
        if cfg!(target_os = "linux") {
            assert!(check(usize::MAX).unwrap_err().to_string().contains("17592186044416 MB of memory are needed"));
        }
        assert_eq!(check_more(1 << 22), Ok(()));
        // More than the addresses of a process.
        assert!(!AlignedBuffer::is_given(1 << 50));
    }

    #[test]
    fn the_system_tells_what_there_is() {
        let text = "MemTotal:        2048 kB\nMemFree:         1024 kB\nSwapTotal:          1 kB\n";
        assert_eq!(total_bytes(text), Some(2049 * 1024));
        assert_eq!(total_bytes("MemTotal: 2048 kB\n"), Some(2048 * 1024));
        assert_eq!(total_bytes("MemFree: 2048 kB\n"), None);
        assert_eq!(total_bytes("MemTotal: many\n"), None);
    }

    #[test]
    fn the_limit_of_address_space_is_read() {
        let text = |soft: &str| {
            format!("Limit  Soft Limit  Hard Limit  Units\nMax address space         {soft}  unlimited  bytes\n")
        };
        assert_eq!(address_bytes(&text("4096")), Some(4096));
        assert_eq!(address_bytes(&text("unlimited")), None);
        assert_eq!(address_bytes("Max cpu time  5  5  seconds\n"), None);
    }
}
