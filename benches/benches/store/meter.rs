//! Clocks, and what the kernel counts of this process.

use core::time::Duration;
use std::fs;
use std::path::Path;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// Wall clock and CPU time of the whole process since a moment.
#[derive(Clone, Copy)]
pub(crate) struct Meter {
    begin: Instant,
    cpu: Duration,
    written: u64,
}

/// What a phase took.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    /// Bytes that were sent to the block device.
    pub(crate) written: u64,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self {
            written: written_bytes(),
            cpu: cpu_time(),
            begin: now(),
        }
    }

    pub(crate) fn read(&self) -> Reading {
        Reading {
            wall: self.begin.elapsed(),
            cpu: cpu_time().saturating_sub(self.cpu),
            written: written_bytes().saturating_sub(self.written),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock: that is what it is for"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

fn written_bytes() -> u64 {
    field("/proc/self/io", "write_bytes:")
}

/// Resident memory of this process in bytes.
pub(crate) fn resident() -> u64 {
    field("/proc/self/status", "VmRSS:") * 1024
}

fn field(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// What the files below a directory take of the disk.
pub(crate) fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// The machine, in a line.
pub(crate) fn machine(dir: &Path) -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([':', '\t', ' ']));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let file_system = file_system(dir);
    format!(
        "{cores} cores of {processor}, Linux {}, {file_system}",
        kernel.trim()
    )
}

/// The type of the file system that holds `dir`: that of the longest mount point before it.
fn file_system(dir: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        dir.starts_with(point).then_some((point.len(), kind))
    });
    mounts
        .max_by_key(|(size, _)| *size)
        .map_or_else(String::new, |(_, kind)| kind.to_owned())
}
