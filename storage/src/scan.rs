//! Reading a segment of which nothing is trusted: whole records are given out in their order, the
//! rest is stepped over and counted.
//!
//! Behind the header block there is, at every multiple of eight, either a record, or zeros up to the
//! block's end (padding, or what was never written), or damage. A damaged body is stepped over by
//! its header's size; where no header is whole, every following multiple of eight is tried.
//!
//! Whether damage is corruption or a commit that a crash tore can't be told here: it is noted with
//! the commit that it lies in, or the next one that is whole.

use cepa_wire::record::{self, Position, RECORD_ALIGN, RECORD_SIZE_MAX, Record, RecordError};

use crate::disk::{BLOCK_SIZE, SegmentId};

const ALIGN: u64 = RECORD_ALIGN as u64;

/// What was found damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Records and stretches without a record.
    pub(crate) count: u64,
    /// Bytes.
    pub(crate) size: u64,
}

impl Damage {
    const fn add(&mut self, size: u64) {
        self.count += 1;
        self.size += size;
    }
}

/// Where damage lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// In the commit that begins with this sequence number.
    In(u64),
    /// Behind a commit, and before the one that begins with this.
    Before(u64),
    /// No commit follows.
    Tail,
}

impl Site {
    /// Whether what was damaged had been durable, if records before `settled` were.
    pub(crate) const fn was_durable(self, settled: u64) -> bool {
        match self {
            Self::In(sequence) => sequence < settled,
            Self::Before(sequence) => sequence <= settled,
            Self::Tail => false,
        }
    }
}

/// A commit that was found.
#[derive(Clone, Copy, Debug)]
struct CommitAt {
    sequence: u64,
    end: u64,
}

/// The state of reading one segment.
#[derive(Debug)]
pub(crate) struct Scan {
    segment: SegmentId,
    /// Up to here everything is judged.
    offset: u64,
    /// Nothing is read from here on.
    end: u64,
    chunk_size: usize,
    /// How many bytes a record at `offset` is known to need, when it does not fit into a chunk or
    /// is read block by block.
    needed: usize,
    /// A read failed: block by block up to here.
    careful_until: u64,
    /// Inside of a stretch without a record.
    is_stretch: bool,
    /// Behind the last whole record that is no Index.
    data_end: u64,
    record_count: u64,
    has_index: bool,
    commit: Option<CommitAt>,
    /// Since the last commit: inside of it, and behind it.
    inside: Damage,
    behind: Damage,
    damages: Vec<(Site, Damage)>,
    unread_block_count: u64,
    /// Something was asked for and never came.
    is_unread: bool,
}

impl Scan {
    /// Will read records from `begin` up to `end`, so many bytes at a time, and more where a record
    /// is larger. A chunk has a block at least.
    pub(crate) const fn new(segment: SegmentId, begin: u64, end: u64, chunk_size: usize) -> Self {
        Self {
            segment,
            offset: begin,
            end,
            chunk_size: if chunk_size < BLOCK_SIZE {
                BLOCK_SIZE
            } else {
                chunk_size
            },
            needed: 0,
            careful_until: 0,
            is_stretch: false,
            data_end: begin,
            record_count: 0,
            has_index: false,
            commit: None,
            inside: Damage { count: 0, size: 0 },
            behind: Damage { count: 0, size: 0 },
            damages: Vec::new(),
            unread_block_count: 0,
            is_unread: false,
        }
    }

    pub(crate) const fn segment(&self) -> SegmentId {
        self.segment
    }

    /// The end of the last whole record that is no Index.
    pub(crate) const fn data_end(&self) -> u64 {
        self.data_end
    }

    /// Whole records, Commits and Indexes not counted.
    pub(crate) const fn record_count(&self) -> u64 {
        self.record_count
    }

    /// Whether an Index stands here: nothing may be appended.
    pub(crate) const fn has_index(&self) -> bool {
        self.has_index
    }

    pub(crate) const fn is_unread(&self) -> bool {
        self.is_unread
    }

    pub(crate) const fn unread_block_count(&self) -> u64 {
        self.unread_block_count
    }

    /// Whether anything was damaged or could not be read.
    pub(crate) const fn is_damaged(&self) -> bool {
        !self.damages.is_empty() || self.inside.count + self.behind.count > 0
    }

