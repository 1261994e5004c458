//! The lock of a data directory: one process at a time writes its logs.

use core::time::Duration;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::StartError;

/// The lock is on this file; what stands in it means nothing.
const FILE_NAME: &str = "lock";
/// A process that was just killed holds its files until the kernel has taken its rings down.
const TRY_COUNT: usize = 20;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// The lock, for as long as this lives. The kernel gives it up with the process, however that ends.
pub(crate) struct DataDirLock(#[expect(dead_code, reason = "holds the lock")] File);

impl DataDirLock {
    /// Takes the lock of a directory that is there. Blocks for two seconds if another has it.
    pub(crate) fn take(data_dir: &Path) -> Result<Self, StartError> {
        let failed = |source| StartError::DataDir {
            path: data_dir.into(),
            source,
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(data_dir.join(FILE_NAME))
            .map_err(failed)?;
        for _ in 0..TRY_COUNT {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
                Err(TryLockError::WouldBlock) => std::thread::park_timeout(PAUSE),
            }
        }
        Err(StartError::InUse {
            path: data_dir.into(),
        })
    }
}

/// Whether a process has the lock of a directory now. Makes nothing, and holds the lock no longer than it
/// takes to ask.
pub fn is_in_use(data_dir: &Path) -> io::Result<bool> {
    let file = match File::open(data_dir.join(FILE_NAME)) {
        Ok(file) => file,
        Err(fault) if fault.kind() == ErrorKind::NotFound => return Ok(false),
        Err(fault) => return Err(fault),
    };
    // Shared, so that two who ask do not see each other.
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(fault)) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_user_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!is_in_use(directory.path()).unwrap());
        let first = DataDirLock::take(directory.path()).unwrap();
        assert!(is_in_use(directory.path()).unwrap());
        let second = DataDirLock::take(directory.path());
        assert!(matches!(second, Err(StartError::InUse { .. })));
        drop(first);
        assert!(!is_in_use(directory.path()).unwrap());
        DataDirLock::take(directory.path()).unwrap();
    }
}
