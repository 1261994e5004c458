//! What records mean together, in whatever order they are read.

use std::collections::{BTreeMap, BTreeSet};

use cepa_wire::record::{Commit, Position, Record, Store};
use cepa_wire::{Mailbox, MessageHash, Timestamp};

use crate::catalog::Catalog;
use crate::disk::SegmentId;
use crate::index::{Entry, ExpireAt, MessageId};
use crate::scan::{Damage, Site};
use crate::state::{State, Subject};

/// No log gets so far: 2^31 segments must have been made before. A disk that says so is broken, and
/// counting on from there would soon overflow.
const SEQUENCE_MAX: u64 = 1 << 63;

/// What is known of a hash beside its Store.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// The newest Delete.
    delete: Option<Verdict>,
    /// The newest Expire, and the expiry.
    expire: Option<(Verdict, Timestamp)>,
}

/// A Delete or an Expire of a message.
#[derive(Clone, Copy, Debug)]
struct Verdict {
    number: u64,
    /// Where it stands.
    segment: SegmentId,
    /// Where the Store stood that it was about. It counts for older ones too.
    store_segment: SegmentId,
}

impl Verdict {
    /// A Store in this segment does not count because of it.
    fn hide(self, catalog: &mut Catalog, segment: SegmentId) {
        self.note_store(catalog, segment);
        catalog.segments.hide(self.segment, segment);
    }

    /// A message expires then because of it.
    fn move_expiry(self, catalog: &mut Catalog, id: MessageId, expiry: Timestamp) {
        if let Some(entry) = catalog.index.get(id) {
            self.note_store(catalog, entry.segment());
        }
        let at = ExpireAt {
            segment: self.segment,
            sequence: self.number,
        };
        catalog.set_expiry(id, expiry, at);
    }

    /// It says of which segment's sake it must stay. If it counts for another's as well, so that one
    /// is hidden by all that hides anything.
    fn note_store(self, catalog: &mut Catalog, segment: SegmentId) {
        if segment != self.store_segment {
            catalog.segments.mark_stale(segment);
        }
    }
}

/// Sequence number and version of a message's Store.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    sequence: u64,
    version: u64,
}

/// The state of replaying a log; memory for it goes when recovery is done.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// Sequence numbers that count nowhere, and whose header says so.
    voids: Vec<((u64, u64), SegmentId)>,
    /// Where records stand that count nowhere, by the void.
    voided: BTreeMap<SegmentId, Vec<SegmentId>>,
    /// By the number of the message in the index.
    numbers: Vec<Numbers>,
    /// The sequence number of the last message of each box.
    last_of_box: Vec<u64>,
    /// Boxes that got a message behind a newer one.
    unsorted: BTreeSet<u32>,
    marks: BTreeMap<(Mailbox, MessageHash), Mark>,
    /// The largest number seen.
    newest: u64,
    /// Records with smaller numbers were durable.
    settled: u64,
    damages: Vec<(Site, Damage)>,
    unread: Damage,
}

/// Damage, judged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Judged {
    pub(super) corrupt_count: u64,
    pub(super) torn_size: u64,
}

impl Replay {
    pub(super) fn add_void(&mut self, void: (u64, u64), by: SegmentId) {
        if void.0 < void.1 && void.1 <= SEQUENCE_MAX {
            self.voids.push((void, by));
        }
    }

    pub(super) fn add_damages(&mut self, damages: Vec<(Site, Damage)>, is_unread: bool) {
        for (site, damage) in damages {
            if is_unread {
                self.unread.count += damage.count;
                self.unread.size += damage.size;
            } else {
                self.damages.push((site, damage));
            }
        }
    }

    /// What of the damage was corruption, and what was torn by a crash before anybody was answered.
    pub(super) fn damage(&self) -> Judged {
        let mut judged = Judged {
            corrupt_count: self.unread.count,
            torn_size: 0,
        };
        for (site, damage) in &self.damages {
            if site.was_durable(self.settled) {
                judged.corrupt_count += damage.count;
            } else {
                judged.torn_size += damage.size;
            }
        }
        judged
    }

    /// Takes memory for so many messages.
    pub(super) fn reserve(&mut self, message_count: usize) {
        self.numbers.reserve(message_count);
    }

    pub(super) fn handle_commit(&mut self, commit: Commit) {
        self.settled = self.settled.max(commit.settled);
    }

    /// Takes a record; `false` when it is void.
    pub(super) fn handle_record(
        &mut self,
        catalog: &mut Catalog,
        segment: SegmentId,
        offset: u64,
        record: Record<'_>,
        size: usize,
    ) -> bool {
        let number = match record {
            Record::Store(store) => store.version.max(store.sequence),
            Record::Expire(expire) => expire.sequence(),
            Record::Delete(delete) => delete.sequence(),
            Record::State(state) => state.sequence,
            Record::Commit(_) | Record::Index(_) => return true,
        };
        if number > SEQUENCE_MAX {
            return false;
        }
        self.newest = self.newest.max(number);
        if let Some((_, by)) = self
            .voids
            .iter()
            .find(|(void, _)| void.0 <= number && number < void.1)
        {
            self.voided.entry(*by).or_default().push(segment);
            return false;
        }
        match record {
            Record::Store(store) => self.handle_store(catalog, segment, offset, &store, size),
            Record::Expire(expire) => {
                for target in expire.targets() {
                    let key = (expire.mailbox(), target.hash);
                    let verdict = Verdict {
                        number,
                        segment,
                        store_segment: SegmentId(target.segment),
                    };
                    self.handle_expire(catalog, key, verdict, target.expiry);
                }
            }
            Record::Delete(delete) => {
                for target in delete.targets() {
                    let key = (delete.mailbox(), target.hash);
                    let verdict = Verdict {
                        number,
                        segment,
                        store_segment: SegmentId(target.segment),
                    };
                    self.handle_delete(catalog, key, verdict);
                }
            }
            Record::State(state) => {
                let key = (state.mailbox, Subject(state.subject));
                let state = State {
                    sequence: state.sequence,
                    timestamp: state.timestamp,
                    segment,
                    value: state.value.into(),
                };
                catalog.insert_state(key, state);
            }
            Record::Commit(_) | Record::Index(_) => {}
        }
        true
    }

