//! Reading a segment of which nothing is trusted: whole records are given out in their order, the
//! rest is stepped over and counted.
//!
//! Behind the header block there is, at every multiple of eight, either a record, or zeros up to the
//! block's end (padding, or what was never written), or damage. A damaged body is stepped over by
//! its header's size; where no header is whole, every following multiple of eight is tried.

use cepa_wire::record::{self, Position, RECORD_ALIGN, RECORD_SIZE_MAX, Record, RecordError};

use crate::disk::{BLOCK_SIZE, SegmentId};

/// Bytes of one read: memory that recovery needs.
const CHUNK_SIZE: usize = 1 << 20;

// A record that a read ends in is read whole by the next one.
const _: () = assert!(CHUNK_SIZE >= RECORD_SIZE_MAX);

const ALIGN: u64 = RECORD_ALIGN as u64;

/// What was found damaged, and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Records and stretches without a record.
    pub(crate) count: u64,
    begin: u64,
    end: u64,
}

impl Damage {
    /// Bytes from the first to the last that are damaged.
    pub(crate) const fn size(&self) -> u64 {
        self.end - self.begin
    }

    /// One piece of damage.
    pub(crate) const fn new(begin: u64, end: u64) -> Self {
        Self {
            count: 1,
            begin,
            end,
        }
    }

    fn add(&mut self, piece: Self) {
        if self.count == 0 {
            self.begin = piece.begin;
        }
        self.count += piece.count;
        self.end = self.end.max(piece.end);
    }
}

/// The state of reading one segment.
#[derive(Debug)]
pub(crate) struct Scan {
    segment: SegmentId,
    /// Up to here everything is judged.
    offset: u64,
    /// Nothing is read from here on.
    end: u64,
    /// How many bytes a record at `offset` is known to need, when reading block by block.
    needed: usize,
    /// A read failed: block by block up to here.
    careful_until: u64,
    /// Inside of a stretch without a record.
    is_stretch: bool,
    /// Behind the last whole record.
    whole_end: u64,
    record_count: u64,
    /// Before the last whole record.
    damage_count: u64,
    /// Behind it.
    tail: Damage,
    unread_block_count: u64,
}

impl Scan {
    /// Will read records up to `end`. `header_damage` is what was wrong with the header block.
    pub(crate) fn new(segment: SegmentId, end: u64, header_damage: Damage) -> Self {
        Self {
            segment,
            offset: BLOCK_SIZE as u64,
            end,
            needed: 0,
            careful_until: 0,
            is_stretch: false,
            whole_end: BLOCK_SIZE as u64,
            record_count: 0,
            damage_count: 0,
            tail: header_damage,
            unread_block_count: 0,
        }
    }

    pub(crate) const fn segment(&self) -> SegmentId {
        self.segment
    }

    /// Where the segment ends, as far as it was read.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    /// The end of the last whole record, or of the header block.
    pub(crate) const fn whole_end(&self) -> u64 {
        self.whole_end
    }

    pub(crate) const fn record_count(&self) -> u64 {
        self.record_count
    }

    /// Damage that whole records follow.
    pub(crate) const fn damage_count(&self) -> u64 {
        self.damage_count
    }

    /// Damage behind the last whole record.
    pub(crate) const fn tail(&self) -> Damage {
        self.tail
    }

