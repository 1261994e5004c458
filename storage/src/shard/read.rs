//! Retrieval: messages are chosen from the index, their records read by position, and what was read
//! is checksummed before it is given out.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use cepa_wire::record::{self, Position, Record, STORE_OVERHEAD};
use cepa_wire::{Mailbox, MessageHash, Namespace};

use super::{Purpose, Shard};
use crate::disk::{DiskError, Operation, SegmentId};
use crate::index::{Entry, Place};
use crate::{Disk, Outcome, StoreFault, StoredMessage, Ticket};

/// Records that are no farther apart are read together: reading over such a gap costs less than a
/// second operation.
const GAP_SIZE_MAX: u64 = 16 << 10;

/// A read is not made larger than this by reading together.
const RUN_SIZE_MAX: u64 = 1 << 20;

/// When reads of so many bytes are in flight, further retrievals wait: memory for them is this and
/// one retrieval more.
const READ_SIZE_MAX: u64 = 32 << 20;

/// What a message counts beside its payload (`../shared/protocol/session-node.md`, 5.6).
const MESSAGE_OVERHEAD: usize = 100;

/// The commands that read.
#[derive(Default)]
pub(super) struct Reader {
    waiting: VecDeque<Retrieve>,
    retrievals: BTreeMap<u64, Retrieval>,
    next_retrieval: u64,
    /// Bytes of reads in flight.
    read_size: u64,
}

/// A retrieve that waits.
pub(super) struct Retrieve {
    pub(super) ticket: Ticket,
    pub(super) mailbox: Mailbox,
    pub(super) namespace: Namespace,
    pub(super) after: Option<Cursor>,
    pub(super) count_max: usize,
    pub(super) size_max: usize,
}

/// From where a retrieve goes on.
#[derive(Clone, Copy)]
pub(super) enum Cursor {
    /// As it was asked.
    Hash(MessageHash),
    /// Behind messages that turned out to be damaged.
    Sequence(u64),
}

/// A retrieve whose records are being read.
struct Retrieval {
    retrieve: Retrieve,
    chosen: Vec<Chosen>,
    more: bool,
    /// Reads that have not completed.
    run_count: usize,
    /// The disk failed a read, so what is missing may be there.
    is_disk_failed: bool,
}

/// A message that was chosen, and what was read of it.
struct Chosen {
    place: Place,
    entry: Entry,
    message: Option<StoredMessage>,
}

/// One read of chosen records that are neighbours.
pub(super) struct Run {
    retrieval: u64,
    position: Position,
    size: u64,
    /// Which of the chosen.
    first: usize,
    count: usize,
}

impl Run {
    const fn end(&self) -> u64 {
        self.position.offset + self.size
    }
}

impl Reader {
    pub(super) fn enqueue(&mut self, retrieve: Retrieve) {
        self.waiting.push_back(retrieve);
    }
}

/// The size of a message as a retrieve counts it.
const fn counted_size(record_size: u32) -> usize {
    let payload_size = (record_size as usize).saturating_sub(STORE_OVERHEAD);
    payload_size.div_ceil(3) * 4 + MESSAGE_OVERHEAD
}

impl<D: Disk> Shard<D> {
    /// Begins the retrievals that wait, as far as memory for reads goes.
    pub(super) fn begin_retrievals(&mut self) {
        while self.reader.read_size < READ_SIZE_MAX
            && let Some(retrieve) = self.reader.waiting.pop_front()
        {
            self.begin_retrieval(retrieve);
        }
    }

    /// Every retrieve that waits fails.
    pub(super) fn fail_retrieves(&mut self, fault: StoreFault) {
        for retrieve in core::mem::take(&mut self.reader.waiting) {
            self.answer(retrieve.ticket, Outcome::Failed(fault));
        }
    }

    fn begin_retrieval(&mut self, retrieve: Retrieve) {
        let (chosen, more) = self.choose(&retrieve);
        let mut retrieval = Retrieval {
            retrieve,
            chosen,
            more,
            run_count: 0,
            is_disk_failed: false,
        };
        let id = self.reader.next_retrieval;
        self.reader.next_retrieval += 1;

        let mut runs: Vec<Run> = Vec::new();
        for index in 0..retrieval.chosen.len() {
            let Some(chosen) = retrieval.chosen.get_mut(index) else {
                continue;
            };
            let entry = chosen.entry;
            let size = entry.record_size as usize;
            if let Some(bytes) = self.tail_cache.read(entry.position, size) {
                chosen.message = check(&bytes, chosen);
            }
            if chosen.message.is_some() {
                self.counts.tail_read_count += 1;
                continue;
            }
            match runs.last_mut() {
                Some(run) if joins(run, index, &entry) => {
                    run.size =
                        entry.position.offset + u64::from(entry.record_size) - run.position.offset;
                    run.count += 1;
                }
                _ => runs.push(run_of_one(id, index, &entry)),
            }
        }
        retrieval.run_count = runs.len();
        if runs.is_empty() {
            self.finish_retrieval(retrieval);
            return;
        }
        self.reader.retrievals.insert(id, retrieval);
        for run in runs {
            self.submit_read(run);
        }
    }

