//! A disk in memory that is honest about what a real one does at its worst: it delays and reorders,
//! fails, tears unsynced writes at sectors, loses them, and flips bits. A seed drives it.
//!
//! It also checks its user: whole blocks, within the file, and never twice the same block.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "for tests, and each uses another part of it"
)]

use std::collections::BTreeMap;

use bytes::Bytes;
use cepa_storage::Disk;
use cepa_storage::disk::{BLOCK_SIZE, Completion, DiskError, Done, Operation, SegmentId, Token};

/// What a disk writes whole or not at all.
const SECTOR_SIZE: usize = 512;

/// Splitmix64: small, seeded, good enough.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap_or(0)
    }

    /// True so many times of a thousand.
    pub(crate) fn permille(&mut self, permille: usize) -> bool {
        self.below(1000) < permille
    }
}

/// How often operations fail, of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FaultRates {
    pub(crate) list: usize,
    pub(crate) create: usize,
    pub(crate) write: usize,
    pub(crate) sync: usize,
    pub(crate) read: usize,
    /// Reads that give less than was asked.
    pub(crate) shorten: usize,
    pub(crate) remove: usize,
}

impl FaultRates {
    pub(crate) const NONE: Self = Self {
        list: 0,
        create: 0,
        write: 0,
        sync: 0,
        read: 0,
        shorten: 0,
        remove: 0,
    };

    /// All of them fail as often.
    pub(crate) const fn all(permille: usize) -> Self {
        Self {
            list: permille,
            create: permille,
            write: permille,
            sync: permille,
            read: permille,
            shorten: permille,
            remove: permille,
        }
    }
}

#[derive(Debug, Default)]
struct File {
    /// What reads see.
    current: Vec<u8>,
    /// What a crash leaves for sure.
    durable: Vec<u8>,
    unsynced: Vec<Write>,
    /// Behind everything that was ever written.
    written_end: usize,
}

#[derive(Debug)]
struct Write {
    token: Token,
    offset: usize,
    data: Bytes,
    /// Durable when it completes.
    is_durable: bool,
    /// The next sync covers it.
    is_completed: bool,
}

#[derive(Debug)]
struct Pending {
    token: Token,
    operation: Operation,
    /// The writes that a sync covers.
    covered: Vec<Token>,
}

/// The disk.
#[derive(Debug)]
pub(crate) struct TestDisk {
    files: BTreeMap<SegmentId, File>,
    pending: Vec<Pending>,
    rng: Rng,
    /// Complete at once and in order; otherwise later, in any order.
    pub(crate) is_instant: bool,
    /// No space for new segments.
    pub(crate) is_full: bool,
    /// The bug that proves the checker: says that it synced, and did not.
    pub(crate) ignores_sync: bool,
    pub(crate) faults: FaultRates,
    /// So many of the next writes fail.
    pub(crate) write_failure_count: usize,
    /// So many operations complete, and no more.
    pub(crate) budget: usize,
    /// Operations that completed well, for tests that count them.
    pub(crate) completed: Vec<Operation>,
}

impl Default for TestDisk {
    fn default() -> Self {
        Self::new(0)
    }
}

impl TestDisk {
    /// An empty disk that completes at once.
    pub(crate) const fn new(seed: u64) -> Self {
        Self {
            files: BTreeMap::new(),
            pending: Vec::new(),
            rng: Rng::new(seed),
            is_instant: true,
            is_full: false,
            ignores_sync: false,
            faults: FaultRates::NONE,
            write_failure_count: 0,
            budget: usize::MAX,
            completed: Vec::new(),
        }
    }

