//! The end of a sealed segment: its index and a trailer, so that the next recovery reads only these.
//!
//! One segment is ended at a time, and a slice of the index written at a time. If the disk fails,
//! the segment stays without: recovery reads it whole.

use bytes::Bytes;
use cepa_wire::record::{Position, SegmentTrailer};

use super::{Purpose, Shard};
use crate::Disk;
use crate::disk::{BLOCK_SIZE, DiskError, Operation, SegmentId};
use crate::segment::{Ending, INDEX_SLICE_SIZE};

/// A segment that is being ended.
pub(super) struct Sealing {
    segment: SegmentId,
    ending: Ending,
    next_record: usize,
    offset: u64,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Index,
    Sync,
    Trailer,
}

impl Sealing {
    /// The next slice of the index; `None` when all was written.
    fn next_slice(&mut self) -> Option<Bytes> {
        let mut data = Vec::new();
        while data.len() < INDEX_SLICE_SIZE {
            let at = Position {
                segment: self.segment.0,
                offset: self.offset + data.len() as u64,
            };
            if !self.ending.index.encode(self.next_record, at, &mut data) {
                break;
            }
            self.next_record += 1;
        }
        data.resize(data.len().next_multiple_of(BLOCK_SIZE), 0);
        (!data.is_empty()).then(|| Bytes::from(data))
    }

    fn trailer(&self) -> Bytes {
        let mut data = Vec::with_capacity(BLOCK_SIZE);
        let trailer = SegmentTrailer {
            segment: self.segment.0,
            class: self.ending.class.wire_number(),
            data_end: self.ending.data_end,
            index_begin: self.ending.index_begin,
            index_end: self.offset,
        };
        trailer.encode(&mut data);
        Bytes::from(data)
    }
}

impl<D: Disk> Shard<D> {
    /// Begins to end a segment, if one waits for it. Not while something is in doubt: an index leaves
    /// out the commits that failed, and a crash could take that back until they are declared void.
    pub(super) fn begin_sealing(&mut self) {
        if self.sealing.is_some() || self.committer.is_in_doubt() {
            return;
        }
        let Some((segment, ending)) = self.catalog.segments.take_ending() else {
            return;
        };
        if ending.index.is_empty() {
            return;
        }
        self.catalog.segments.pin(segment);
        let offset = ending.index_begin;
        self.sealing = Some(Sealing {
            segment,
            ending,
            next_record: 0,
            offset,
            phase: Phase::Index,
        });
        self.seal_on();
    }

    fn seal_on(&mut self) {
        let Some(sealing) = &mut self.sealing else {
            return;
        };
        let segment = sealing.segment;
        let operation = match sealing.phase {
            Phase::Index => {
                if let Some(data) = sealing.next_slice() {
                    let offset = sealing.offset;
                    sealing.offset += data.len() as u64;
                    self.counts.index_bytes += data.len() as u64;
                    Operation::Write {
                        segment,
                        offset,
                        data,
                        is_durable: false,
                    }
                } else {
                    sealing.phase = Phase::Sync;
                    Operation::Sync { segment }
                }
            }
            Phase::Sync => Operation::Sync { segment },
            Phase::Trailer => Operation::Write {
                segment,
                offset: sealing.ending.size - BLOCK_SIZE as u64,
                data: sealing.trailer(),
                is_durable: true,
            },
        };
        self.io.submit(Purpose::Seal, operation);
    }

    pub(super) fn handle_sealing(&mut self, result: Result<(), DiskError>) {
        let Some(sealing) = &mut self.sealing else {
            return;
        };
        let is_over = match (result, sealing.phase) {
            (Ok(()), Phase::Index) => false,
            (Ok(()), Phase::Sync) => {
                sealing.phase = Phase::Trailer;
                false
            }
            (Ok(()), Phase::Trailer) => {
                self.counts.sealed_segment_count += 1;
                true
            }
            (Err(_), _) => true,
        };
        if is_over {
            let segment = sealing.segment;
            self.sealing = None;
            self.catalog.segments.unpin(segment);
        } else {
            self.seal_on();
        }
    }
}
