//! Dumps, for transfers to other nodes: the log is read on from a cursor, segment by segment, and
//! what is live and in the territory is given out. Writers are not held up, and what comes meanwhile
//! may be met or not. What compaction moves meanwhile may come to stand before the cursor, in a
//! segment that is open for long: so another pass looks for copies that were made since the last one
//! began, until there are none.

use std::collections::VecDeque;

use bytes::Bytes;
use cepa_wire::record::Record;

use super::{Purpose, Shard};
use crate::command::{DumpCursor, DumpedMessage};
use crate::disk::{Access, BLOCK_SIZE, DiskError, Operation, SegmentId};
use crate::scan::Scan;
use crate::territory::Territory;
use crate::{Disk, Outcome, StoreFault, StoredMessage, Ticket};

/// Bytes that are read at a time.
const CHUNK_SIZE: usize = 256 << 10;

/// A dump is answered when it has read so much, even if it found little: the asker goes on.
const READ_SIZE_MAX: usize = 8 << 20;

/// A dump that waits.
pub(super) struct DumpOrder {
    pub(super) ticket: Ticket,
    pub(super) from: DumpCursor,
    pub(super) territory: Territory,
    pub(super) size_max: usize,
}

/// Dumps that wait, and the one that is read for: one at a time.
#[derive(Default)]
pub(super) struct Dumper {
    waiting: VecDeque<DumpOrder>,
    dump: Option<Dump>,
}

struct Dump {
    order: DumpOrder,
    scan: Scan,
    messages: Vec<DumpedMessage>,
    size: usize,
    read_size: usize,
}

impl Dumper {
    pub(super) fn enqueue(&mut self, order: DumpOrder) {
        self.waiting.push_back(order);
    }
}

impl<D: Disk> Shard<D> {
    /// Every dump that waits fails.
    pub(super) fn fail_dumps(&mut self, fault: StoreFault) {
        for order in core::mem::take(&mut self.dumper.waiting) {
            self.answer(order.ticket, Outcome::Failed(fault));
        }
    }

    /// Begins the next dump, if none is read for.
    pub(super) fn begin_dumps(&mut self) {
        while self.dumper.dump.is_none()
            && let Some(order) = self.dumper.waiting.pop_front()
        {
            let mut order = order;
            if order.from.began == 0 {
                order.from.began = self.committer.first_unsettled();
            }
            let dump = Dump {
                scan: Scan::new(SegmentId(order.from.segment), 0, 0, CHUNK_SIZE),
                messages: Vec::new(),
                size: 0,
                read_size: 0,
                order,
            };
            match self.scan_from(dump.order.from) {
                Some(scan) => self.dump_on(Dump { scan, ..dump }),
                None => self.finish_pass(dump),
            }
        }
    }

    /// A scan from the cursor on, of the first segment there with something live.
    fn scan_from(&self, from: DumpCursor) -> Option<Scan> {
        let begin = SegmentId(from.segment);
        let (segment, _) = self.catalog.segments.next_live(begin, from.since)?;
        let end = self.settled_end(segment)?;
        let begin = if segment.0 == from.segment {
            from.offset.max(BLOCK_SIZE as u64)
        } else {
            BLOCK_SIZE as u64
        };
        if begin >= end {
            let next = segment.0.checked_add(1)?;
            return self.scan_from(DumpCursor {
                segment: next,
                offset: 0,
                ..from
            });
        }
        Some(Scan::new(segment, begin, end, CHUNK_SIZE))
    }

    /// Where what is durable ends in a segment.
    fn settled_end(&self, segment: SegmentId) -> Option<u64> {
        let (id, end) = self.catalog.segments.next_live(segment, 0)?;
        let in_flight = self.committer.in_flight.iter();
        let begun = in_flight
            .filter_map(|commit| commit.begin_in(segment))
            .min();
        (id == segment).then(|| begun.map_or(end, |begun| begun.min(end)))
    }

