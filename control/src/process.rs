//! What the kernel tells of this process, read when somebody asks: memory, open files, and the time that each
//! tile had a processor.

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cepa_meter::{Declared, LabelValue, Sample};

/// Parts of a second that the kernel tells processor time in, on every machine that this runs on.
const TICKS_PER_SECOND: u64 = 100;
/// Where the kernel tells of this process.
const OURS: &str = "/proc/self";
/// What is no tile.
const OTHER: &str = "other";

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
    /// shard has with it what waits for files beside it; `quic`, or `outside` where there is none, asks servers and
    /// oxend too. `other` is what is left: threads of the kernel's rings, those that have ended with them.
    counts(tile) cpu_seconds / 1000,
}

/// What is declared of the process.
pub fn declared() -> impl Iterator<Item = &'static Declared> {
    ProcessNumbers::DECLARED.iter()
}

/// The most that [`OTHER`] was told of: each number of the kernel is rounded by itself, so that their difference may
/// go back a tick, which would be taken for a restart.
static OTHER_MILLIS_MAX: AtomicU64 = AtomicU64::new(0);

/// Reads it.
pub fn samples() -> Vec<Sample> {
    let mut numbers = read(Path::new(OURS));
    never_back(&mut numbers.cpu_seconds, &OTHER_MILLIS_MAX);
    numbers.samples()
}

fn never_back(cpu_seconds: &mut [(LabelValue, u64)], told: &AtomicU64) {
    let mut others = cpu_seconds.iter_mut();
    if let Some((_, millis)) = others.find(|(tile, _)| tile == OTHER) {
        *millis = told.fetch_max(*millis, Ordering::Relaxed).max(*millis);
    }
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
    let to_millis = |ticks: u64| ticks.saturating_mul(1000 / TICKS_PER_SECOND);
    let mut by_tile = BTreeMap::<LabelValue, u64>::new();
    for task in tasks.flatten() {
        // A thread may end meanwhile.
        let stat = fs::read_to_string(task.path().join("stat"));
        if let Some(thread) = stat.ok().as_deref().and_then(Thread::parse) {
            let millis = to_millis(thread.ticks);
            *by_tile.entry(thread.tile(std::process::id())).or_default() += millis;
        }
    }
    // Threads that ended are in the time of the whole process alone.
    let whole = fs::read_to_string(process.join("stat"));
    if let Some(whole) = whole.ok().as_deref().and_then(Thread::parse) {
        by_tile.remove(OTHER);
        let of_tiles: u64 = by_tile.values().sum();
        let other = to_millis(whole.ticks).saturating_sub(of_tiles);
        by_tile.insert(OTHER.into(), other);
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
            (Some("outside"), None) => "outside".into(),
            _ => OTHER.into(),
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
    fn the_time_of_threads_that_ended_stays_told() {
        let made = tempfile::tempdir().unwrap();
        let process = made.path();
        let line = |id: u32, name: &str, ticks: u64| {
            format!("{id} ({name}) S 1 2 3 4 5 6 7 8 9 10 {ticks} 0 0 0")
        };
        for (id, name, ticks) in [(7, "shard-0-1", 40), (8, "iou-wrk-7", 5)] {
            let task = process.join(format!("task/{id}"));
            fs::create_dir_all(&task).unwrap();
            fs::write(task.join("stat"), line(id, name, ticks)).unwrap();
        }
        let tell = |ticks| {
            fs::write(process.join("stat"), line(6, "cepa", ticks)).unwrap();
            cpu_by_tile(process)
        };
        let expected = |other| [("other".into(), other), ("shard-0".into(), 400)];
        assert_eq!(tell(60), expected(200));
        fs::remove_dir_all(process.join("task/8")).unwrap();
        let told = AtomicU64::new(0);
        let mut numbers = tell(60);
        never_back(&mut numbers, &told);
        assert_eq!(numbers, expected(200));
        let mut numbers = tell(59);
        never_back(&mut numbers, &told);
        assert_eq!(numbers, expected(200));
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
            "outside",
            "shard-",
            "shard-1a",
            "iou-wrk-3",
            "",
        ];
        let tiles = names.map(|name| thread(name).tile(1));
        let expected = [
            "shard-12", "packet-0", "quic", "outside", "other", "other", "other", "other",
        ];
        assert_eq!(tiles, expected);
        assert_eq!(thread("shard-0-1").tile(7), "control");
    }
}
