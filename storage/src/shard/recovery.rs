//! Recovery: what stands in the segments becomes the index again.
//!
//! First the header and the trailer of every segment are read: headers may declare sequence numbers
//! void, and a trailer says where the segment's index stands. Then of a segment with a trailer its
//! index is read, and of any other everything, several segments at a time. Records count by their
//! sequence numbers, so the order does not matter ([`Replay`]). Last, segments that were not sealed
//! are synced, so that what was found is durable before it is shown, and those that are whole are
//! appended to, or get their index.

use std::collections::BTreeMap;

use bytes::Bytes;
use cepa_wire::record::{IndexEncoder, Record, SegmentError, SegmentHeader, SegmentTrailer};

use super::replay::Replay;
use super::{Purpose, Shard, fault, read_bytes};
use crate::class::Class;
use crate::disk::{Access, BLOCK_SIZE, DiskError, Done, Operation, SegmentId};
use crate::scan::Scan;
use crate::segment::{Ending, INDEX_SLICE_SIZE, Segment};
use crate::{Disk, StoreFault};

const BLOCK: u64 = BLOCK_SIZE as u64;

/// Segments that are read at a time: memory for it is so many chunks.
const READ_COUNT_MAX: usize = 4;

/// Memory is taken ahead for so many messages at most, whatever trailers say.
const RESERVED_COUNT_MAX: usize = 4 << 20;

/// Bytes of one read of records.
const CHUNK_SIZE: usize = 1 << 20;

/// Bytes of one read of an index: all of it, mostly, so that messages come in their order.
const INDEX_CHUNK_SIZE: usize = 8 << 20;

/// So often a header that could not be read is read again.
const HEADER_TRY_COUNT_MAX: u8 = 3;

const fn read_block(segment: SegmentId, offset: u64) -> Operation {
    Operation::Read {
        segment,
        offset,
        size: BLOCK_SIZE,
        access: Access::Sequential,
    }
}

/// How far recovery is.
#[derive(Default)]
pub(super) struct Recovery {
    phase: Phase,
    /// Ascending.
    found: Vec<Found>,
    /// The next of them to begin with.
    next: usize,
    /// Operations that have not completed.
    outstanding: usize,
    scans: BTreeMap<SegmentId, Reading>,
    replay: Replay,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Listing,
    /// Nothing can be said of the log. The next command tries again.
    ListFailed,
    Ends,
    Records,
    Sync,
}

/// What a recovery's operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    List,
    Header(SegmentId),
    Trailer(SegmentId),
    Records(SegmentId),
    Sync(SegmentId),
}

/// A segment that the disk listed.
struct Found {
    id: SegmentId,
    size: u64,
    header: Header,
    /// So often it was read again.
    header_try_count: u8,
    trailer: Option<SegmentTrailer>,
    /// What reading it gave, if it has no trailer.
    whole: Option<Whole>,
}

impl Found {
    /// Its trailer leaves out commits that failed. Who declares these void must stay all the same: the
    /// trailer may not be readable the next time.
    fn leaves_out(&self) -> bool {
        self.trailer
            .is_some_and(|trailer| trailer.data_end < trailer.index_begin)
    }
}

/// A segment without a trailer that was read.
struct Whole {
    data_end: u64,
    /// Nothing of it is damaged, torn or void.
    may_append: bool,
    /// All that can be found in it was found.
    may_index: bool,
    index: IndexEncoder,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Header {
    Whole(Class),
    /// Zeros: nothing was ever committed here.
    Blank,
    Damaged,
    /// The disk failed to read it.
    Unread,
    /// Of another version.
    Foreign,
}

/// A segment that is being read.
struct Reading {
    scan: Scan,
    is_index: bool,
    index: IndexEncoder,
    /// It holds records of failed commits.
    has_void: bool,
}

impl Recovery {
    fn find(&mut self, id: SegmentId) -> Option<&mut Found> {
        let at = self.found.binary_search_by_key(&id, |found| found.id);
        self.found.get_mut(at.ok()?)
    }