    fn dump_on(&mut self, mut dump: Dump) {
        let is_large = dump.read_size >= READ_SIZE_MAX;
        if is_large || dump.size >= dump.order.size_max {
            let next = DumpCursor {
                segment: dump.scan.segment().0,
                offset: dump.scan.offset(),
                ..dump.order.from
            };
            self.finish_dump(dump, Some(next));
            return;
        }
        // One that died meanwhile has nothing to give.
        let next_read = dump
            .scan
            .next_read()
            .filter(|_| self.catalog.segments.is_readable(dump.scan.segment()));
        let Some((offset, size)) = next_read else {
            let next = dump.scan.segment().0.checked_add(1);
            let next = next.map(|segment| DumpCursor {
                segment,
                offset: 0,
                ..dump.order.from
            });
            match next.and_then(|next| self.scan_from(next)) {
                Some(scan) => {
                    dump.scan = scan;
                    self.dump_on(dump);
                }
                None => self.finish_pass(dump),
            }
            return;
        };
        let segment = dump.scan.segment();
        dump.read_size += size;
        self.catalog.segments.pin(segment);
        let operation = Operation::Read {
            segment,
            offset,
            size,
            access: Access::Sequential,
        };
        self.dumper.dump = Some(dump);
        self.io.submit(Purpose::Dump(segment), operation);
    }

    pub(super) fn handle_dump_read(
        &mut self,
        segment: SegmentId,
        result: Result<Bytes, DiskError>,
    ) {
        self.catalog.segments.unpin(segment);
        let Some(mut dump) = self.dumper.dump.take() else {
            return;
        };
        let Ok(bytes) = result else {
            dump.scan.handle_failure();
            self.counts.failed_read_count += 1;
            self.dump_on(dump);
            return;
        };
        let Dump {
            order,
            scan,
            messages,
            size,
            ..
        } = &mut dump;
        let (index, clock) = (&self.catalog.index, self.clock);
        let since = order.from.since;
        scan.handle_bytes_while(&bytes, |record, position, _| {
            let Record::Store(store) = record else {
                return true;
            };
            let is_copy = store.version != store.sequence;
            if since > 0 && !(is_copy && store.version >= since) {
                return true;
            }
            let found = index
                .find_entry(store.mailbox, store.hash)
                .map(|(_, entry)| entry)
                .filter(|entry| entry.position == position && entry.expiry > clock)
                .filter(|_| order.territory.contains(&store.mailbox));
            let Some(entry) = found else {
                return true;
            };
            if !messages.is_empty() && *size + store.data.len() > order.size_max {
                *size = usize::MAX;
                return false;
            }
            *size += store.data.len();
            messages.push(DumpedMessage {
                mailbox: store.mailbox,
                namespace: store.namespace,
                message: StoredMessage {
                    hash: store.hash,
                    timestamp: store.timestamp,
                    expiry: entry.expiry,
                    data: bytes.slice_ref(store.data),
                },
            });
            true
        });
        self.dump_on(dump);
    }

    /// Every segment was read: that was all, or what was moved meanwhile comes next.
    fn finish_pass(&mut self, mut dump: Dump) {
        let began = dump.order.from.began;
        if self.catalog.segments.newest_copy() < began {
            return self.finish_dump(dump, None);
        }
        dump.order.from = DumpCursor {
            since: began,
            began: self.committer.first_unsettled().max(began + 1),
            ..DumpCursor::START
        };
        match self.scan_from(dump.order.from) {
            Some(scan) => self.dump_on(Dump { scan, ..dump }),
            None => self.finish_dump(dump, None),
        }
    }

    fn finish_dump(&mut self, dump: Dump, next: Option<DumpCursor>) {
        let clock = self.clock;
        let mut messages = dump.messages;
        // Some may have expired while others were read.
        messages.retain(|dumped| dumped.message.expiry > clock);
        let outcome = Outcome::Dumped { messages, next };
        self.answer(dump.order.ticket, outcome);
    }
}
