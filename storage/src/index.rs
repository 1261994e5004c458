//! Where every live message stands, in memory.
//!
//! A message is one cache line of 64 bytes:
//!
//! ```text
//! hash 32 | box 4 | previous 4 | next 4 | segment 4 | expiry 42 bits | timestamp 42 bits |
//! offset / 8 27 bits | record size 17 bits
//! ```
//!
//! `previous` and `next` chain the messages of a box in the order of arrival; a box has 24 bytes, a
//! mailbox 56. Two tables lead from a message's hash to the message and from a key to the mailbox:
//! 5 bytes an entry and what growing in powers of two leaves empty, 6 to 11 in all. Messages whose
//! expiry an Expire record moved have an entry more that names its segment.
//!
//! Nothing is sorted by expiry: a sweep looks at every cell in turn (`shard/expiry.rs`).

mod slab;
mod table;

use std::collections::BTreeMap;

use cepa_wire::record::{Position, RECORD_ALIGN};
use cepa_wire::{Mailbox, MessageHash, Namespace, Timestamp};

use self::slab::Slab;
use self::table::Table;

pub(crate) use self::slab::NONE;
pub(crate) use self::table::Hasher;
use crate::command::Scope;
use crate::disk::SegmentId;

/// Names a message for as long as it is in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MessageId(u32);

impl MessageId {
    pub(crate) const fn number(self) -> u32 {
        self.0
    }
}

/// A message without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) mailbox: Mailbox,
    pub(crate) namespace: Namespace,
    pub(crate) hash: MessageHash,
    pub(crate) timestamp: Timestamp,
    pub(crate) expiry: Timestamp,
    /// Of its Store record.
    pub(crate) position: Position,
    /// Of its Store record, without padding.
    pub(crate) record_size: u32,
}

impl Entry {
    /// Where its Store record stands.
    pub(crate) const fn segment(&self) -> SegmentId {
        SegmentId(self.position.segment)
    }
}

/// The Expire that moved a message's expiry last: several for it may stand in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExpireAt {
    pub(crate) segment: SegmentId,
    pub(crate) sequence: u64,
}

/// Where a message is, or would be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Location {
    /// The number of its mailbox, as long as that has messages.
    pub(crate) owner: Option<u32>,
    pub(crate) id: Option<MessageId>,
}

/// The cell of a message.
#[derive(Clone, Copy, Debug)]
struct Cell {
    hash: [u8; 32],
    /// `NONE` when the cell is free.
    box_number: u32,
    previous: u32,
    next: u32,
    segment: u32,
    /// Expiry 42, timestamp 42, offset 27, size 17, from the top.
    packed: u128,
}

const _: () = assert!(size_of::<Cell>() == 64);

const TIME_BITS: u32 = 42;
const OFFSET_BITS: u32 = 27;
const SIZE_BITS: u32 = 17;
const _: () = assert!(2 * TIME_BITS + OFFSET_BITS + SIZE_BITS == 128);
const _: () = assert!(cepa_wire::record::RECORD_SIZE_MAX < 1 << SIZE_BITS);

/// Times in memory end in the year 2109; later ones are taken for that.
const TIME_MAX: u64 = (1 << TIME_BITS) - 1;

fn pack(entry: &Entry) -> u128 {
    let time = |at: Timestamp| u128::from(at.as_millis().min(TIME_MAX));
    // Within a segment, unless a forged index says otherwise: then nothing is found there.
    let offset = (entry.position.offset / RECORD_ALIGN as u64).min((1 << OFFSET_BITS) - 1);
    time(entry.expiry) << (TIME_BITS + OFFSET_BITS + SIZE_BITS)
        | time(entry.timestamp) << (OFFSET_BITS + SIZE_BITS)
        | u128::from(offset) << SIZE_BITS
        | u128::from(entry.record_size & ((1 << SIZE_BITS) - 1))
}

impl Cell {
    #[expect(clippy::cast_possible_truncation, reason = "masked before")]
    const fn bits(&self, shift: u32, count: u32) -> u64 {
        ((self.packed >> shift) & ((1 << count) - 1)) as u64
    }

    const fn expiry(&self) -> Timestamp {
        Timestamp::from_millis(self.bits(TIME_BITS + OFFSET_BITS + SIZE_BITS, TIME_BITS))
    }

    const fn timestamp(&self) -> Timestamp {
        Timestamp::from_millis(self.bits(OFFSET_BITS + SIZE_BITS, TIME_BITS))
    }

