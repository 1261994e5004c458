//! The disk below a directory: what it is, and how long a durable write takes there.

use core::time::Duration;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fdatasync, open, statfs, statvfs};
use rustix::io::{Errno, pwrite};

use crate::clock::Stopwatch;

/// Direct writes begin at a multiple of this, in memory and in the file: any disk's block.
const ALIGNMENT: usize = 4096;
/// The file that is written to: larger than the caches that some disks lie about.
const FILE_SIZE: usize = 4 << 20;
/// Zeros are written to it in pieces of this size.
const ZEROS_SIZE: usize = 256 << 10;
/// More writes than that tell nothing more.
const WRITE_COUNT_MAX: usize = 4096;

/// What a directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryFacts {
    /// Who owns it.
    pub owner: u32,
    /// Its mode, such as `0o700`.
    pub mode: u32,
    /// The kind of file system (`statfs(2)`): see [`filesystem_name`].
    pub filesystem: i64,
    /// Bytes that we may still write there.
    pub free_size: u64,
}

/// Asks for a directory that is there.
pub fn directory_facts(path: &Path) -> io::Result<DirectoryFacts> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let space = statvfs(path)?;
    Ok(DirectoryFacts {
        owner: metadata.uid(),
        mode: metadata.mode() & 0o7777,
        filesystem: statfs(path)?.f_type,
        free_size: space.f_bavail.saturating_mul(space.f_frsize),
    })
}

/// What a kind of file system is called; none: one that is seldom used for data.
pub const fn filesystem_name(kind: i64) -> Option<&'static str> {
    Some(match kind {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0x6969 => "nfs",
        0x6573_5546 => "fuse",
        _ => return None,
    })
}

/// How long durable writes took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteTimes {
    /// How many there were.
    pub count: usize,
    /// Half of them took no longer.
    pub median: Duration,
    /// One of a hundred took longer.
    pub p99: Duration,
    /// The slowest.
    pub max: Duration,
}

/// Writes blocks of `size` bytes, one after the other and each durable before the next, as the message
/// log does (`O_DIRECT`, `O_DSYNC`, over zeros), into a file of its own for as long as `duration`, at
/// least one of them. The file is removed. An error of kind `Unsupported` is that of a file system
/// without direct writes.
pub fn time_durable_writes(
    directory: &Path,
    size: usize,
    duration: Duration,
) -> io::Result<WriteTimes> {
    assert!(
        size.is_multiple_of(ALIGNMENT) && (1..=FILE_SIZE).contains(&size),
        "whole blocks, and no more than the file"
    );
    let file = Temporary::in_directory(directory);
    file.fill()?;
    let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::DSYNC | OFlags::CLOEXEC;
    let opened = open(&file.path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::INVAL => io::ErrorKind::Unsupported.into(),
        errno => io::Error::from(errno),
    })?;
    let buffer = Aligned::new(size, 0x5a);
    let mut times = Vec::with_capacity(WRITE_COUNT_MAX);
    let whole = Stopwatch::start();
    let mut offset = 0;
    while times.is_empty() || (whole.elapsed() < duration && times.len() < WRITE_COUNT_MAX) {
        let one = Stopwatch::start();
        let written = pwrite(&opened, buffer.bytes(), u64::try_from(offset).unwrap_or(0))?;
        if written != size {
            return Err(io::ErrorKind::WriteZero.into());
        }
        times.push(one.elapsed());
        offset = (offset + size) % (FILE_SIZE - FILE_SIZE % size);
    }
    Ok(summary(times))
}

fn summary(mut times: Vec<Duration>) -> WriteTimes {
    times.sort_unstable();
    let at = |part: usize| {
        let index = (times.len() * part / 100).min(times.len().saturating_sub(1));
        times.get(index).copied().unwrap_or_default()
    };
    WriteTimes {
        count: times.len(),
        median: at(50),
        p99: at(99),
        max: at(100),
    }
}

/// A file that is gone when this is.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn in_directory(directory: &Path) -> Self {
        let mut name = OsString::from(".cepa-doctor-");
        name.push(hex_of(crate::random::bytes()));
        Self {
            path: directory.join(name),
        }
    }

    /// Makes it, of [`FILE_SIZE`] zeros that are on the disk.
    fn fill(&self) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let opened = open(&self.path, flags, Mode::RUSR | Mode::WUSR)?;
        let zeros = vec![0; ZEROS_SIZE];
        for offset in (0..FILE_SIZE).step_by(ZEROS_SIZE) {
            if pwrite(&opened, &zeros, u64::try_from(offset).unwrap_or(0))? != ZEROS_SIZE {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        Ok(fdatasync(&opened)?)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It may not have been made.
        drop(fs::remove_file(&self.path));
    }
}

fn hex_of(bytes: [u8; 8]) -> String {
    format!("{:016x}", u64::from_be_bytes(bytes))
}

/// Bytes that begin where direct writes must.
struct Aligned {
    bytes: Vec<u8>,
    begin: usize,
    size: usize,
}

impl Aligned {
    fn new(size: usize, byte: u8) -> Self {
        let bytes = vec![byte; size + ALIGNMENT];
        let begin = bytes.as_ptr().align_offset(ALIGNMENT);
        Self { bytes, begin, size }
    }

    fn bytes(&self) -> &[u8] {
        let end = self.begin.saturating_add(self.size);
        self.bytes.get(self.begin..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn times_are_summed_up() {
        let times = (1..=200).rev().map(Duration::from_micros).collect();
        let expected = WriteTimes {
            count: 200,
            median: Duration::from_micros(101),
            p99: Duration::from_micros(199),
            max: Duration::from_micros(200),
        };
        assert_eq!(summary(times), expected);
        let one = summary(vec![Duration::from_millis(3)]);
        assert_eq!(
            [one.median, one.p99, one.max],
            [Duration::from_millis(3); 3]
        );
    }

    #[test]
    fn writes_are_timed_and_leave_nothing() {
        let directory = tempfile::tempdir_in(".").unwrap();
        for size in [4096, 64 << 10] {
            match time_durable_writes(directory.path(), size, Duration::from_millis(20)) {
                Ok(times) => assert!(times.count > 0 && times.median <= times.max, "{times:?}"),
                Err(fault) => assert_eq!(fault.kind(), io::ErrorKind::Unsupported, "{fault}"),
            }
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let absent = directory.path().join("absent");
        assert!(time_durable_writes(&absent, 4096, Duration::ZERO).is_err());
    }

    #[test]
    fn a_directory_is_described() {
        let directory = tempfile::tempdir().unwrap();
        let owner_alone = fs::Permissions::from_mode(0o700);
        fs::set_permissions(directory.path(), owner_alone).unwrap();
        let facts = directory_facts(directory.path()).unwrap();
        assert_eq!(facts.mode, 0o700);
        assert!(facts.free_size > 0);
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(directory_facts(&file).is_err());
    }
}