    /// What was damaged, all of it.
    pub(crate) fn into_damages(mut self) -> Vec<(Site, Damage)> {
        self.flush_damage(Site::Tail);
        self.damages
    }

    /// Where a scan would go on.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// What to read next: offset and size. `None` when the segment is read.
    pub(crate) fn next_read(&self) -> Option<(u64, usize)> {
        let rest = self.end.checked_sub(self.offset)?;
        if rest < ALIGN {
            return None;
        }
        let size = if self.needed > 0 {
            self.needed
        } else if self.offset < self.careful_until {
            usize::try_from(block_end(self.offset) - self.offset).ok()?
        } else {
            self.chunk_size
        };
        Some((
            self.offset,
            size.min(usize::try_from(rest).unwrap_or(usize::MAX)),
        ))
    }

    /// Takes what was read; fewer bytes than asked for are a failure, since what is asked for lies
    /// within the file. Gives every whole record, its position and size to `sink`.
    pub(crate) fn handle_bytes(
        &mut self,
        bytes: &[u8],
        mut sink: impl FnMut(Record<'_>, Position, usize),
    ) {
        self.handle_bytes_while(bytes, |record, position, size| {
            sink(record, position, size);
            true
        });
    }

    /// The same, until `sink` says that it did not take a record: the scan stays before that one.
    pub(crate) fn handle_bytes_while(
        &mut self,
        bytes: &[u8],
        mut sink: impl FnMut(Record<'_>, Position, usize) -> bool,
    ) {
        let Some((start, asked)) = self.next_read() else {
            return;
        };
        let Some(bytes) = bytes.get(..asked) else {
            self.handle_failure();
            return;
        };
        self.needed = 0;
        while self.offset + ALIGN <= self.end {
            let begin = usize::try_from(self.offset - start).unwrap_or(usize::MAX);
            let Some(rest) = bytes.get(begin..).filter(|rest| !rest.is_empty()) else {
                return;
            };
            let position = Position {
                segment: self.segment.0,
                offset: self.offset,
            };
            match record::parse(rest, position) {
                Ok((record, size)) => {
                    if !sink(record, position, size) {
                        return;
                    }
                    self.handle_record(record, size);
                }
                Err(RecordError::Damaged { size }) => {
                    self.is_stretch = false;
                    self.damage(size as u64);
                    self.offset += record::footprint(size) as u64;
                }
                Err(RecordError::Short { needed }) if self.offset + needed as u64 <= self.end => {
                    // Larger than what is read at a time, or its blocks are read one by one.
                    let is_first = begin == 0 || self.offset < self.careful_until;
                    self.needed = if is_first { needed } else { 0 };
                    return;
                }
                Err(RecordError::Short { .. } | RecordError::Absent) => {
                    if !self.step(rest) {
                        return;
                    }
                }
            }
        }
    }

    /// What [`Self::next_read`] asked for can't be read: tries smaller pieces, then goes on behind
    /// the block.
    pub(crate) fn handle_failure(&mut self) {
        let Some((start, asked)) = self.next_read() else {
            return;
        };
        let was_careful = start < self.careful_until;
        if core::mem::take(&mut self.needed) > 0 && was_careful {
            // The record runs into a block that can't be read. Alone, the block may be readable the
            // next time; the record was not all the same.
            self.is_unread = true;
            self.stretch(ALIGN);
            self.offset += ALIGN;
        } else if was_careful {
            self.unread_block_count += 1;
            self.is_unread = true;
            let end = block_end(start);
            self.stretch(end - start);
            self.offset = end;
        } else {
            self.careful_until = start + asked as u64;
        }
    }

    fn handle_record(&mut self, record: Record<'_>, size: usize) {
        self.is_stretch = false;
        match record {
            Record::Commit(commit) => {
                self.flush_damage(Site::Before(commit.sequence));
                self.commit = Some(CommitAt {
                    sequence: commit.sequence,
                    end: self.offset.saturating_add(commit.size),
                });
            }
            Record::Index(_) => self.has_index = true,
            _ => self.record_count += 1,
        }
        self.offset += record::footprint(size) as u64;
        if !matches!(record, Record::Index(_)) {
            self.data_end = self.offset;
        }
    }

    /// Steps over what is no record: over zeros to the block's end, else eight bytes. `false` when
    /// more must be read to tell.
    fn step(&mut self, rest: &[u8]) -> bool {
        if self.is_stretch {
            let Some(word) = rest.get(..RECORD_ALIGN) else {
                return false;
            };
            if word.iter().any(|byte| *byte != 0) {
                self.stretch(ALIGN);
            }
            self.offset += ALIGN;
            return true;
        }
        let block_end = block_end(self.offset).min(self.end);
        let size = usize::try_from(block_end - self.offset).unwrap_or(usize::MAX);
        let Some(block) = rest.get(..size) else {
            return false;
        };
        if block.iter().all(|byte| *byte == 0) {
            self.offset = block_end;
        } else {
            self.stretch(ALIGN);
            self.offset += ALIGN;
        }
        true
    }

    /// Where damage is counted that lies here.
    fn site(&mut self) -> &mut Damage {
        let is_inside = self.commit.is_some_and(|commit| self.offset < commit.end);
        if is_inside {
            &mut self.inside
        } else {
            &mut self.behind
        }
    }

    fn damage(&mut self, size: u64) {
        self.site().add(size);
    }

    /// A stretch without a record begins, or goes on.
    fn stretch(&mut self, size: u64) {
        if self.is_stretch && self.site().count > 0 {
            self.site().size += size;
        } else {
            self.is_stretch = true;
            self.damage(size);
        }
    }

    fn flush_damage(&mut self, behind: Site) {
        let inside = core::mem::take(&mut self.inside);
        if let Some(commit) = self.commit
            && inside.count > 0
        {
            self.damages.push((Site::In(commit.sequence), inside));
        }
        let rest = core::mem::take(&mut self.behind);
        if rest.count > 0 {
            self.damages.push((behind, rest));
        }
    }
}

const fn block_end(offset: u64) -> u64 {
    (offset + 1).next_multiple_of(BLOCK_SIZE as u64)
}

// A record that a read ends in is read whole by the next one.
const _: () = assert!(RECORD_SIZE_MAX < 1 << 20);

#[cfg(test)]
mod tests {
    use cepa_wire::record::{Commit, Delete, DeleteTarget, footprint};
    use cepa_wire::{Mailbox, MessageHash};

    use super::*;

    const BLOCK: u64 = BLOCK_SIZE as u64;
    const SEGMENT: SegmentId = SegmentId(3);
    const RECORD_SIZE: usize = footprint(Delete::size(1));

    fn write(file: &mut [u8], offset: usize, encode: impl FnOnce(Position, &mut Vec<u8>)) {
        let mut bytes = Vec::new();
        let at = Position {
            segment: SEGMENT.0,
            offset: offset as u64,
        };
        encode(at, &mut bytes);
        file[offset..offset + bytes.len()].copy_from_slice(&bytes);
    }

    /// A segment of 8 blocks with a small record at each of these offsets.
    fn segment(offsets: &[usize]) -> Vec<u8> {
        let mut file = vec![0; 8 * BLOCK_SIZE];
        let mailbox = Mailbox {
            prefix: 5,
            key: [1; 32],
        };
        let target = DeleteTarget {
            hash: MessageHash([2; 32]),
            segment: 3,
        };
        for offset in offsets {
            write(&mut file, *offset, |at, out| {
                Delete::encode(mailbox, 7, &[target], at, out);
            });
        }
        file
    }

    fn commit(file: &mut [u8], offset: usize, sequence: u64, size: u64) {
        let commit = Commit {
            sequence,
            settled: 0,
            size,
        };
        write(file, offset, |at, out| commit.encode(at, out));
    }

    /// Scans a file of which these blocks can't be read, and gives the offsets of whole records.
    fn scan(file: &[u8], unreadable: &[usize], chunk_size: usize) -> (Vec<usize>, Scan) {
        let mut scan = Scan::new(SEGMENT, BLOCK, file.len() as u64, chunk_size);
        let mut found = Vec::new();
        while let Some((offset, size)) = scan.next_read() {
            let begin = usize::try_from(offset).unwrap();
            let blocks = begin / BLOCK_SIZE..(begin + size).div_ceil(BLOCK_SIZE);
            if unreadable.iter().any(|block| blocks.contains(block)) {
                scan.handle_failure();
            } else {
                let bytes = &file[begin..(begin + size).min(file.len())];
                scan.handle_bytes(bytes, |record, position, _| {
                    if matches!(record, Record::Delete(_)) {
                        found.push(usize::try_from(position.offset).unwrap());
                    }
                });
            }
        }
        (found, scan)
    }

    #[test]
    fn padding_is_no_damage() {
        let offsets = [4096, 4096 + RECORD_SIZE, 8192, 16384];
        for chunk_size in [4096, 5000, 1 << 20] {
            let (found, scan) = scan(&segment(&offsets), &[], chunk_size);
            assert_eq!(found, offsets);
            assert!(!scan.is_damaged());
            assert_eq!(scan.data_end(), (16384 + RECORD_SIZE) as u64);
        }
    }

    #[test]
    fn damage_is_noted_with_its_commit() {
        let second = 4096 + 48 + RECORD_SIZE;
        let mut file = segment(&[4096 + 48, second, 8192 + 48, 12288 + 48]);
        commit(&mut file, 4096, 10, (48 + 2 * RECORD_SIZE) as u64);
        commit(&mut file, 8192, 20, (48 + RECORD_SIZE) as u64);
        commit(&mut file, 12288, 30, (48 + RECORD_SIZE) as u64);
        // A record's body in the first, the second's beginning, and the third's record.
        file[second + 60] ^= 1;
        file[8192] ^= 1;
        file[12288 + 48 + 60] ^= 1;
        let (found, scan) = scan(&file, &[], 1 << 20);
        assert_eq!(found, [4096 + 48, 8192 + 48]);
        let sites: Vec<_> = scan
            .into_damages()
            .into_iter()
            .map(|(site, damage)| (site, damage.count))
            .collect();
        let expected = [(Site::In(10), 1), (Site::Before(30), 1), (Site::In(30), 1)];
        assert_eq!(sites, expected);
        assert!(Site::In(10).was_durable(11) && !Site::In(10).was_durable(10));
        assert!(Site::Before(30).was_durable(30) && !Site::Before(30).was_durable(29));
        assert!(!Site::Tail.was_durable(u64::MAX));
    }

    #[test]
    fn an_unreadable_block_costs_only_itself() {
        let offsets = [4096, 8192 - 48, 3 * 4096, 4 * 4096 + 8, 5 * 4096];
        let (found, scan) = scan(&segment(&offsets), &[2, 4], 1 << 20);
        assert_eq!(found, [4096, 3 * 4096, 5 * 4096]);
        assert_eq!(scan.unread_block_count(), 2);
        assert!(scan.is_damaged());
    }

    #[test]
    fn a_record_larger_than_a_chunk_is_read() {
        let offsets = [4096, 4096 + RECORD_SIZE];
        let (found, _) = scan(&segment(&offsets), &[], 64);
        assert_eq!(found, offsets);
    }

    #[test]
    fn a_file_that_ends_early_ends_the_scan() {
        let file = segment(&[4096, 8192 - 48]);
        for size in [0, 1, 4096, 4097, 4096 + RECORD_SIZE, 8192, 8200] {
            let (found, scan) = scan(&file[..size], &[], 1 << 20);
            let is_whole = size >= 4096 + RECORD_SIZE;
            assert_eq!(found.len(), usize::from(is_whole), "{size}");
            assert_eq!(scan.unread_block_count(), 0);
        }
    }

    #[test]
    fn a_short_read_is_a_failure_and_not_the_end() {
        let offsets = [4096, 8192, 3 * 4096];
        let file = segment(&offsets);
        let mut scan = Scan::new(SEGMENT, BLOCK, file.len() as u64, 1 << 20);
        let mut found = Vec::new();
        let mut is_first = true;
        while let Some((offset, size)) = scan.next_read() {
            let begin = usize::try_from(offset).unwrap();
            let size = if core::mem::take(&mut is_first) {
                100
            } else {
                size
            };
            scan.handle_bytes(&file[begin..begin + size], |_, position, _| {
                found.push(usize::try_from(position.offset).unwrap());
            });
        }
        assert_eq!(found, offsets);
        assert_eq!(scan.unread_block_count(), 0);
    }
}