    const fn position(&self) -> Position {
        Position {
            segment: self.segment,
            offset: self.bits(SIZE_BITS, OFFSET_BITS) * RECORD_ALIGN as u64,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "17 bits")]
    const fn record_size(&self) -> u32 {
        self.bits(0, SIZE_BITS) as u32
    }
}

#[derive(Clone, Copy, Debug)]
struct Box {
    mailbox: u32,
    /// Of the same mailbox.
    next: u32,
    first: u32,
    last: u32,
    namespace: Namespace,
}

/// A mailbox with messages. Free cells have no box.
#[derive(Clone, Copy, Debug)]
struct MailboxCell {
    mailbox: Mailbox,
    first_box: u32,
    message_count: u32,
    box_count: u32,
    /// Bytes of its records.
    size: u64,
}

const _: () = assert!(size_of::<Box>() <= 24 && size_of::<MailboxCell>() <= 56);

/// Messages and bytes of their records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages.
    pub count: u64,
    /// Bytes of their Store records.
    pub size: u64,
}

/// What is counted of a mailbox.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MailboxTally {
    pub(crate) message_count: u32,
    pub(crate) box_count: u32,
    pub(crate) size: u64,
}

/// The live messages of a shard, and those that expired and wait to be removed.
#[derive(Debug)]
pub(crate) struct Index {
    hasher: Hasher,
    cells: Slab<Cell>,
    boxes: Slab<Box>,
    mailboxes: Slab<MailboxCell>,
    by_hash: Table,
    by_mailbox: Table,
    /// Where the Expire record stands that moved a message's expiry last.
    expires: BTreeMap<u32, ExpireAt>,
    by_namespace: BTreeMap<Namespace, Tally>,
    total: Tally,
    mailbox_count: u64,
}

impl Index {
    pub(crate) fn new(table_key: &[u8; 16]) -> Self {
        Self {
            hasher: Hasher::new(table_key),
            cells: Slab::default(),
            boxes: Slab::default(),
            mailboxes: Slab::default(),
            by_hash: Table::default(),
            by_mailbox: Table::default(),
            expires: BTreeMap::new(),
            by_namespace: BTreeMap::new(),
            total: Tally::default(),
            mailbox_count: 0,
        }
    }

    /// All messages.
    pub(crate) const fn total(&self) -> Tally {
        self.total
    }

    /// Mailboxes with messages.
    pub(crate) const fn mailbox_count(&self) -> u64 {
        self.mailbox_count
    }

    /// Messages by namespace.
    pub(crate) const fn by_namespace(&self) -> &BTreeMap<Namespace, Tally> {
        &self.by_namespace
    }

    /// Cells of messages, free ones among them: what a sweep has to look at.
    pub(crate) fn cell_count(&self) -> usize {
        self.cells.size()
    }

    /// Cells of mailboxes, free ones among them.
    pub(crate) fn mailbox_cell_count(&self) -> usize {
        self.mailboxes.size()
    }

    /// Bytes of memory.
    pub(crate) fn memory_size(&self) -> usize {
        self.cells.memory_size()
            + self.boxes.memory_size()
            + self.mailboxes.memory_size()
            + self.by_hash.memory_size()
            + self.by_mailbox.memory_size()
            + self.expires.len() * 32
    }

    /// The message of that hash, in whatever namespace.
    pub(crate) fn find(&self, mailbox: Mailbox, hash: MessageHash) -> Option<MessageId> {
        let owner = self.find_mailbox(mailbox)?;
        self.find_in(owner, hash).map(MessageId)
    }

    /// A message, whole. `None` when it is gone.
    pub(crate) fn get(&self, id: MessageId) -> Option<Entry> {
        let cell = self.cells.get(id.0)?;
        let one_box = self.boxes.get(cell.box_number)?;
        let mailbox = self.mailboxes.get(one_box.mailbox)?.mailbox;
        Some(Entry {
            mailbox,
            namespace: one_box.namespace,
            hash: MessageHash(cell.hash),
            timestamp: cell.timestamp(),
            expiry: cell.expiry(),
            position: cell.position(),
            record_size: cell.record_size(),
        })
    }

    /// The message of that hash, and its number.
    pub(crate) fn find_entry(
        &self,
        mailbox: Mailbox,
        hash: MessageHash,
    ) -> Option<(MessageId, Entry)> {
        let id = self.find(mailbox, hash)?;
        Some((id, self.get(id)?))
    }

    /// Where a message would be: its mailbox's number if there is one, and its own.
    pub(crate) fn locate(&self, mailbox: Mailbox, hash: MessageHash) -> Location {
        let owner = self.find_mailbox(mailbox);
        let id = owner.and_then(|owner| self.find_in(owner, hash));
        Location {
            owner,
            id: id.map(MessageId),
        }
    }

