//! What the machine is, for whoever reads a report later.

use std::{fs, thread};

use serde::Serialize;

/// The machine and its kernel. What can't be read is empty, or 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Such as `Linux 6.12.0`.
    pub kernel: String,
    /// The name of its CPU.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Its memory.
    pub memory_mib: u64,
}

impl Machine {
    /// This one.
    pub fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self::parse(
            &text("/proc/sys/kernel/osrelease"),
            &text("/proc/cpuinfo"),
            &text("/proc/meminfo"),
        )
    }

    fn parse(release: &str, cpus: &str, memory: &str) -> Self {
        let cpu = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let total = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"));
        let kib = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        Self {
            kernel: format!("Linux {}", release.trim()),
            cpu: cpu
                .map_or("", |rest| rest.trim_start_matches([':', ' ', '\t']))
                .to_owned(),
            cores: thread::available_parallelism().map_or(0, usize::from),
            memory_mib: kib.unwrap_or(0) / 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read() {
        let cpus = "processor\t: 0\nmodel name\t: A CPU: fast\nprocessor\t: 1\n";
        let machine = Machine::parse("6.1.0\n", cpus, "MemTotal:  2097152 kB\nMemFree: 1 kB\n");
        assert_eq!(machine.kernel, "Linux 6.1.0");
        assert_eq!(
            (machine.cpu.as_str(), machine.memory_mib),
            ("A CPU: fast", 2048)
        );
        assert!(Machine::read().cores > 0);
    }
}
