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
    /// Seconds of processor time, by tile: one a second is all that a tile can get. `control` is the main thread; a
    /// shard has with it what waits for files beside it, and `other` are threads of the kernel's ring.
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
        if let Some(thread) = stat.ok().as_deref().and_then(Thread::parse) {
            let millis = thread.ticks.saturating_mul(1000 / TICKS_PER_SECOND);
            *by_tile.entry(thread.tile(std::process::id())).or_default() += millis;
        }
    }
    by_tile.into_iter().collect()
}

/// What a line of the kernel says of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Thread<'a> {
    id: u32,
    name: &'a str,
    /// Its processor time, as user and as kernel.
    ticks: u64,
}

impl<'a> Thread<'a> {
    fn parse(stat: &'a str) -> Option<Self> {
        // The name may hold anything, parentheses too.
        let (before, after) = stat.rsplit_once(')')?;
        let (id, name) = before.split_once(" (")?;
        // Behind the name come the state as field 3, and the times as 14 and 15.
        let mut times = after.split_ascii_whitespace().skip(11);
        let mut next = || times.next()?.parse::<u64>().ok();
        Some(Self {
            id: id.parse().ok()?,
            name,
            ticks: next()?.saturating_add(next()?),
        })
    }

    /// The tile that it is: only names that are known become a label.
    fn tile(self, process_id: u32) -> LabelValue {
        if self.id == process_id {
            return "control".into();
        }
        let mut words = self.name.split('-');
        let number = words.clone().nth(1).filter(|number| {
            !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
        });
        match (words.next(), number) {
            // The executor adds a number of its own behind.
            (Some(kind @ ("shard" | "packet")), Some(number)) => format!("{kind}-{number}").into(),
            (Some("quic"), None) => "quic".into(),
            _ => "other".into(),
        }
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
        let thread = |name| Thread {
            id: 7,
            name,
            ticks: 175,
        };
        assert_eq!(Thread::parse(stat), Some(thread("a) b (c")));
        assert_eq!(Thread::parse("7 (a) S 1"), None);
        assert_eq!(field("A:\t 5 kB\nB: x", "A:"), Some(5));
        assert_eq!(field("A:\t 5 kB\nB: x", "B:"), None);
        let names = [
            "shard-12-1",
            "packet-0",
            "quic",
            "shard-",
            "shard-1a",
            "iou-wrk-3",
            "",
        ];
        let tiles = names.map(|name| thread(name).tile(1));
        let expected = [
            "shard-12", "packet-0", "quic", "other", "other", "other", "other",
        ];
        assert_eq!(tiles, expected);
        assert_eq!(thread("shard-0-1").tile(7), "control");
    }
}