    /// Takes memory for so many messages more, so that tables need not grow for them.
    pub(crate) fn reserve(&mut self, message_count: usize) {
        let Self {
            by_hash,
            cells,
            boxes,
            hasher,
            ..
        } = self;
        by_hash.reserve(message_count, |number| {
            hash_of(hasher, cells, boxes, number)
        });
    }

    /// Adds a message behind the others of its box. There is none of its hash. `owner` is the number
    /// of its mailbox, if that is known.
    pub(crate) fn insert_at(&mut self, owner: Option<u32>, entry: &Entry) -> MessageId {
        debug_assert!(
            self.find(entry.mailbox, entry.hash).is_none(),
            "removed before"
        );
        let owner = owner.unwrap_or_else(|| self.make_mailbox(entry.mailbox));
        let box_number = self.make_box(owner, entry.namespace);
        let previous = self.boxes.get(box_number).map_or(NONE, |one| one.last);
        let number = self.cells.insert(Cell {
            hash: entry.hash.0,
            box_number,
            previous,
            next: NONE,
            segment: entry.position.segment,
            packed: pack(entry),
        });
        if let Some(cell) = self.cells.get_mut(previous) {
            cell.next = number;
        }
        if let Some(one_box) = self.boxes.get_mut(box_number) {
            one_box.last = number;
            if one_box.first == NONE {
                one_box.first = number;
            }
        }
        let hash = message_hash(&self.hasher, owner, &entry.hash);
        let Self {
            by_hash,
            cells,
            boxes,
            hasher,
            ..
        } = self;
        by_hash.insert(hash, number, |other| hash_of(hasher, cells, boxes, other));
        self.count(owner, entry, true);
        MessageId(number)
    }

    /// Takes a message out; gives it and where its last Expire stands.
    pub(crate) fn remove(&mut self, id: MessageId) -> Option<(Entry, Option<ExpireAt>)> {
        let entry = self.get(id)?;
        let cell = *self.cells.get(id.0)?;
        let owner = self.boxes.get(cell.box_number)?.mailbox;
        let hash = message_hash(&self.hasher, owner, &entry.hash);
        self.by_hash.remove(hash, id.0);
        if let Some(previous) = self.cells.get_mut(cell.previous) {
            previous.next = cell.next;
        }
        if let Some(next) = self.cells.get_mut(cell.next) {
            next.previous = cell.previous;
        }
        if let Some(one_box) = self.boxes.get_mut(cell.box_number) {
            if one_box.first == id.0 {
                one_box.first = cell.next;
            }
            if one_box.last == id.0 {
                one_box.last = cell.previous;
            }
        }
        if let Some(cell) = self.cells.get_mut(id.0) {
            cell.box_number = NONE;
        }
        self.cells.free(id.0);
        let expire = self.expires.remove(&id.0);
        self.count(owner, &entry, false);
        self.drop_box(cell.box_number, owner);
        Some((entry, expire))
    }

    /// Where the Expire stands that moved its expiry last.
    pub(crate) fn expire_at(&self, id: MessageId) -> Option<ExpireAt> {
        self.expires.get(&id.0).copied()
    }

    /// Moves its expiry; gives where the Expire stood that moved it before.
    pub(crate) fn set_expiry(
        &mut self,
        id: MessageId,
        expiry: Timestamp,
        at: ExpireAt,
    ) -> Option<ExpireAt> {
        let entry = self.get(id)?;
        if let Some(cell) = self.cells.get_mut(id.0) {
            cell.packed = pack(&Entry { expiry, ..entry });
        }
        self.expires.insert(id.0, at)
    }

    /// The Expire that moved its expiry last was copied elsewhere.
    pub(crate) fn set_expire_at(&mut self, id: MessageId, at: ExpireAt) {
        self.expires.insert(id.0, at);
    }

    /// Its record was copied elsewhere, with its expiry; gives where the Expire stood that moved
    /// that.
    pub(crate) fn set_position(
        &mut self,
        id: MessageId,
        position: Position,
        expiry: Timestamp,
    ) -> Option<ExpireAt> {
        let entry = self.get(id)?;
        if let Some(cell) = self.cells.get_mut(id.0) {
            cell.segment = position.segment;
            cell.packed = pack(&Entry {
                expiry,
                position,
                ..entry
            });
        }
        self.expires.remove(&id.0)
    }

