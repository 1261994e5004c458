//! The disk of the benchmarks of the message store's engine, by the clock and by instructions: it completes at once.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use cepa_storage::Disk;
use cepa_storage::disk::{Completion, DiskError, Done, Operation, SegmentId, Token};

/// Files in memory.
#[derive(Debug, Default)]
pub struct MemoryDisk {
    files: BTreeMap<SegmentId, Vec<u8>>,
    completed: VecDeque<Completion>,
}

impl MemoryDisk {
    fn carry_out(&mut self, operation: Operation) -> Option<Done> {
        match operation {
            Operation::List => return Some(Done::Listed(Vec::new())),
            Operation::Create { segment, size } => {
                let file = vec![0; usize::try_from(size).ok()?];
                self.files.insert(segment, file);
            }
            Operation::Write {
                segment,
                offset,
                data,
                ..
            } => {
                let offset = usize::try_from(offset).ok()?;
                let file = self.files.get_mut(&segment)?;
                file.get_mut(offset..offset + data.len())?
                    .copy_from_slice(&data);
            }
            Operation::Sync { .. } => {}
            Operation::Read {
                segment,
                offset,
                size,
                ..
            } => {
                let offset = usize::try_from(offset).ok()?;
                let file = self.files.get(&segment)?;
                let bytes = file.get(offset..offset + size)?;
                return Some(Done::Read(Bytes::copy_from_slice(bytes)));
            }
            Operation::Remove { segment } => {
                self.files.remove(&segment)?;
            }
        }
        Some(Done::Done)
    }
}

impl Disk for MemoryDisk {
    fn submit(&mut self, token: Token, operation: Operation) {
        let result = self.carry_out(operation).ok_or(DiskError::Failed);
        self.completed.push_back(Completion { token, result });
    }

    fn poll(&mut self) -> Option<Completion> {
        self.completed.pop_front()
    }
}