    /// The live messages of the box after the cursor, within the limits, and whether there are more.
    fn choose(&self, retrieve: &Retrieve) -> (Vec<Chosen>, bool) {
        let Retrieve {
            mailbox, namespace, ..
        } = *retrieve;
        let after = match retrieve.after {
            Some(Cursor::Sequence(sequence)) => Some(sequence),
            Some(Cursor::Hash(hash)) => self
                .catalog
                .find_live(mailbox, hash, self.clock)
                .filter(|(place, _)| place.namespace == namespace)
                .map(|(place, _)| place.sequence),
            None => None,
        };
        let mut chosen: Vec<Chosen> = Vec::new();
        let mut size = 0_usize;
        for (place, entry) in self.catalog.index.after(mailbox, namespace, after) {
            if entry.expiry <= self.clock {
                continue;
            }
            size = size.saturating_add(counted_size(entry.record_size));
            let is_too_large = size > retrieve.size_max && !chosen.is_empty();
            if chosen.len() >= retrieve.count_max || is_too_large {
                return (chosen, true);
            }
            chosen.push(Chosen {
                place: *place,
                entry: *entry,
                message: None,
            });
        }
        (chosen, false)
    }

    fn submit_read(&mut self, run: Run) {
        let operation = Operation::Read {
            segment: SegmentId(run.position.segment),
            offset: run.position.offset,
            size: usize::try_from(run.size).unwrap_or(usize::MAX),
        };
        self.reader.read_size += run.size;
        self.catalog
            .segments
            .begin_read(SegmentId(run.position.segment));
        self.io.submit(Purpose::Read(run), operation);
    }

    pub(super) fn handle_read(&mut self, run: &Run, result: Result<Bytes, DiskError>) {
        self.reader.read_size -= run.size;
        self.catalog
            .segments
            .end_read(SegmentId(run.position.segment));
        let Some(mut retrieval) = self.reader.retrievals.remove(&run.retrieval) else {
            return;
        };
        retrieval.run_count -= 1;
        match result {
            Ok(bytes) => self.check_run(&mut retrieval, run, &bytes),
            // One block that can't be read must not hide its neighbours: each by itself.
            Err(_) if run.count > 1 => {
                retrieval.run_count += run.count;
                let chosen = retrieval.chosen.iter().enumerate();
                let runs: Vec<_> = chosen
                    .skip(run.first)
                    .take(run.count)
                    .map(|(index, chosen)| run_of_one(run.retrieval, index, &chosen.entry))
                    .collect();
                for run in runs {
                    self.submit_read(run);
                }
            }
            Err(_) => {
                retrieval.is_disk_failed = true;
                self.counts.failed_read_count += 1;
            }
        }
        if retrieval.run_count == 0 {
            self.finish_retrieval(retrieval);
        } else {
            self.reader.retrievals.insert(run.retrieval, retrieval);
        }
    }

    /// Takes the records of a run that are whole. A message whose record is damaged is forgotten: a
    /// later store of it must write it again.
    fn check_run(&mut self, retrieval: &mut Retrieval, run: &Run, bytes: &Bytes) {
        let chosen = retrieval.chosen.iter_mut();
        for chosen in chosen.skip(run.first).take(run.count) {
            let begin = chosen.entry.position.offset - run.position.offset;
            let begin = usize::try_from(begin).unwrap_or(usize::MAX);
            let end = begin.saturating_add(chosen.entry.record_size as usize);
            if end <= bytes.len() {
                chosen.message = check(&bytes.slice(begin..end), chosen);
            }
            if chosen.message.is_some() {
                continue;
            }
            self.counts.failed_read_count += 1;
            let Place { mailbox, .. } = chosen.place;
            if !self.committer.is_pending(mailbox, chosen.entry.hash) {
                self.catalog.remove(&chosen.place);
            }
        }
    }

    fn finish_retrieval(&mut self, retrieval: Retrieval) {
        let Retrieval {
            mut retrieve,
            chosen,
            more,
            is_disk_failed,
            ..
        } = retrieval;
        let last = chosen.last().map(|chosen| chosen.place.sequence);
        let messages: Vec<_> = chosen
            .into_iter()
            .filter(|chosen| chosen.entry.expiry > self.clock)
            .filter_map(|chosen| chosen.message)
            .collect();
        if messages.is_empty() && is_disk_failed {
            let outcome = Outcome::Failed(StoreFault::DiskFailed);
            self.answer(retrieve.ticket, outcome);
        } else if messages.is_empty()
            && more
            && let Some(last) = last
        {
            // All that was chosen is gone. An empty answer with more behind it would have the
            // client ask the same again for ever.
            retrieve.after = Some(Cursor::Sequence(last));
            self.reader.waiting.push_front(retrieve);
        } else {
            let outcome = Outcome::Retrieved { messages, more };
            self.answer(retrieve.ticket, outcome);
        }
    }
}

const fn run_of_one(retrieval: u64, index: usize, entry: &Entry) -> Run {
    Run {
        retrieval,
        position: entry.position,
        size: entry.record_size as u64,
        first: index,
        count: 1,
    }
}

/// Whether the run may take the record too.
const fn joins(run: &Run, index: usize, entry: &Entry) -> bool {
    let position = entry.position;
    position.segment == run.position.segment
        && index == run.first + run.count
        && position.offset >= run.end()
        && position.offset - run.end() <= GAP_SIZE_MAX
        && position.offset + entry.record_size as u64 - run.position.offset <= RUN_SIZE_MAX
}

/// The message, if these bytes are its record.
fn check(bytes: &Bytes, chosen: &Chosen) -> Option<StoredMessage> {
    let Ok((Record::Store(store), _)) = record::parse(bytes, chosen.entry.position) else {
        return None;
    };
    let is_same = store.mailbox == chosen.place.mailbox
        && store.hash == chosen.entry.hash
        && store.sequence == chosen.place.sequence;
    is_same.then(|| StoredMessage {
        hash: store.hash,
        timestamp: store.timestamp,
        expiry: chosen.entry.expiry,
        data: bytes.slice_ref(store.data),
    })
}