    /// The messages of a box behind the given one, or all, in the order of arrival.
    pub(crate) fn in_box(
        &self,
        mailbox: Mailbox,
        namespace: Namespace,
        after: Option<MessageId>,
    ) -> impl Iterator<Item = MessageId> {
        let first = match after {
            Some(id) => self.cells.get(id.0).map_or(NONE, |cell| cell.next),
            None => self
                .find_mailbox(mailbox)
                .and_then(|owner| self.find_box(owner, namespace))
                .and_then(|one| self.boxes.get(one))
                .map_or(NONE, |one| one.first),
        };
        self.chain(first)
    }

    /// The messages of some boxes of a mailbox, box by box.
    pub(crate) fn in_scope(
        &self,
        mailbox: Mailbox,
        scope: Scope,
    ) -> impl Iterator<Item = MessageId> {
        let owner = self.find_mailbox(mailbox);
        let boxes = owner.into_iter().flat_map(|owner| self.boxes_of(owner));
        boxes
            .filter_map(|number| self.boxes.get(number))
            .filter(move |one| scope.contains(one.namespace))
            .flat_map(|one| self.chain(one.first))
    }

    /// The message in a cell, if it expired.
    pub(crate) fn expired_at(&self, number: u32, now: Timestamp) -> Option<MessageId> {
        let cell = self.cells.get(number)?;
        (cell.box_number != NONE && cell.expiry() <= now).then_some(MessageId(number))
    }

    /// The mailbox in a cell, with its counts, if there is one.
    pub(crate) fn mailbox_at(&self, number: u32) -> Option<(Mailbox, MailboxTally)> {
        let cell = self.mailboxes.get(number)?;
        (cell.message_count > 0).then(|| (cell.mailbox, tally(cell)))
    }

    /// What is counted of a mailbox.
    pub(crate) fn mailbox_tally(&self, mailbox: Mailbox) -> MailboxTally {
        self.find_mailbox(mailbox)
            .and_then(|owner| self.mailboxes.get(owner))
            .map_or_else(MailboxTally::default, tally)
    }

    /// Whether the mailbox has this box.
    pub(crate) fn has_box(&self, mailbox: Mailbox, namespace: Namespace) -> bool {
        self.find_mailbox(mailbox)
            .is_some_and(|owner| self.find_box(owner, namespace).is_some())
    }

    /// The number of the box that a message is in.
    pub(crate) fn box_of(&self, id: MessageId) -> Option<u32> {
        let cell = self.cells.get(id.0)?;
        (cell.box_number != NONE).then_some(cell.box_number)
    }

    /// Orders the messages of a box by a key; for recovery, which finds them in any order.
    pub(crate) fn sort_box(&mut self, number: u32, key: impl Fn(MessageId) -> u64) {
        let Some(one_box) = self.boxes.get(number).copied() else {
            return;
        };
        let ids: Vec<_> = self.chain(one_box.first).collect();
        if !ids.is_sorted_by_key(|id| key(*id)) {
            self.relink(number, ids, key);
        }
    }

    fn relink(&mut self, number: u32, mut ids: Vec<MessageId>, key: impl Fn(MessageId) -> u64) {
        ids.sort_by_key(|id| key(*id));
        let mut previous = NONE;
        for id in &ids {
            if let Some(cell) = self.cells.get_mut(id.0) {
                cell.previous = previous;
                cell.next = NONE;
            }
            if let Some(cell) = self.cells.get_mut(previous) {
                cell.next = id.0;
            }
            previous = id.0;
        }
        if let Some(one_box) = self.boxes.get_mut(number) {
            one_box.first = ids.first().map_or(NONE, |id| id.0);
            one_box.last = previous;
        }
    }

    fn chain(&self, first: u32) -> impl Iterator<Item = MessageId> {
        let mut at = first;
        core::iter::from_fn(move || {
            let cell = self.cells.get(at)?;
            let id = MessageId(at);
            at = cell.next;
            Some(id)
        })
    }

    fn boxes_of(&self, owner: u32) -> impl Iterator<Item = u32> {
        let mut at = self
            .mailboxes
            .get(owner)
            .map_or(NONE, |cell| cell.first_box);
        core::iter::from_fn(move || {
            let one_box = self.boxes.get(at)?;
            let number = at;
            at = one_box.next;
            Some(number)
        })
    }

    fn find_mailbox(&self, mailbox: Mailbox) -> Option<u32> {
        let hash = self.hasher.hash(&mailbox.to_bytes());
        self.by_mailbox.find(hash, |number| {
            self.mailboxes
                .get(number)
                .is_some_and(|cell| cell.mailbox == mailbox)
        })
    }

    fn find_box(&self, owner: u32, namespace: Namespace) -> Option<u32> {
        self.boxes_of(owner).find(|number| {
            self.boxes
                .get(*number)
                .is_some_and(|one| one.namespace == namespace)
        })
    }

