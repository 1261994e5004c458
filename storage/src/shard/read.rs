//! Retrieval: messages are chosen from the index, their records read by position, and what was read
//! is checksummed before it is given out.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use cepa_wire::record::{self, Position, Record, STORE_OVERHEAD};
use cepa_wire::{Mailbox, MessageHash, Namespace};

use super::{Purpose, Shard};
use crate::disk::{Access, DiskError, Operation, SegmentId};
use crate::index::Entry;
use crate::{Disk, DumpedMessage, Outcome, StoreFault, StoredMessage, Ticket};

/// Records that are no farther apart are read together: reading over such a gap costs less than a
/// second operation.
const GAP_SIZE_MAX: u64 = 16 << 10;

/// A read is not made larger than this by reading together.
const RUN_SIZE_MAX: u64 = 1 << 20;

/// When reads of so many bytes are in flight, further retrievals wait: memory for them is this and
/// one retrieval more.
const READ_SIZE_MAX: u64 = 32 << 20;

/// And when so many reads are in flight: enough for any disk, and few enough that their buffers stay
/// the same warm memory however many retrievals wait.
const READ_COUNT_MAX: usize = 256;

/// What a message counts beside its payload (`../shared/protocol/session-node.md`, 5.6).
const MESSAGE_OVERHEAD: usize = 100;

/// The commands that read messages.
#[derive(Default)]
pub(super) struct Reader {
    waiting: VecDeque<Retrieve>,
    retrievals: BTreeMap<u64, Retrieval>,
    next_retrieval: u64,
    /// Bytes of reads in flight.
    read_size: u64,
    /// Reads in flight.
    read_count: usize,
}

/// A retrieve that waits, or a fetch.
pub(super) struct Retrieve {
    pub(super) ticket: Ticket,
    pub(super) mailbox: Mailbox,
    pub(super) choice: Choice,
}

/// Which messages of a mailbox.
pub(super) enum Choice {
    /// Those of a box, in the order of their arrival.
    Box {
        namespace: Namespace,
        after: Option<MessageHash>,
        count_max: usize,
        size_max: usize,
    },
    /// These.
    Hashes(Vec<MessageHash>),
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
    entry: Entry,
    message: Option<StoredMessage>,
}

/// One read of chosen records that are neighbours.
pub(super) struct Run {
    retrieval: u64,
    position: Position,
    size: u64,
    /// Which of the chosen.
    chosen: Vec<usize>,
}

impl Run {
    fn of_one(retrieval: u64, index: usize, entry: &Entry) -> Self {
        Self {
            retrieval,
            position: entry.position,
            size: u64::from(entry.record_size),
            chosen: vec![index],
        }
    }

    const fn end(&self) -> u64 {
        self.position.offset + self.size
    }