    /// One that can't be read costs only time: the segment is read whole.
    fn handle_trailer(&mut self, id: SegmentId, result: Result<Bytes, DiskError>) {
        self.outstanding -= 1;
        let Some(found) = self.find(id) else {
            return;
        };
        let trailer = result
            .ok()
            .and_then(|bytes| SegmentTrailer::parse(&bytes, id.0).ok());
        found.trailer = trailer.filter(|trailer| {
            trailer.index_begin >= BLOCK && trailer.index_end <= found.size - BLOCK
        });
    }
}

impl<D: Disk> Shard<D> {
    pub(super) fn begin_recovery(&mut self) {
        self.io
            .submit(Purpose::Recovery(Step::List), Operation::List);
    }

    /// Tries again if the segments could not even be listed.
    pub(super) fn retry_recovery(&mut self) {
        if let Some(recovery) = &mut self.recovery
            && recovery.phase == Phase::ListFailed
        {
            recovery.phase = Phase::Listing;
            self.begin_recovery();
        }
    }

    pub(super) fn handle_recovery(&mut self, step: Step, result: Result<Done, DiskError>) {
        let Some(mut recovery) = self.recovery.take() else {
            return;
        };
        match step {
            Step::List => self.handle_list(&mut recovery, result),
            Step::Header(id) => self.handle_header(&mut recovery, id, read_bytes(result)),
            Step::Trailer(id) => recovery.handle_trailer(id, read_bytes(result)),
            Step::Records(id) => self.handle_records(&mut recovery, id, read_bytes(result)),
            Step::Sync(id) => {
                recovery.outstanding -= 1;
                if result.is_err()
                    && let Some(found) = recovery.find(id)
                    && let Some(whole) = &mut found.whole
                {
                    whole.may_append = false;
                }
            }
        }
        self.recover_on(recovery);
    }

    /// Begins what can begin in this phase, and the next phase when nothing is left.
    fn recover_on(&mut self, mut recovery: Recovery) {
        loop {
            match recovery.phase {
                Phase::Listing | Phase::ListFailed => break,
                Phase::Ends => self.read_ends(&mut recovery),
                Phase::Records => self.read_segments(&mut recovery),
                Phase::Sync => {}
            }
            if recovery.outstanding > 0 {
                break;
            }
            match recovery.phase {
                Phase::Ends => self.begin_records(&mut recovery),
                Phase::Records => self.begin_syncs(&mut recovery),
                _ => return self.finish_recovery(recovery),
            }
        }
        self.recovery = Some(recovery);
    }

    fn submit_step(&mut self, recovery: &mut Recovery, step: Step, operation: Operation) {
        recovery.outstanding += 1;
        self.io.submit(Purpose::Recovery(step), operation);
    }

    fn handle_list(&mut self, recovery: &mut Recovery, result: Result<Done, DiskError>) {
        let result = match result {
            Ok(Done::Listed(found)) => Ok(found),
            Ok(_) => Err(DiskError::Failed),
            Err(error) => Err(error),
        };
        match result {
            Ok(mut found) => {
                found.sort_unstable();
                found.dedup_by_key(|(id, _)| *id);
                recovery.found = found
                    .into_iter()
                    .map(|(id, size)| Found {
                        id,
                        size,
                        header: Header::Unread,
                        header_try_count: 0,
                        trailer: None,
                        whole: None,
                    })
                    .collect();
                recovery.phase = Phase::Ends;
            }
            Err(error) => {
                recovery.phase = Phase::ListFailed;
                self.fail_waiting(fault(error));
                self.fail_retrieves(StoreFault::DiskFailed);
                self.fail_dumps(StoreFault::DiskFailed);
                self.fail_early(StoreFault::DiskFailed);
            }
        }
    }

