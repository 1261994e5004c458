//! What the kernel tells of this process, read when somebody asks: memory, open files, and the time that each
//! tile had a processor.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cepa_meter::{Declared, LabelValue, Sample};

/// Parts of a second that the kernel tells processor time in, on every machine that this runs on.
const TICKS_PER_SECOND: u64 = 100;
/// Where the kernel tells of this process.
const OURS: &str = "/proc/self";

cepa_meter::numbers! {
    /// Of this process. What the kernel does not tell is not told here.
    struct ProcessNumbers, named "process_";
    /// Bytes of memory that are in use.
    maybe resident_memory_bytes,
    /// Files and sockets that are open.
    maybe open_fds,
    /// Files and sockets that may be open.
    maybe max_fds,
    /// Threads of this process.
    maybe threads,
    /// Seconds of processor time, by tile: what a tile has beyond one core's second a second it does not get. `control`
    /// is the main thread, `other` what reads and writes files for the others.
    counts(tile) cpu_seconds / 1000,
}

/// What is declared of the process.
pub fn declared() -> impl Iterator<Item = &'static Declared> {
    ProcessNumbers::DECLARED.iter()
}

/// Reads it.
pub fn samples() -> Vec<Sample> {
    read(Path::new(OURS)).samples()
}

fn read(process: &Path) -> ProcessNumbers {
    let text = |name: &str| fs::read_to_string(process.join(name)).unwrap_or_default();
    let count = |name: &str| {
        let entries = fs::read_dir(process.join(name)).ok()?;
        u64::try_from(entries.count()).ok()
    };
    let status = text("status");
    ProcessNumbers {
        resident_memory_bytes: field(&status, "VmRSS:").map(|kib| kib.saturating_mul(1024)),
        // One is the directory that is being read.
        open_fds: count("fd").map(|count| count.saturating_sub(1)),
        max_fds: field(&text("limits"), "Max open files"),
        threads: count("task"),
        cpu_seconds: cpu_by_tile(process),
    }
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

fn cpu_by_tile(process: &Path) -> Vec<(LabelValue, u64)> {
    let Ok(tasks) = fs::read_dir(process.join("task")) else {
        return Vec::new();
    };
    let mut by_tile = BTreeMap::<LabelValue, u64>::new();
    for task in tasks.flatten() {
        // A thread may end meanwhile.
        let stat = fs::read_to_string(task.path().join("stat"));
        if let Some((name, ticks)) = stat.ok().as_deref().and_then(parse_stat) {
            *by_tile.entry(tile(name)).or_default() += ticks * 1000 / TICKS_PER_SECOND;
        }
    }
    by_tile.into_iter().collect()
}

/// The name of a thread, and its processor time as user and as kernel.
fn parse_stat(stat: &str) -> Option<(&str, u64)> {
    // The name may hold anything, parentheses too.
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    // Behind the name come the state as field 3, and the times as 14 and 15.
    let mut times = after.split_ascii_whitespace().skip(11);
    let mut next = || times.next()?.parse::<u64>().ok();
    Some((name, next()?.saturating_add(next()?)))
}

/// The tile that a thread is, by its name: only names that are known become a label.
fn tile(name: &str) -> LabelValue {
    let is_numbered = |prefix: &str| {
        let number = name.strip_prefix(prefix).unwrap_or_default();
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    };
    match name {
        "cepa" => "control".into(),
        "quic" => "quic".into(),
        _ if is_numbered("shard-") || is_numbered("packet-") => name.to_owned().into(),
        _ => "other".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_this_process() {
        let numbers = read(Path::new(OURS));
        assert!(numbers.resident_memory_bytes > Some(100_000));
        assert!(numbers.open_fds > Some(2) && numbers.open_fds < numbers.max_fds);
        assert!(numbers.threads >= Some(1) && !numbers.cpu_seconds.is_empty());
        assert_eq!(read(Path::new("/nowhere")), ProcessNumbers::default());
    }

    #[test]
    fn a_line_of_the_kernel_is_read_whatever_a_thread_is_called() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0";
        assert_eq!(parse_stat(stat), Some(("a) b (c", 175)));
        assert_eq!(parse_stat("7 (a) S 1"), None);
        assert_eq!(field("A:\t 5 kB\nB: x", "A:"), Some(5));
        assert_eq!(field("A:\t 5 kB\nB: x", "B:"), None);
        let tiles = ["cepa", "shard-12", "packet-0", "shard-", "shard-1a", "quic"].map(tile);
        assert_eq!(
            tiles,
            ["control", "shard-12", "packet-0", "other", "other", "quic"]
        );
    }
}