    /// Takes a record too, if it stands right behind. Records come in the order of their places.
    fn join(&mut self, index: usize, entry: &Entry) -> bool {
        let Position { segment, offset } = entry.position;
        let end = offset + u64::from(entry.record_size);
        let joins = segment == self.position.segment
            && offset >= self.end()
            && offset - self.end() <= GAP_SIZE_MAX
            && end - self.position.offset <= RUN_SIZE_MAX;
        if joins {
            self.size = end - self.position.offset;
            self.chosen.push(index);
        }
        joins
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
            && self.reader.read_count < READ_COUNT_MAX
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
        let (mut chosen, more) = self.choose(&retrieve);
        let mut to_read = Vec::new();
        for (index, one) in chosen.iter_mut().enumerate() {
            let size = one.entry.record_size as usize;
            if let Some(bytes) = self.tail_cache.read(one.entry.position, size) {
                one.message = check(&bytes, &one.entry);
            }
            if one.message.is_some() {
                self.counts.tail_read_count += 1;
            } else {
                to_read.push((index, one.entry));
            }
        }
        let id = self.reader.next_retrieval;
        self.reader.next_retrieval += 1;
        let runs = plan_runs(id, to_read);
        let retrieval = Retrieval {
            retrieve,
            chosen,
            more,
            run_count: runs.len(),
            is_disk_failed: false,
        };
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
        let mailbox = retrieve.mailbox;
        let (namespace, after, count_max, size_max) = match &retrieve.choice {
            Choice::Box {
                namespace,
                after,
                count_max,
                size_max,
            } => (*namespace, *after, *count_max, *size_max),
            Choice::Hashes(hashes) => {
                let found = hashes
                    .iter()
                    .filter_map(|hash| self.catalog.find_live(mailbox, *hash, self.clock));
                let chosen = found.map(|(_, entry)| Chosen {
                    entry,
                    message: None,
                });
                return (chosen.collect(), false);
            }
        };
        let index = &self.catalog.index;
        let after = after
            .and_then(|hash| self.catalog.find_live(mailbox, hash, self.clock))
            .filter(|(_, entry)| entry.namespace == namespace)
            .map(|(id, _)| id);
        let mut chosen: Vec<Chosen> = Vec::new();
        let mut size = 0_usize;
        let entries = index
            .in_box(mailbox, namespace, after)
            .filter_map(|id| index.get(id))
            .filter(|entry| entry.expiry > self.clock);
        for entry in entries {
            size = size.saturating_add(counted_size(entry.record_size));
            let is_too_large = size > size_max && !chosen.is_empty();
            if chosen.len() >= count_max || is_too_large {
                return (chosen, true);
            }
            chosen.push(Chosen {
                entry,
                message: None,
            });
        }
        (chosen, false)
    }

    fn submit_read(&mut self, run: Run) {
        let segment = SegmentId(run.position.segment);
        let operation = Operation::Read {
            segment,
            offset: run.position.offset,
            size: usize::try_from(run.size).unwrap_or(usize::MAX),
            access: Access::Random,
        };
        self.reader.read_size += run.size;
        self.reader.read_count += 1;
        self.counts.read_count += 1;
        self.catalog.segments.pin(segment);
        self.io.submit(Purpose::Read(run), operation);
    }