    /// Reads headers and trailers on.
    fn read_ends(&mut self, recovery: &mut Recovery) {
        while recovery.outstanding < 2 * READ_COUNT_MAX
            && let Some(found) = recovery.found.get(recovery.next)
        {
            let (segment, size) = (found.id, found.size);
            recovery.next += 1;
            let header = read_block(segment, 0);
            self.submit_step(recovery, Step::Header(segment), header);
            if let Some(offset) = size.checked_sub(BLOCK).filter(|at| *at >= BLOCK) {
                let trailer = read_block(segment, offset);
                self.submit_step(recovery, Step::Trailer(segment), trailer);
            }
        }
    }

    fn handle_header(
        &mut self,
        recovery: &mut Recovery,
        id: SegmentId,
        result: Result<Bytes, DiskError>,
    ) {
        recovery.outstanding -= 1;
        let bytes = result.unwrap_or_default();
        let Some(block) = bytes.get(..BLOCK_SIZE) else {
            self.handle_unread_header(recovery, id);
            return;
        };
        let header = match SegmentHeader::parse(block, id.0) {
            Ok(header) => {
                if !self.settings.has_deliberate_bug {
                    recovery.replay.add_void(header.void, id);
                }
                Header::Whole(Class::from_number(header.class))
            }
            Err(SegmentError::Version(_)) => Header::Foreign,
            Err(SegmentError::Absent) if block.iter().all(|byte| *byte == 0) => Header::Blank,
            Err(SegmentError::Absent) => Header::Damaged,
        };
        if let Some(found) = recovery.find(id) {
            found.header = header;
        }
    }

    /// A header that can't be read is asked for again: it may declare void what nobody else does.
    fn handle_unread_header(&mut self, recovery: &mut Recovery, id: SegmentId) {
        let Some(found) = recovery.find(id) else {
            return;
        };
        if found.size < BLOCK {
            // Its making was cut off.
            found.header = Header::Blank;
            return;
        }
        if found.header_try_count < HEADER_TRY_COUNT_MAX {
            found.header_try_count += 1;
            let read = read_block(id, 0);
            self.submit_step(recovery, Step::Header(id), read);
            return;
        }
        self.counts.unread_block_count += 1;
        self.catalog.segments.keep_all();
    }

    fn begin_records(&mut self, recovery: &mut Recovery) {
        recovery.phase = Phase::Records;
        recovery.next = 0;
        let trailers = recovery.found.iter().filter_map(|found| found.trailer);
        let index_size: u64 = trailers.map(|one| one.index_end - one.index_begin).sum();
        let count = usize::try_from(index_size).unwrap_or(0) / IndexEncoder::entry_size(0, true);
        let count = count.min(RESERVED_COUNT_MAX);
        self.catalog.index.reserve(count);
        recovery.replay.reserve(count);
        for found in &recovery.found {
            if found.header == Header::Foreign {
                self.counts.foreign_segment_count += 1;
            } else {
                self.catalog.segments.insert_sealed(found.id, found.size);
                // Without a trailer it is judged when it has been read.
                let is_lost = matches!(found.header, Header::Blank | Header::Damaged);
                self.counts.corrupt_record_count += u64::from(is_lost && found.trailer.is_some());
            }
        }
    }

    /// Begins to read segments, as many as may be read at a time.
    fn read_segments(&mut self, recovery: &mut Recovery) {
        while recovery.scans.len() < READ_COUNT_MAX
            && let Some(found) = recovery.found.get(recovery.next)
        {
            recovery.next += 1;
            if found.header == Header::Foreign {
                continue;
            }
            let id = found.id;
            let (begin, end, chunk_size) = match found.trailer {
                Some(trailer) => (trailer.index_begin, trailer.index_end, INDEX_CHUNK_SIZE),
                None => (BLOCK, found.size, CHUNK_SIZE),
            };
            let reading = Reading {
                scan: Scan::new(id, begin, end, chunk_size),
                is_index: found.trailer.is_some(),
                index: IndexEncoder::default(),
                has_void: false,
            };
            self.read_on(recovery, reading);
        }
    }

