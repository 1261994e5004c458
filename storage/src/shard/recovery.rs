//! Recovery: what stands in the segments becomes the index again.
//!
//! First the header of every segment is read, because a later header may declare the end of an
//! earlier segment void; then every segment, in order, by a [`Scan`]. Damage that nothing whole
//! follows is a torn tail: a commit that was never acknowledged. It is cut, which means that the
//! next segment's header declares it void; damage that something whole follows is counted as
//! corruption. Last, the segment that was written last is synced, so that what was found is durable
//! before it is shown, and appended to if it was left clean.

use std::collections::BTreeSet;

use bytes::Bytes;
use cepa_wire::record::{Position, Record, SegmentHeader, SegmentHeaderError, Target};

use super::{Purpose, Shard, fault, read_bytes};
use crate::catalog::{Catalog, Effect};
use crate::disk::{BLOCK_SIZE, DiskError, Done, Operation, SegmentId};
use crate::index::{Entry, Place};
use crate::scan::{Damage, Scan};
use crate::{Disk, StoreFault};

const BLOCK: u64 = BLOCK_SIZE as u64;

/// How far recovery is.
#[derive(Default)]
pub(super) struct Recovery {
    phase: Phase,
    /// Ascending.
    found: Vec<Found>,
    /// From where, and before which segment, the log is void.
    voids: Vec<(Position, SegmentId)>,
    /// Segments of which something could not be read or was damaged.
    damaged: BTreeSet<SegmentId>,
    /// Damage that nothing whole follows so far.
    torn: Option<Torn>,
    /// The segment that was written last.
    last: Option<Last>,
}

#[derive(Default)]
enum Phase {
    #[default]
    Listing,
    /// Nothing can be said of the log. The next command tries again.
    ListFailed,
    /// Of which of the found.
    Header(usize),
    /// Which of the found.
    Records(usize, Scan),
    Sync,
}

/// A segment that the disk listed.
#[derive(Clone, Copy)]
struct Found {
    id: SegmentId,
    size: u64,
    header: Header,
}

#[derive(Clone, Copy)]
enum Header {
    Whole,
    /// Zeros: nothing was ever committed here.
    Blank,
    Damaged,
    /// The disk failed to read it.
    Unread,
    /// Of a later version.
    Foreign,
}

/// Damage that nothing whole follows.
struct Torn {
    from: Position,
    count: u64,
    size: u64,
}

/// What is known of the segment that was written last.
struct Last {
    id: SegmentId,
    size: u64,
    whole_end: u64,
    /// Whole up to its end, so that it may be appended to.
    is_clean: bool,
}

impl Recovery {
    /// Where the records of a segment end: at its size, or where a later header says.
    fn end_of(&self, found: Found) -> u64 {
        let mut end = found.size;
        for (from, by) in &self.voids {
            if found.id < *by && from.segment <= found.id.0 {
                let is_first = from.segment == found.id.0;
                end = end.min(if is_first { from.offset } else { 0 });
            }
        }
        end
    }

    /// Something whole was found behind it, so it is no torn tail.
    fn settle_torn(&mut self) -> u64 {
        self.torn.take().map_or(0, |torn| torn.count)
    }

    fn handle_record(
        &mut self,
        catalog: &mut Catalog,
        record: Record<'_>,
        position: Position,
        size: usize,
    ) {
        let by = SegmentId(position.segment);
        match record {
            Record::Store(store) => {
                let place = Place {
                    mailbox: store.mailbox,
                    namespace: store.namespace,
                    sequence: store.sequence,
                };
                let entry = Entry {
                    hash: store.hash,
                    expiry: store.expiry,
                    position,
                    record_size: u32::try_from(size).unwrap_or(u32::MAX),
                    expiry_segment: None,
                };
                catalog.apply(Effect::Insert(place, entry));
            }
            Record::Expire(expire) => {
                let place = find(catalog, expire.mailbox, expire.target);
                if let Some(place) = place {
                    catalog.apply(Effect::Raise(place, expire.expiry, by));
                }
            }
            Record::Delete(delete) => {
                for target in delete.targets() {
                    match find(catalog, delete.mailbox(), target) {
                        Some(place) => catalog.apply(Effect::Remove(place, by)),
                        None => catalog.hide_all(by, &self.damaged),
                    }
                }
            }
        }
    }
}

