//! A disk of real files, one system call after the other: what the engine costs with a real sync. The
//! node's own disk is glommio's; this one is for comparing engines at equal durability.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use bytes::Bytes;
use cepa_storage::disk::{Completion, Disk, DiskError, Done, Operation, SegmentId, Token};

/// Segment files in a directory. Every operation is complete when it was submitted.
pub struct FileDisk {
    dir: PathBuf,
    files: BTreeMap<SegmentId, File>,
    completed: VecDeque<Completion>,
}

impl FileDisk {
    /// Files in `dir`, which must be there and empty.
    pub const fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            files: BTreeMap::new(),
            completed: VecDeque::new(),
        }
    }

    fn carry_out(&mut self, operation: Operation) -> io::Result<Done> {
        match operation {
            Operation::List => return Ok(Done::Listed(Vec::new())),
            Operation::Create { segment, size } => {
                let path = self.path(segment);
                let mut options = OpenOptions::new();
                let file = options.read(true).write(true).create_new(true).open(path)?;
                file.set_len(size)?;
                file.sync_all()?;
                self.files.insert(segment, file);
            }
            Operation::Write {
                segment,
                offset,
                data,
            } => {
                self.file(segment)?.write_all_at(&data, offset)?;
            }
            Operation::Sync { segment } => self.file(segment)?.sync_data()?,
            Operation::Read {
                segment,
                offset,
                size,
            } => {
                let mut bytes = vec![0; size];
                self.file(segment)?.read_exact_at(&mut bytes, offset)?;
                return Ok(Done::Read(Bytes::from(bytes)));
            }
            Operation::Remove { segment } => {
                self.files.remove(&segment);
                fs::remove_file(self.path(segment))?;
            }
        }
        Ok(Done::Done)
    }

    fn file(&self, segment: SegmentId) -> io::Result<&File> {
        self.files
            .get(&segment)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn path(&self, segment: SegmentId) -> PathBuf {
        self.dir.join(format!("segment-{:08}.log", segment.0))
    }
}

impl Disk for FileDisk {
    fn submit(&mut self, token: Token, operation: Operation) {
        let result = self.carry_out(operation).map_err(|_| DiskError::Failed);
        self.completed.push_back(Completion { token, result });
    }

    fn poll(&mut self) -> Option<Completion> {
        self.completed.pop_front()
    }
}
