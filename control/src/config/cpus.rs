//! The cores that a node gets when its config names none.

use std::fs;
use std::thread;

/// Cores that are looked at: the kernel knows no more.
const COUNT_MAX: usize = 8192;

/// Every core that the system lets us use; the first alone when it does not tell.
pub(super) fn all_cpus() -> Vec<usize> {
    // What a control group lets us use of them is in it too.
    let count = thread::available_parallelism().map_or(1, usize::from);
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let status = read("/proc/self/status");
    choose(&status, &read("/sys/devices/system/cpu/online"), count)
}

/// The first of those that `status`, the text of `/proc/self/status`, allows and that are online; where neither is
/// told, those with the lowest numbers.
fn choose(status: &str, online: &str, count: usize) -> Vec<usize> {
    let mut lines = status.lines();
    let allowed = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let online = read_list(online);
    let allowed = read_list(allowed.unwrap_or_default()).into_iter();
    let allowed = allowed.filter(|cpu| online.is_empty() || online.contains(cpu));
    let cpus: Vec<usize> = allowed.take(count).collect();
    if cpus.is_empty() {
        (0..count).collect()
    } else {
        cpus
    }
}

/// Reads a list such as `0-3,8`.
fn read_list(text: &str) -> Vec<usize> {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().take(COUNT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_those_that_we_may_run_on() {
        let status = |list: &str| format!("Name:\tcepa\nCpus_allowed_list:\t{list}\nx:\t1\n");
        let table = [
            ("0-3", "0-3", 4, vec![0, 1, 2, 3]),
            ("4-5,8", "0-15", 3, vec![4, 5, 8]),
            // Possible ones that are not there, and a quota of two.
            ("0-127", "0,2-3", 3, vec![0, 2, 3]),
            ("0-7", "0-7", 2, vec![0, 1]),
            ("6", "", 1, vec![6]),
            ("", "0-3", 2, vec![0, 1]),
            ("x", "0-3", 1, vec![0]),
        ];
        for (allowed, online, count, expected) in table {
            assert_eq!(
                choose(&status(allowed), online, count),
                expected,
                "{allowed}"
            );
        }
        assert_eq!(choose("", "", 2), [0, 1]);
        assert!(read_list("0-99999999999").len() == COUNT_MAX && !all_cpus().is_empty());
    }
}