fn find(catalog: &Catalog, mailbox: cepa_wire::Mailbox, target: Target) -> Option<Place> {
    let (place, _) = catalog.index.find(mailbox, target.hash)?;
    (place.sequence == target.sequence).then_some(place)
}

impl<D: Disk> Shard<D> {
    pub(super) fn begin_recovery(&mut self) {
        self.io.submit(Purpose::Recovery, Operation::List);
    }

    /// Tries again if the segments could not even be listed.
    pub(super) fn retry_recovery(&mut self) {
        if let Some(recovery) = &mut self.recovery
            && matches!(recovery.phase, Phase::ListFailed)
        {
            recovery.phase = Phase::Listing;
            self.begin_recovery();
        }
    }

    pub(super) fn handle_recovery(&mut self, result: Result<Done, DiskError>) {
        let Some(mut recovery) = self.recovery.take() else {
            return;
        };
        match core::mem::take(&mut recovery.phase) {
            Phase::Listing | Phase::ListFailed => self.handle_list(recovery, result),
            Phase::Header(index) => {
                self.handle_header(&mut recovery, index, read_bytes(result));
                self.read_header(recovery, index + 1);
            }
            Phase::Records(index, mut scan) => {
                match read_bytes(result) {
                    Ok(bytes) => scan.handle_bytes(&bytes, |record, position, size| {
                        recovery.handle_record(&mut self.catalog, record, position, size);
                    }),
                    Err(_) => scan.handle_failure(),
                }
                self.read_records(recovery, index, scan);
            }
            Phase::Sync => self.finish_recovery(recovery, result.is_ok()),
        }
    }