    /// Operations that have not completed.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &Operation> {
        self.pending.iter().map(|pending| &pending.operation)
    }

    /// A disk with these bytes as a segment.
    pub(crate) fn with_segment(mut self, segment: SegmentId, bytes: &[u8]) -> Self {
        let file = File {
            current: bytes.to_vec(),
            durable: bytes.to_vec(),
            ..File::default()
        };
        self.files.insert(segment, file);
        self
    }

    /// The process dies: what it had begun happens or not. What was not synced can still be lost
    /// with the power, until somebody syncs it.
    pub(crate) fn abandon(&mut self) {
        self.abandon_files();
        for file in self.files.values_mut() {
            for write in &mut file.unsynced {
                let range = write.offset..write.offset + write.data.len();
                if !write.is_completed {
                    let kept_permille = self.rng.below(1001);
                    tear(&mut self.rng, kept_permille, &mut file.current, write);
                    write.data = Bytes::copy_from_slice(&file.current[range]);
                    write.is_completed = true;
                }
            }
            file.written_end = 0;
        }
    }

    fn abandon_files(&mut self) {
        for pending in core::mem::take(&mut self.pending) {
            match pending.operation {
                Operation::Create { segment, size } if self.rng.permille(700) => {
                    let size = if self.rng.permille(800) { size } else { 0 };
                    self.create(segment, size);
                }
                Operation::Remove { segment } if self.rng.permille(500) => {
                    self.files.remove(&segment);
                }
                _ => {}
            }
        }
    }

    /// The power goes: what was not synced is lost, torn or kept.
    pub(crate) fn crash(&mut self) {
        self.abandon_files();
        for file in self.files.values_mut() {
            for write in core::mem::take(&mut file.unsynced) {
                let kept_permille = match self.rng.below(4) {
                    0 => 0,
                    1 => 1000,
                    _ => self.rng.below(1000),
                };
                tear(&mut self.rng, kept_permille, &mut file.durable, &write);
            }
            file.current.clone_from(&file.durable);
            // What the disk kept of a torn write may be covered by the next: it was not durable.
            file.written_end = 0;
        }
    }

    /// The segments, and what stands in them.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (SegmentId, &[u8])> {
        self.files.iter().map(|(id, file)| (*id, &*file.current))
    }

    /// Changes what stands in a segment, durably.
    pub(crate) fn edit(&mut self, segment: SegmentId, edit: impl Fn(&mut Vec<u8>)) {
        let file = self.files.get_mut(&segment).expect("a segment that exists");
        edit(&mut file.current);
        edit(&mut file.durable);
    }

    /// Flips a bit somewhere in a segment. Does nothing if there is none.
    pub(crate) fn flip_bit(&mut self) {
        let candidates: Vec<_> = self.files.keys().copied().collect();
        if candidates.is_empty() {
            return;
        }
        let segment = candidates[self.rng.below(candidates.len())];
        // Where something was written, mostly.
        let size = self.files[&segment].current.len();
        if size == 0 {
            return;
        }
        let index = (0..8)
            .map(|_| self.rng.below(size))
            .find(|index| self.files[&segment].current[*index] != 0)
            .unwrap_or(0);
        let mask = 1 << self.rng.below(8);
        self.edit(segment, |bytes| bytes[index] ^= mask);
    }

    fn create(&mut self, segment: SegmentId, size: u64) {
        let size = usize::try_from(size).expect("a size that fits into memory");
        let file = File {
            current: vec![0; size],
            durable: vec![0; size],
            ..File::default()
        };
        let old = self.files.insert(segment, file);
        assert!(old.is_none(), "{segment:?} exists");
    }

    fn file(&mut self, segment: SegmentId) -> &mut File {
        self.files
            .get_mut(&segment)
            .unwrap_or_else(|| panic!("{segment:?} does not exist"))
    }

    fn begin_write(
        &mut self,
        token: Token,
        segment: SegmentId,
        (offset, data): (u64, &Bytes),
        is_durable: bool,
    ) {
        let file = self.file(segment);
        let offset = usize::try_from(offset).expect("an offset that fits into memory");
        assert_eq!(offset % BLOCK_SIZE, 0, "whole blocks");
        assert_eq!(data.len() % BLOCK_SIZE, 0, "whole blocks");
        assert!(offset + data.len() <= file.current.len(), "within the file");
        assert!(offset >= file.written_end, "no block is written twice");
        file.written_end = offset + data.len();
        file.unsynced.push(Write {
            token,
            offset,
            data: data.clone(),
            is_durable,
            is_completed: false,
        });
    }

    fn is_faulty(&mut self, operation: &Operation) -> Option<DiskError> {
        let permille = match operation {
            Operation::List => self.faults.list,
            Operation::Create { .. } => self.faults.create,
            Operation::Write { .. } => self.faults.write,
            Operation::Sync { .. } => self.faults.sync,
            Operation::Read { .. } => self.faults.read,
            Operation::Remove { .. } => self.faults.remove,
        };
        if self.is_full && matches!(operation, Operation::Create { .. }) {
            return Some(DiskError::Full);
        }
        if self.write_failure_count > 0 && matches!(operation, Operation::Write { .. }) {
            self.write_failure_count -= 1;
            return Some(DiskError::Failed);
        }
        self.rng.permille(permille).then_some(DiskError::Failed)
    }

    /// What a failed operation leaves behind.
    fn fail(&mut self, pending: &Pending) {
        match pending.operation {
            Operation::Create { segment, .. } if self.rng.permille(300) && !self.is_full => {
                self.create(segment, 0);
            }
            Operation::Write { segment, .. } => {
                let kept_permille = self.rng.below(1001);
                let file = self.files.get_mut(&segment).expect("checked at submit");
                let mut written = file.unsynced.iter();
                if let Some(write) = written.find(|write| write.token == pending.token) {
                    tear(&mut self.rng, kept_permille, &mut file.current, write);
                }
            }
            // The kernel forgets that these were not written: no later sync covers them.
            Operation::Sync { segment } => {
                for write in &mut self.file(segment).unsynced {
                    write.is_completed &= !pending.covered.contains(&write.token);
                }
            }
            _ => {}
        }
    }

    fn complete(&mut self, pending: &Pending) -> Done {
        match &pending.operation {
            Operation::List => {
                let segments = self.files.iter();
                let sizes = segments.map(|(id, file)| (*id, file.current.len() as u64));
                return Done::Listed(sizes.collect());
            }
            Operation::Create { segment, size } => self.create(*segment, *size),
            Operation::Write { segment, .. } => {
                let ignores_sync = self.ignores_sync;
                let File {
                    current,
                    durable,
                    unsynced,
                    ..
                } = self.file(*segment);
                unsynced.retain_mut(|write| {
                    if write.token != pending.token {
                        return true;
                    }
                    write.is_completed = true;
                    let range = write.offset..write.offset + write.data.len();
                    current[range.clone()].copy_from_slice(&write.data);
                    let is_durable = write.is_durable && !ignores_sync;
                    if is_durable {
                        durable[range].copy_from_slice(&write.data);
                    }
                    !is_durable
                });
            }
            Operation::Sync { segment } if !self.ignores_sync => {
                let File {
                    durable, unsynced, ..
                } = self.file(*segment);
                unsynced.retain(|write| {
                    let is_covered = pending.covered.contains(&write.token);
                    if is_covered {
                        durable[write.offset..write.offset + write.data.len()]
                            .copy_from_slice(&write.data);
                    }
                    !is_covered
                });
            }
            Operation::Sync { .. } => {}
            Operation::Read {
                segment,
                offset,
                size,
                ..
            } => {
                let is_short = self.rng.permille(self.faults.shorten);
                let size = &(if is_short {
                    self.rng.below(*size)
                } else {
                    *size
                });
                let bytes = &self.file(*segment).current;
                let begin = usize::try_from(*offset)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                let end = begin.saturating_add(*size).min(bytes.len());
                return Done::Read(Bytes::copy_from_slice(&bytes[begin..end]));
            }
            Operation::Remove { segment } => {
                let removed = self.files.remove(segment);
                assert!(removed.is_some(), "{segment:?} does not exist");
            }
        }
        Done::Done
    }
}