    pub(crate) const fn unread_block_count(&self) -> u64 {
        self.unread_block_count
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
            CHUNK_SIZE
        };
        Some((
            self.offset,
            size.min(usize::try_from(rest).unwrap_or(usize::MAX)),
        ))
    }

    /// Takes what was read; fewer bytes than asked for mean that the file ends. Gives every whole
    /// record, its position and size to `sink`.
    pub(crate) fn handle_bytes(
        &mut self,
        bytes: &[u8],
        mut sink: impl FnMut(Record<'_>, Position, usize),
    ) {
        let Some((start, asked)) = self.next_read() else {
            return;
        };
        let bytes = bytes.get(..asked).unwrap_or(bytes);
        if bytes.len() < asked {
            self.end = start + bytes.len() as u64;
        }
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
                    sink(record, position, size);
                    self.handle_record(size);
                }
                Err(RecordError::Damaged { size }) => {
                    self.is_stretch = false;
                    self.tail
                        .add(Damage::new(self.offset, self.offset + size as u64));
                    self.offset += record::footprint(size) as u64;
                }
                Err(RecordError::Short { needed }) if self.offset + needed as u64 <= self.end => {
                    self.needed = if self.offset < self.careful_until {
                        needed
                    } else {
                        0
                    };
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
        if core::mem::take(&mut self.needed) > 0 {
            // The record runs into a block that can't be read.
            self.damage(start, start + ALIGN);
            self.offset += ALIGN;
        } else if start < self.careful_until {
            self.unread_block_count += 1;
            self.offset = block_end(start);
            self.damage(start, self.offset);
        } else {
            self.careful_until = start + asked as u64;
        }
    }

    fn handle_record(&mut self, size: usize) {
        self.record_count += 1;
        self.damage_count += self.tail.count;
        self.tail = Damage::default();
        self.is_stretch = false;
        self.offset += record::footprint(size) as u64;
        self.whole_end = self.offset;
    }

    /// Steps over what is no record: over zeros to the block's end, else eight bytes. `false` when
    /// more must be read to tell.
    fn step(&mut self, rest: &[u8]) -> bool {
        if self.is_stretch {
            let word = rest.get(..RECORD_ALIGN).unwrap_or(rest);
            if word.len() < RECORD_ALIGN {
                return false;
            }
            if word.iter().any(|byte| *byte != 0) {
                self.tail.end = self.offset + ALIGN;
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
            self.damage(self.offset, self.offset + ALIGN);
            self.offset += ALIGN;
        }
        true
    }

    /// A stretch without a record begins, or goes on.
    fn damage(&mut self, begin: u64, end: u64) {
        if self.is_stretch {
            self.tail.end = end;
        } else {
            self.is_stretch = true;
            self.tail.add(Damage::new(begin, end));
        }
    }
}

const fn block_end(offset: u64) -> u64 {
    (offset + 1).next_multiple_of(BLOCK_SIZE as u64)
}

#[cfg(test)]
mod tests {
    use cepa_wire::record::Expire;
    use cepa_wire::{Mailbox, MessageHash, Timestamp};

    use super::*;

    const BLOCK: u64 = BLOCK_SIZE as u64;
    const SEGMENT: SegmentId = SegmentId(3);

    /// A segment of 8 blocks with a small record at each of these offsets.
    fn segment(offsets: &[usize]) -> Vec<u8> {
        let mut file = vec![0; 8 * BLOCK_SIZE];
        for offset in offsets {
            let record = Expire {
                mailbox: Mailbox {
                    prefix: 5,
                    key: [1; 32],
                },
                target: record::Target {
                    hash: MessageHash([2; 32]),
                    sequence: 3,
                },
                expiry: Timestamp::MAX,
            };
            let mut bytes = Vec::new();
            let at = Position {
                segment: SEGMENT.0,
                offset: *offset as u64,
            };
            record.encode(at, &mut bytes);
            file[*offset..*offset + bytes.len()].copy_from_slice(&bytes);
        }
        file
    }

    /// Scans a file of which these blocks can't be read, and gives the offsets of whole records.
    fn scan(file: &[u8], unreadable: &[usize]) -> (Vec<usize>, Scan) {
        let mut scan = Scan::new(SEGMENT, file.len() as u64, Damage::default());
        let mut found = Vec::new();
        while let Some((offset, size)) = scan.next_read() {
            let begin = usize::try_from(offset).unwrap();
            let blocks = begin / BLOCK_SIZE..(begin + size).div_ceil(BLOCK_SIZE);
            if unreadable.iter().any(|block| blocks.contains(block)) {
                scan.handle_failure();
            } else {
                let bytes = &file[begin..(begin + size).min(file.len())];
                scan.handle_bytes(bytes, |_, position, _| {
                    found.push(usize::try_from(position.offset).unwrap());
                });
            }
        }
        (found, scan)
    }

    #[test]
    fn padding_is_no_damage() {
        let offsets = [4096, 4096 + 104, 8192, 16384];
        let (found, scan) = scan(&segment(&offsets), &[]);
        assert_eq!(found, offsets);
        assert_eq!((scan.damage_count(), scan.tail().count), (0, 0));
        assert_eq!(scan.whole_end(), 16384 + 104);
    }

    #[test]
    fn a_damaged_header_costs_one_record() {
        let offsets = [4096, 4096 + 104, 4096 + 208];
        let mut file = segment(&offsets);
        file[4096 + 104] ^= 1;
        let (found, scan) = scan(&file, &[]);
        assert_eq!(found, [4096, 4096 + 208]);
        assert_eq!((scan.damage_count(), scan.tail().count), (1, 0));
    }

    #[test]
    fn a_damaged_tail_is_told_apart() {
        let offsets = [4096, 4096 + 104];
        let mut file = segment(&offsets);
        file[4096 + 104 + 60] ^= 1;
        let (found, scan) = scan(&file, &[]);
        assert_eq!(found, [4096]);
        assert_eq!((scan.damage_count(), scan.whole_end()), (0, 4096 + 104));
        assert_eq!((scan.tail().count, scan.tail().size()), (1, 101));
    }

    #[test]
    fn an_unreadable_block_costs_only_itself() {
        let offsets = [4096, 8192 - 48, 3 * 4096, 4 * 4096 + 8, 5 * 4096];
        let (found, scan) = scan(&segment(&offsets), &[2, 4]);
        assert_eq!(found, [4096, 3 * 4096, 5 * 4096]);
        assert_eq!(scan.unread_block_count(), 2);
        assert_eq!((scan.damage_count(), scan.tail().count), (2, 0));
    }

    #[test]
    fn a_file_that_ends_early_ends_the_scan() {
        let file = segment(&[4096, 8192 - 48]);
        for size in [0, 1, 4096, 4097, 4200, 8192, 8200] {
            let (found, scan) = scan(&file[..size], &[]);
            assert_eq!(found.len(), usize::from(size >= 4200), "{size}");
            assert!(scan.end() <= (size as u64).max(BLOCK));
        }
        let mut scan = Scan::new(SEGMENT, u64::MAX, Damage::default());
        scan.handle_bytes(&[], |_, _, _| panic!("nothing is there"));
        assert_eq!(scan.next_read(), None);
    }
}