    fn find_in(&self, owner: u32, hash: MessageHash) -> Option<u32> {
        let key = message_hash(&self.hasher, owner, &hash);
        self.by_hash.find(key, |number| {
            self.cells.get(number).is_some_and(|cell| {
                cell.hash == hash.0
                    && self
                        .boxes
                        .get(cell.box_number)
                        .is_some_and(|one| one.mailbox == owner)
            })
        })
    }

    fn make_mailbox(&mut self, mailbox: Mailbox) -> u32 {
        if let Some(owner) = self.find_mailbox(mailbox) {
            return owner;
        }
        let owner = self.mailboxes.insert(MailboxCell {
            mailbox,
            first_box: NONE,
            message_count: 0,
            box_count: 0,
            size: 0,
        });
        self.mailbox_count += 1;
        let Self {
            by_mailbox,
            mailboxes,
            hasher,
            ..
        } = self;
        by_mailbox.insert(hasher.hash(&mailbox.to_bytes()), owner, |other| {
            mailboxes
                .get(other)
                .map_or(0, |cell| hasher.hash(&cell.mailbox.to_bytes()))
        });
        owner
    }

    fn make_box(&mut self, owner: u32, namespace: Namespace) -> u32 {
        if let Some(number) = self.find_box(owner, namespace) {
            return number;
        }
        let next = self
            .mailboxes
            .get(owner)
            .map_or(NONE, |cell| cell.first_box);
        let number = self.boxes.insert(Box {
            mailbox: owner,
            next,
            first: NONE,
            last: NONE,
            namespace,
        });
        if let Some(cell) = self.mailboxes.get_mut(owner) {
            cell.first_box = number;
            cell.box_count += 1;
        }
        number
    }

    /// Drops a box that became empty, and its mailbox if that was the last.
    fn drop_box(&mut self, number: u32, owner: u32) {
        let Some(one_box) = self.boxes.get(number).copied() else {
            return;
        };
        if one_box.first != NONE {
            return;
        }
        let before = self
            .boxes_of(owner)
            .find(|other| self.boxes.get(*other).is_some_and(|one| one.next == number));
        match before.and_then(|before| self.boxes.get_mut(before)) {
            Some(before) => before.next = one_box.next,
            None => {
                if let Some(cell) = self.mailboxes.get_mut(owner) {
                    cell.first_box = one_box.next;
                }
            }
        }
        self.boxes.free(number);
        let Some(cell) = self.mailboxes.get_mut(owner) else {
            return;
        };
        cell.box_count -= 1;
        if cell.first_box == NONE {
            let hash = self.hasher.hash(&cell.mailbox.to_bytes());
            self.by_mailbox.remove(hash, owner);
            self.mailboxes.free(owner);
            self.mailbox_count -= 1;
        }
    }

    fn count(&mut self, owner: u32, entry: &Entry, is_added: bool) {
        let size = u64::from(entry.record_size);
        let namespace = self.by_namespace.entry(entry.namespace).or_default();
        for tally in [namespace, &mut self.total] {
            if is_added {
                tally.count += 1;
                tally.size += size;
            } else {
                tally.count -= 1;
                tally.size -= size;
            }
        }
        if self
            .by_namespace
            .get(&entry.namespace)
            .is_some_and(|tally| tally.count == 0)
        {
            self.by_namespace.remove(&entry.namespace);
        }
        if let Some(cell) = self.mailboxes.get_mut(owner) {
            if is_added {
                cell.message_count += 1;
                cell.size += size;
            } else {
                cell.message_count -= 1;
                cell.size -= size;
            }
        }
    }
}

const fn tally(cell: &MailboxCell) -> MailboxTally {
    MailboxTally {
        message_count: cell.message_count,
        box_count: cell.box_count,
        size: cell.size,
    }
}

/// The hash of the message in a cell.
fn hash_of(hasher: &Hasher, cells: &Slab<Cell>, boxes: &Slab<Box>, number: u32) -> u64 {
    let Some(cell) = cells.get(number) else {
        return 0;
    };
    let owner = boxes.get(cell.box_number).map_or(NONE, |one| one.mailbox);
    message_hash(hasher, owner, &MessageHash(cell.hash))
}

/// Of a mailbox's number and a hash.
fn message_hash(hasher: &Hasher, owner: u32, hash: &MessageHash) -> u64 {
    let mut bytes = [0; 36];
    let joined = hash.0.into_iter().chain(owner.to_le_bytes());
    for (to, from) in bytes.iter_mut().zip(joined) {
        *to = from;
    }
    hasher.hash(&bytes)
}