    fn handle_list(&mut self, mut recovery: Recovery, result: Result<Done, DiskError>) {
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
                    })
                    .collect();
                self.read_header(recovery, 0);
            }
            Err(error) => {
                recovery.phase = Phase::ListFailed;
                self.recovery = Some(recovery);
                self.fail_waiting(fault(error));
                self.fail_retrieves(StoreFault::DiskFailed);
            }
        }
    }

    /// Reads the next header, or goes on to the records when all are read.
    fn read_header(&mut self, mut recovery: Recovery, index: usize) {
        if let Some(found) = recovery.found.get(index) {
            let operation = Operation::Read {
                segment: found.id,
                offset: 0,
                size: BLOCK_SIZE,
            };
            recovery.phase = Phase::Header(index);
            self.recovery = Some(recovery);
            self.io.submit(Purpose::Recovery, operation);
            return;
        }
        for found in &recovery.found {
            self.insert_found(*found);
        }
        for (from, by) in &recovery.voids {
            let from = SegmentId(from.segment.min(by.0));
            self.catalog.segments.hide_range(*by, from);
        }
        match self.begin_scan(&mut recovery, 0) {
            Some((index, scan)) => self.read_records(recovery, index, scan),
            None => self.sync_last(recovery),
        }
    }

    fn insert_found(&mut self, found: Found) {
        match found.header {
            Header::Foreign => self.counts.foreign_segment_count += 1,
            _ => self.catalog.segments.insert_sealed(found.id),
        }
    }

    fn handle_header(
        &mut self,
        recovery: &mut Recovery,
        index: usize,
        result: Result<Bytes, DiskError>,
    ) {
        let Some(found) = recovery.found.get_mut(index) else {
            return;
        };
        let Ok(bytes) = result else {
            self.counts.unread_block_count += 1;
            return;
        };
        let block = bytes.get(..BLOCK_SIZE).unwrap_or(&bytes);
        found.header = match SegmentHeader::parse(block, found.id.0) {
            Ok(header) => {
                let void = header.void_from.map(|from| (from, found.id));
                recovery.voids.extend(void);
                Header::Whole
            }
            Err(SegmentHeaderError::Version(_)) => Header::Foreign,
            Err(SegmentHeaderError::Absent) if block.iter().all(|byte| *byte == 0) => Header::Blank,
            Err(SegmentHeaderError::Absent) => Header::Damaged,
        };
    }

    /// The scan of the next segment from `index` on whose format we know.
    fn begin_scan(&mut self, recovery: &mut Recovery, index: usize) -> Option<(usize, Scan)> {
        for index in index..recovery.found.len() {
            let found = *recovery.found.get(index)?;
            let header_damage = match found.header {
                Header::Foreign => {
                    // Neither void nor behind what we append: its order is not ours to break.
                    self.counts.corrupt_record_count += recovery.settle_torn();
                    if let Some(last) = &mut recovery.last {
                        last.is_clean = false;
                    }
                    continue;
                }
                Header::Whole | Header::Blank => Damage::default(),
                Header::Damaged | Header::Unread => Damage::new(0, BLOCK),
            };
            let scan = Scan::new(found.id, recovery.end_of(found), header_damage);
            return Some((index, scan));
        }
        None
    }

    /// Reads on, and on to the next segment, as long as there is something to read.
    fn read_records(&mut self, mut recovery: Recovery, mut index: usize, mut scan: Scan) {
        loop {
            if let Some((offset, size)) = scan.next_read() {
                let operation = Operation::Read {
                    segment: scan.segment(),
                    offset,
                    size,
                };
                recovery.phase = Phase::Records(index, scan);
                self.recovery = Some(recovery);
                self.io.submit(Purpose::Recovery, operation);
                return;
            }
            if let Some(found) = recovery.found.get(index).copied() {
                self.handle_scanned(&mut recovery, found, &scan);
            }
            match self.begin_scan(&mut recovery, index + 1) {
                Some(next) => (index, scan) = next,
                None => return self.sync_last(recovery),
            }
        }
    }

    /// Judges what a scan found.
    fn handle_scanned(&mut self, recovery: &mut Recovery, found: Found, scan: &Scan) {
        let is_whole = matches!(found.header, Header::Whole);
        let is_unread = matches!(found.header, Header::Unread) || scan.unread_block_count() > 0;
        let is_written = is_whole || is_unread || scan.record_count() > 0;
        let tail = scan.tail();
        self.counts.unread_block_count += scan.unread_block_count();
        self.counts.corrupt_record_count += scan.damage_count();
        if is_unread || scan.damage_count() > 0 || tail.count > 0 {
            recovery.damaged.insert(found.id);
        }
        if is_unread {
            // It may hold messages: it must not be removed for having none that we know of, nor
            // what we can't read be declared void.
            self.catalog.segments.hold(found.id);
        }
        if is_written {
            self.counts.corrupt_record_count += recovery.settle_torn();
            // A header that is zeros now is no damage to the scan.
            self.counts.corrupt_record_count += u64::from(matches!(found.header, Header::Blank));
            let is_clean =
                is_whole && !recovery.damaged.contains(&found.id) && scan.end() == found.size;
            recovery.last = Some(Last {
                id: found.id,
                size: found.size,
                whole_end: scan.whole_end(),
                is_clean,
            });
        }
        if tail.count > 0 && is_unread {
            self.counts.corrupt_record_count += tail.count;
        } else if tail.count > 0 {
            let torn = recovery.torn.get_or_insert_with(|| Torn {
                from: Position {
                    segment: found.id.0,
                    offset: if is_written { scan.whole_end() } else { 0 },
                },
                count: 0,
                size: 0,
            });
            torn.count += tail.count;
            torn.size += tail.size();
        }
    }

    /// What was read may still be on its way to the disk: it becomes durable before it is shown.
    fn sync_last(&mut self, mut recovery: Recovery) {
        let Some(Last { id, .. }) = recovery.last else {
            self.finish_recovery(recovery, true);
            return;
        };
        recovery.phase = Phase::Sync;
        self.recovery = Some(recovery);
        self.io
            .submit(Purpose::Recovery, Operation::Sync { segment: id });
    }

    fn finish_recovery(&mut self, recovery: Recovery, is_synced: bool) {
        let void_from = recovery.torn.as_ref().map(|torn| torn.from);
        if let Some(torn) = recovery.torn {
            self.counts.torn_tail_bytes += torn.size;
        }
        if let Some(last) = recovery.last {
            let tail = last.whole_end.next_multiple_of(BLOCK);
            let size = last.size - last.size % BLOCK;
            let is_clean = last.is_clean && is_synced && void_from.is_none();
            if is_clean && tail < size {
                self.catalog.segments.reopen(last.id, size, tail);
            }
        }
        let newest = recovery.found.last().map(|found| found.id.0);
        let next_segment = newest.map_or(Some(0), |newest| newest.checked_add(1));
        self.committer
            .recover(next_segment.map(SegmentId), void_from);
    }
}
