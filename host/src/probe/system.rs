//! Limits of this process, and the cores that it may run on.

use rustix::process::{Resource, Rlimit, getrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};

/// A limit of this process; none: there is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What counts.
    pub soft: Option<u64>,
    /// What it may be raised to.
    pub hard: Option<u64>,
}

/// The limits that a node meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of locked memory.
    pub locked_memory: Limit,
    /// Open files, sockets among them.
    pub open_files: Limit,
    /// Bytes of a core file.
    pub core_size: Limit,
}

/// Asks the kernel.
pub fn limits() -> Limits {
    let limit = |resource| {
        let Rlimit { current, maximum } = getrlimit(resource);
        Limit {
            soft: current,
            hard: maximum,
        }
    };
    Limits {
        locked_memory: limit(Resource::Memlock),
        open_files: limit(Resource::Nofile),
        core_size: limit(Resource::Core),
    }
}

/// The cores that this process may be pinned to, in order; empty when the system does not tell.
pub fn allowed_cpus() -> Vec<usize> {
    let Ok(allowed) = sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_core_and_may_open_files() {
        assert!(!allowed_cpus().is_empty());
        assert_ne!(limits().open_files.soft, Some(0));
    }
}