    pub(super) fn handle_read(&mut self, run: &Run, result: Result<Bytes, DiskError>) {
        self.reader.read_size -= run.size;
        self.reader.read_count -= 1;
        self.catalog.segments.unpin(SegmentId(run.position.segment));
        let Some(mut retrieval) = self.reader.retrievals.remove(&run.retrieval) else {
            return;
        };
        retrieval.run_count -= 1;
        match result {
            // A record that is cut is not read, which is not the same as damaged.
            Ok(bytes) if bytes.len() as u64 >= run.size => {
                self.check_run(&mut retrieval, run, &bytes);
            }
            // One block that can't be read must not hide its neighbours: each by itself.
            _ if run.chosen.len() > 1 => {
                for index in &run.chosen {
                    if let Some(one) = retrieval.chosen.get(*index) {
                        retrieval.run_count += 1;
                        self.submit_read(Run::of_one(run.retrieval, *index, &one.entry));
                    }
                }
            }
            _ => {
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
        for index in &run.chosen {
            let Some(one) = retrieval.chosen.get_mut(*index) else {
                continue;
            };
            let begin = one.entry.position.offset - run.position.offset;
            let begin = usize::try_from(begin).unwrap_or(usize::MAX);
            let end = begin.saturating_add(one.entry.record_size as usize);
            if end <= bytes.len() {
                one.message = check(&bytes.slice(begin..end), &one.entry);
            }
            if one.message.is_none() {
                self.counts.failed_read_count += 1;
                let entry = one.entry;
                self.forget(&entry);
            }
        }
    }

    /// Takes a damaged message out of the index, if it still stands where it was read.
    fn forget(&mut self, entry: &Entry) {
        let Entry { mailbox, hash, .. } = *entry;
        if let Some((id, now)) = self.catalog.index.find_entry(mailbox, hash)
            && now.position == entry.position
            && !self.is_pending(mailbox, hash)
        {
            self.catalog.abandon(id);
        }
    }

    fn finish_retrieval(&mut self, retrieval: Retrieval) {
        let Retrieval {
            retrieve,
            mut chosen,
            mut more,
            is_disk_failed,
            ..
        } = retrieval;
        if let Choice::Hashes(_) = retrieve.choice {
            // A part may not count as all that there is.
            let outcome = if is_disk_failed {
                Outcome::Failed(StoreFault::DiskFailed)
            } else {
                Outcome::Fetched(self.dumped(chosen))
            };
            return self.answer(retrieve.ticket, outcome);
        }
        let is_there = |one: &Chosen| {
            let Entry { mailbox, hash, .. } = one.entry;
            let found = self.catalog.find_live(mailbox, hash, self.clock);
            found.is_some()
        };
        if is_disk_failed {
            // What could not be read may be read later: the client must not go on behind it.
            let unread = chosen
                .iter()
                .position(|one| one.message.is_none() && is_there(one));
            more |= unread.is_some();
            chosen.truncate(unread.unwrap_or(chosen.len()));
        }
        let messages: Vec<_> = chosen
            .into_iter()
            .filter_map(|one| self.settle_expiry(one))
            .collect();
        if !messages.is_empty() || !more {
            let outcome = Outcome::Retrieved { messages, more };
            self.answer(retrieve.ticket, outcome);
        } else if !is_disk_failed {
            // An empty answer with more behind it would have the client ask the same again for
            // ever. What was chosen is gone from the index, or will be when the commit that changes
            // it has ended, so the next choice goes on behind it.
            self.reader.waiting.push_front(retrieve);
        } else {
            self.answer(retrieve.ticket, Outcome::Failed(StoreFault::DiskFailed));
        }
    }
}

impl<D: Disk> Shard<D> {
    /// The messages that were read, each with its box.
    fn dumped(&self, chosen: Vec<Chosen>) -> Vec<DumpedMessage> {
        chosen
            .into_iter()
            .filter_map(|one| {
                let Entry {
                    mailbox, namespace, ..
                } = one.entry;
                self.settle_expiry(one).map(|message| DumpedMessage {
                    mailbox,
                    namespace,
                    message,
                })
            })
            .collect()
    }

    /// The message that was read, if it has not expired since; its expiry may have moved up.
    fn settle_expiry(&self, one: Chosen) -> Option<StoredMessage> {
        let Entry { mailbox, hash, .. } = one.entry;
        if one.entry.expiry > self.clock {
            return one.message;
        }
        let (_, now) = self.catalog.find_live(mailbox, hash, self.clock)?;
        let expiry = now.expiry;
        one.message
            .map(|message| StoredMessage { expiry, ..message })
    }
}

/// Reads for these of the chosen, neighbours together.
fn plan_runs(retrieval: u64, mut to_read: Vec<(usize, Entry)>) -> Vec<Run> {
    to_read.sort_unstable_by_key(|(_, entry)| entry.position);
    let mut runs: Vec<Run> = Vec::new();
    for (index, entry) in to_read {
        let joined = runs.last_mut().is_some_and(|run| run.join(index, &entry));
        if !joined {
            runs.push(Run::of_one(retrieval, index, &entry));
        }
    }
    runs
}

/// The message, if these bytes are its record.
fn check(bytes: &Bytes, entry: &Entry) -> Option<StoredMessage> {
    let Ok((Record::Store(store), _)) = record::parse(bytes, entry.position) else {
        return None;
    };
    let is_same = store.mailbox == entry.mailbox && store.hash == entry.hash;
    is_same.then(|| StoredMessage {
        hash: store.hash,
        timestamp: store.timestamp,
        expiry: entry.expiry,
        data: bytes.slice_ref(store.data),
    })
}