/// Writes some sectors.
fn tear(rng: &mut Rng, kept_permille: usize, file: &mut [u8], write: &Write) {
    let sectors = file[write.offset..].chunks_mut(SECTOR_SIZE);
    for (to, from) in sectors.zip(write.data.chunks(SECTOR_SIZE)) {
        if rng.permille(kept_permille) {
            to.copy_from_slice(from);
        }
    }
}

impl Disk for TestDisk {
    fn submit(&mut self, token: Token, operation: Operation) {
        let mut covered = Vec::new();
        match &operation {
            Operation::Write {
                segment,
                offset,
                data,
                is_durable,
            } => self.begin_write(token, *segment, (*offset, data), *is_durable),
            Operation::Sync { segment } => {
                let writes = self.file(*segment).unsynced.iter();
                covered.extend(
                    writes
                        .filter(|write| write.is_completed)
                        .map(|write| write.token),
                );
            }
            _ => {}
        }
        self.pending.push(Pending {
            token,
            operation,
            covered,
        });
    }

    fn poll(&mut self) -> Option<Completion> {
        if self.pending.is_empty() || !self.is_instant && self.rng.permille(500) {
            return None;
        }
        self.budget = self.budget.checked_sub(1)?;
        let index = if self.is_instant {
            0
        } else {
            self.rng.below(self.pending.len())
        };
        let pending = self.pending.remove(index);
        let token = pending.token;
        let result = if let Some(error) = self.is_faulty(&pending.operation) {
            self.fail(&pending);
            Err(error)
        } else {
            let done = self.complete(&pending);
            self.completed.push(pending.operation);
            Ok(done)
        };
        Some(Completion { token, result })
    }
}
