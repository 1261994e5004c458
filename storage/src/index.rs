//! Where every live message stands, in memory.

use std::collections::{BTreeMap, BTreeSet};

use cepa_wire::record::Position;
use cepa_wire::{Mailbox, MessageHash, Namespace, Timestamp};

use crate::disk::SegmentId;

/// Names a message, in the order of boxes and of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) mailbox: Mailbox,
    pub(crate) namespace: Namespace,
    /// Ascending in the order of arrival.
    pub(crate) sequence: u64,
}

/// A message without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) hash: MessageHash,
    pub(crate) expiry: Timestamp,
    /// Of its Store record.
    pub(crate) position: Position,
    /// Of its Store record, without padding.
    pub(crate) record_size: u32,
    /// Where the Expire record stands that moved its expiry last.
    pub(crate) expiry_segment: Option<SegmentId>,
}

impl Entry {
    /// Where its Store record stands.
    pub(crate) const fn segment(&self) -> SegmentId {
        SegmentId(self.position.segment)
    }
}

/// The live messages of a shard, and those that expired and wait to be removed.
#[derive(Debug, Default)]
pub(crate) struct Index {
    messages: BTreeMap<Place, Entry>,
    by_hash: BTreeMap<(Mailbox, MessageHash), (Namespace, u64)>,
    by_expiry: BTreeSet<(Timestamp, Place)>,
}

impl Index {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// The message of that hash, in whatever namespace.
    pub(crate) fn find(&self, mailbox: Mailbox, hash: MessageHash) -> Option<(Place, &Entry)> {
        let (namespace, sequence) = *self.by_hash.get(&(mailbox, hash))?;
        let place = Place {
            mailbox,
            namespace,
            sequence,
        };
        Some((place, self.messages.get(&place)?))
    }

    /// Adds a message. A caller removes one of the same hash or place before.
    pub(crate) fn insert(&mut self, place: Place, entry: Entry) {
        self.by_hash.insert(
            (place.mailbox, entry.hash),
            (place.namespace, place.sequence),
        );
        self.by_expiry.insert((entry.expiry, place));
        let replaced = self.messages.insert(place, entry);
        assert!(replaced.is_none(), "removed before");
    }

    /// Takes a message out.
    pub(crate) fn remove(&mut self, place: &Place) -> Option<Entry> {
        let entry = self.messages.remove(place)?;
        self.by_hash.remove(&(place.mailbox, entry.hash));
        self.by_expiry.remove(&(entry.expiry, *place));
        Some(entry)
    }

    /// The messages of a box that came after the one with number `after`, in the order of arrival.
    pub(crate) fn after(
        &self,
        mailbox: Mailbox,
        namespace: Namespace,
        after: Option<u64>,
    ) -> impl Iterator<Item = (&Place, &Entry)> {
        let at = move |sequence| Place {
            mailbox,
            namespace,
            sequence,
        };
        let from = after.map_or(Some(0), |sequence| sequence.checked_add(1));
        from.into_iter()
            .flat_map(move |from| self.messages.range(at(from)..=at(u64::MAX)))
    }

    /// All messages in the order of their expiry.
    pub(crate) fn by_expiry(&self) -> impl Iterator<Item = &(Timestamp, Place)> {
        self.by_expiry.iter()
    }

    /// Its hash.
    pub(crate) fn hash(&self, place: &Place) -> Option<MessageHash> {
        self.messages.get(place).map(|entry| entry.hash)
    }
}