    fn read_on(&mut self, recovery: &mut Recovery, reading: Reading) {
        let segment = reading.scan.segment();
        if let Some((offset, size)) = reading.scan.next_read() {
            recovery.scans.insert(segment, reading);
            let operation = Operation::Read {
                segment,
                offset,
                size,
                access: Access::Sequential,
            };
            self.submit_step(recovery, Step::Records(segment), operation);
        } else {
            self.finish_segment(recovery, reading);
        }
    }

    fn handle_records(
        &mut self,
        recovery: &mut Recovery,
        id: SegmentId,
        result: Result<Bytes, DiskError>,
    ) {
        recovery.outstanding -= 1;
        let Some(mut reading) = recovery.scans.remove(&id) else {
            return;
        };
        let Reading {
            scan,
            is_index,
            index,
            has_void,
        } = &mut reading;
        let replay = &mut recovery.replay;
        let catalog = &mut self.catalog;
        match result {
            Ok(bytes) => {
                let start = scan.next_read().map_or(0, |(offset, _)| offset);
                scan.handle_bytes(&bytes, |record, position, size| match record {
                    Record::Index(entries) if *is_index => {
                        for (record, offset, size) in entries.records() {
                            replay.handle_record(catalog, id, offset, record, size);
                        }
                    }
                    Record::Index(_) => {}
                    Record::Commit(commit) => replay.handle_commit(commit),
                    _ => {
                        if !replay.handle_record(catalog, id, position.offset, record, size) {
                            *has_void = true;
                            return;
                        }
                        let begin = usize::try_from(position.offset - start).unwrap_or(usize::MAX);
                        let end = begin.saturating_add(size);
                        if let Some(bytes) = bytes.get(begin..end) {
                            index.push(bytes, position.offset);
                        }
                    }
                });
            }
            Err(_) => scan.handle_failure(),
        }
        self.read_on(recovery, reading);
    }

    /// Judges what a segment held.
    fn finish_segment(&mut self, recovery: &mut Recovery, reading: Reading) {
        let Reading {
            scan,
            is_index,
            index,
            has_void,
        } = reading;
        let id = scan.segment();
        if is_index {
            if scan.is_damaged() {
                self.reread(recovery, id);
            }
            return;
        }
        let Some(found) = recovery.find(id) else {
            return;
        };
        let is_unread = found.header == Header::Unread || scan.is_unread();
        let is_written = scan.record_count() > 0;
        self.counts.unread_block_count += scan.unread_block_count();
        let header_is_lost = matches!(found.header, Header::Blank | Header::Damaged);
        let may_index = !is_unread && !has_void;
        let is_clean = !scan.is_damaged() && !scan.has_index() && !header_is_lost;
        found.whole = Some(Whole {
            data_end: scan.data_end().next_multiple_of(BLOCK),
            may_append: may_index && is_clean,
            may_index,
            index,
        });
        if header_is_lost && is_written {
            self.counts.corrupt_record_count += 1;
        } else if found.header == Header::Damaged {
            self.counts.torn_tail_bytes += BLOCK;
        }
        if is_unread {
            // It may hold messages: it must not be removed for having none that we know of, and what
            // deletes them must stay as long as it does. Or it may say that others live longer.
            self.catalog.segments.pin(id);
            self.catalog.segments.mark_stale(id);
            self.catalog.segments.keep_all();
        }
        recovery.replay.add_damages(scan.into_damages(), is_unread);
    }

