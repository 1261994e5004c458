//! What the process takes from itself: the rest of the file system, foreign ports, system calls that a node
//! never makes, and the dump of its memory. What a stranger's bytes may one day make of it is bounded by that.
//!
//! [`landlock`] goes first, while there is one thread, since it binds the thread that asks and those that it
//! starts. [`seccomp`] goes last, when all is open and every executor has its rings; it binds all threads at
//! once. Neither needs rights. seccomp sees system calls alone, not what `io_uring` does for one; Landlock sees
//! both, for it stands where files are opened and ports are bound.

pub mod landlock;
pub mod seccomp;

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use thiserror::Error;

/// Why a part of the sandbox is not there.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// Landlock can't be had.
    #[error("Landlock is not in force: {0}")]
    Landlock(String),
    /// seccomp can't be had.
    #[error("seccomp is not in force: {0}")]
    Seccomp(String),
}

/// No dump of this process's memory, which has keys in it: the limit of a core file is zero, and for the kernel
/// the process is none that may be dumped, which also keeps other processes of the same user from reading it.
/// Before keys are read. A debugger can't attach any more but as root.
pub fn forbid_core_dumps() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    // A pipe in kernel.core_pattern gets a dump whatever the limit says; not of such a process.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Whether we are root. (`/proc/self` belongs to root too when dumps are forbidden.)
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