    fn numbers(&self, id: MessageId) -> Numbers {
        let at = id.number() as usize;
        self.numbers.get(at).copied().unwrap_or_default()
    }

    fn set_numbers(&mut self, id: MessageId, numbers: Numbers) {
        let at = id.number() as usize;
        if self.numbers.len() <= at {
            self.numbers.resize(at + 1, Numbers::default());
        }
        if let Some(place) = self.numbers.get_mut(at) {
            *place = numbers;
        }
    }

    /// A message with this sequence number stands last in a box now.
    fn note_order(&mut self, number: u32, sequence: u64) {
        let at = number as usize;
        if self.last_of_box.len() <= at {
            self.last_of_box.resize(at + 1, 0);
        }
        if let Some(last) = self.last_of_box.get_mut(at)
            && core::mem::replace(last, sequence) > sequence
        {
            self.unsorted.insert(number);
        }
    }

    fn handle_store(
        &mut self,
        catalog: &mut Catalog,
        segment: SegmentId,
        offset: u64,
        store: &Store<'_>,
        size: usize,
    ) {
        let key = (store.mailbox, store.hash);
        let mark = self.marks.get(&key).copied().unwrap_or_default();
        if let Some(delete) = mark.delete
            && delete.number > store.sequence
        {
            delete.hide(catalog, segment);
            return;
        }
        let numbers = Numbers {
            sequence: store.sequence,
            version: store.version,
        };
        let mut location = catalog.index.locate(store.mailbox, store.hash);
        if let Some(id) = location.id
            && let Some(old) = catalog.index.get(id)
        {
            let known = self.numbers(id);
            if old.position
                == (Position {
                    segment: segment.0,
                    offset,
                })
            {
                return;
            }
            if (known.sequence, known.version) >= (numbers.sequence, numbers.version) {
                catalog.segments.mark_stale(segment);
                return;
            }
            catalog.segments.mark_stale(old.segment());
            catalog.remove(id);
            // Its mailbox may have gone with it.
            location.owner = None;
        }
        let id = catalog.insert_at(
            location.owner,
            &Entry {
                mailbox: store.mailbox,
                namespace: store.namespace,
                hash: store.hash,
                timestamp: store.timestamp,
                expiry: store.expiry,
                position: Position {
                    segment: segment.0,
                    offset,
                },
                record_size: u32::try_from(size).unwrap_or(u32::MAX),
            },
        );
        self.set_numbers(id, numbers);
        if let Some(number) = catalog.index.box_of(id) {
            self.note_order(number, numbers.sequence);
        }
        if numbers.version != numbers.sequence {
            catalog.segments.note_copy(segment, numbers.version);
        }
        if let Some((expire, expiry)) = mark.expire
            && expire.number > store.version
        {
            expire.move_expiry(catalog, id, expiry);
        }
    }

    fn handle_expire(
        &mut self,
        catalog: &mut Catalog,
        key: (Mailbox, MessageHash),
        verdict: Verdict,
        expiry: Timestamp,
    ) {
        let mark = self.marks.entry(key).or_default();
        // Of two of one number the second counts if they stand in one record; if one is a copy,
        // either.
        if let Some((newer, _)) = mark.expire
            && (newer.number, newer.segment) > (verdict.number, verdict.segment)
        {
            return;
        }
        mark.expire = Some((verdict, expiry));
        if let Some(id) = catalog.index.find(key.0, key.1)
            && verdict.number > self.numbers(id).version
        {
            verdict.move_expiry(catalog, id, expiry);
        }
    }

    fn handle_delete(
        &mut self,
        catalog: &mut Catalog,
        key: (Mailbox, MessageHash),
        verdict: Verdict,
    ) {
        let mark = self.marks.entry(key).or_default();
        if mark
            .delete
            .is_none_or(|newer| verdict.number >= newer.number)
        {
            mark.delete = Some(verdict);
        }
        if let Some((id, entry)) = catalog.index.find_entry(key.0, key.1)
            && verdict.number > self.numbers(id).sequence
        {
            catalog.remove(id);
            verdict.hide(catalog, entry.segment());
        }
    }

    /// Brings the boxes in order, and gives the next sequence number. `cut` are segments that hold
    /// commits that failed, which nobody read.
    pub(super) fn finish(&mut self, catalog: &mut Catalog, cut: &[SegmentId]) -> u64 {
        let numbers = core::mem::take(&mut self.numbers);
        for number in core::mem::take(&mut self.unsorted) {
            catalog.index.sort_box(number, |id| {
                let at = id.number() as usize;
                numbers.get(at).map_or(0, |numbers| numbers.sequence)
            });
        }
        self.last_of_box = Vec::new();
        for (by, segments) in core::mem::take(&mut self.voided) {
            catalog.segments.hide_void(by, segments);
        }
        if !cut.is_empty() {
            for (_, by) in &self.voids {
                catalog.segments.hide_void(*by, cut.iter().copied());
            }
        }
        catalog.segments.hide_stale_from_all();
        let void_end = self.voids.iter().map(|((_, end), _)| *end).max();
        self.marks.clear();
        (self.newest + 1).max(void_end.unwrap_or(0)).max(1)
    }
}