    /// The index of a segment is damaged: all of it is read instead.
    fn reread(&mut self, recovery: &mut Recovery, id: SegmentId) {
        let Some(found) = recovery.find(id) else {
            return;
        };
        let end = found
            .trailer
            .take()
            .map_or(found.size, |trailer| trailer.data_end);
        self.counts.corrupt_record_count += 1;
        let reading = Reading {
            scan: Scan::new(id, BLOCK, end, CHUNK_SIZE),
            is_index: false,
            index: IndexEncoder::default(),
            has_void: false,
        };
        self.read_on(recovery, reading);
    }

    /// What was read of unsealed segments may still be on its way to the disk.
    fn begin_syncs(&mut self, recovery: &mut Recovery) {
        recovery.phase = Phase::Sync;
        let unsealed: Vec<_> = recovery
            .found
            .iter()
            .filter(|found| found.whole.is_some())
            .map(|found| found.id)
            .collect();
        for segment in unsealed {
            self.submit_step(recovery, Step::Sync(segment), Operation::Sync { segment });
        }
    }

    fn finish_recovery(&mut self, recovery: Recovery) {
        let Recovery {
            mut replay, found, ..
        } = recovery;
        let damage = replay.damage();
        self.counts.corrupt_record_count += damage.corrupt_count;
        self.counts.torn_tail_bytes += damage.torn_size;
        let newest = found.last().map(|found| found.id.0);
        let next_segment = newest.map_or(Some(0), |newest| newest.checked_add(1));
        let cut = found.iter().filter(|found| found.leaves_out());
        let cut: Vec<_> = cut.map(|found| found.id).collect();
        let next_sequence = replay.finish(&mut self.catalog, &cut);
        let is_damaged = self.counts.is_damaged();
        for found in found.into_iter().rev() {
            self.settle_segment(found, is_damaged);
        }
        // Numbers of what could not be read, and those given out before the newest segment was made,
        // are smaller than this.
        let first_free = next_segment.map_or(u64::MAX >> 1, |next| u64::from(next) << 32);
        self.committer
            .recover(next_segment.map(SegmentId), next_sequence.max(first_free));
    }

    /// Makes of a segment what it is from now on: open, to be indexed, or sealed.
    fn settle_segment(&mut self, found: Found, log_is_damaged: bool) {
        let Found {
            id,
            size,
            header,
            header_try_count: _,
            trailer,
            whole,
        } = found;
        let class = match header {
            Header::Whole(class) => class,
            _ => Class::LONGEST,
        };
        if let Some(trailer) = trailer {
            let ending = Ending {
                class,
                data_end: trailer.data_end,
                index_begin: trailer.index_begin,
                size,
                index: IndexEncoder::default(),
            };
            self.catalog.segments.settle_sealed(id, ending, false);
            return;
        }
        let Some(whole) = whole else {
            return;
        };
        let size = size - size % BLOCK;
        if whole.may_append && !log_is_damaged && self.catalog.segments.open(class).is_none() {
            let open = Segment::resume(id, class, size, whole.data_end.min(size), whole.index);
            if open.fits(BLOCK_SIZE, BLOCK_SIZE) {
                self.catalog.segments.reopen(open);
                return;
            }
            let index = open.into_index();
            self.settle_whole(id, class, size, Whole { index, ..whole });
            return;
        }
        self.settle_whole(id, class, size, whole);
    }

    fn settle_whole(&mut self, id: SegmentId, class: Class, size: u64, whole: Whole) {
        let index_size = IndexEncoder::encoded_size_max(whole.index.size()) as u64;
        let slices_size = index_size / (INDEX_SLICE_SIZE as u64) * BLOCK;
        let fits = whole.data_end + index_size + slices_size + 4 * BLOCK <= size;
        let index = if whole.may_index && fits {
            whole.index
        } else {
            IndexEncoder::default()
        };
        let ending = Ending {
            class,
            data_end: whole.data_end,
            index_begin: whole.data_end,
            size,
            index,
        };
        self.catalog
            .segments
            .settle_sealed(id, ending, !whole.may_index);
    }
}
