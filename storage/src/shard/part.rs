//! What a commit writes into one segment.

use bytes::Bytes;
use cepa_wire::record::{
    self, Commit as CommitRecord, IndexEncoder, Position, SEGMENT_HEADER_SIZE, SegmentHeader,
    footprint,
};

use crate::class::Class;
use crate::disk::{BLOCK_SIZE, SegmentId};
use crate::segment::{Open, Segment};

/// A Commit record, padded.
const COMMIT_SIZE: usize = footprint(CommitRecord::SIZE);

/// A commit's records for the open segment of a class: a header block if the segment is fresh, a
/// Commit record, and the records.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) class: Class,
    pub(super) position: Position,
    data: Vec<u8>,
    header_size: usize,
    pub(super) index: IndexEncoder,
}

impl Part {
    /// Begins a part at the end of a segment. `void` is for the header of a fresh one.
    pub(super) fn new(class: Class, open: &Segment<Open>, void: (u64, u64)) -> Self {
        let position = open.tail();
        let mut data = Vec::with_capacity(2 * BLOCK_SIZE);
        if position.offset == 0 {
            let header = SegmentHeader {
                segment: position.segment,
                class: class.wire_number(),
                void,
            };
            header.encode(&mut data);
        }
        let header_size = data.len();
        // The Commit record is written when its size is known.
        data.resize(header_size + COMMIT_SIZE, 0);
        Self {
            class,
            position,
            data,
            header_size,
            index: IndexEncoder::default(),
        }
    }

    /// What a part takes before its first record.
    pub(super) const fn overhead(open: &Segment<Open>) -> usize {
        if open.tail().offset == 0 {
            SEGMENT_HEADER_SIZE + COMMIT_SIZE
        } else {
            COMMIT_SIZE
        }
    }

    pub(super) const fn segment(&self) -> SegmentId {
        SegmentId(self.position.segment)
    }

    pub(super) const fn size(&self) -> usize {
        self.data.len()
    }

    /// Appends what `encode` makes; gives its position and its size without padding.
    pub(super) fn append(
        &mut self,
        encode: impl FnOnce(Position, &mut Vec<u8>) -> usize,
    ) -> (Position, usize) {
        let begin = self.data.len();
        let position = Position {
            segment: self.position.segment,
            offset: self.position.offset + begin as u64,
        };
        let size = encode(position, &mut self.data);
        let written = self.data.get(begin..begin + size).unwrap_or_default();
        self.index.push(written, position.offset);
        (position, size)
    }

    /// Ends the part: whole blocks, with the Commit record.
    pub(super) fn finish(&mut self, sequence: u64, settled: u64) -> Bytes {
        let record = CommitRecord {
            sequence,
            settled,
            size: (self.data.len() - self.header_size) as u64,
        };
        let at = Position {
            segment: self.position.segment,
            offset: self.position.offset + self.header_size as u64,
        };
        let mut encoded = Vec::with_capacity(COMMIT_SIZE);
        record.encode(at, &mut encoded);
        let place = self.data.iter_mut().skip(self.header_size);
        for (to, from) in place.zip(encoded) {
            *to = from;
        }
        let size = self.data.len().next_multiple_of(BLOCK_SIZE);
        self.data.resize(size, 0);
        // The tail cache counts the bytes, not the capacity.
        self.data.shrink_to_fit();
        Bytes::from(core::mem::take(&mut self.data))
    }
}

// The header block of a fresh segment, a Commit and the largest record fit into the smallest one.
const _: () = assert!(
    (2 * SEGMENT_HEADER_SIZE
        + COMMIT_SIZE
        + footprint(record::RECORD_SIZE_MAX)
        + IndexEncoder::encoded_size_max(record::RECORD_SIZE_MAX)
        + 4 * BLOCK_SIZE) as u64
        <= crate::Settings::SEGMENT_SIZE_MIN
);
