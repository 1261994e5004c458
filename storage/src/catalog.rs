//! Index and segments together: what a durable record changes.

use std::collections::BTreeSet;

use cepa_wire::{Mailbox, MessageHash, Timestamp};

use crate::disk::SegmentId;
use crate::index::{Entry, Index, Place};
use crate::segment::Segments;

/// What a record changes once it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// A Store: replaces what was there by this hash (it had expired).
    Insert(Place, Entry),
    /// An Expire that stands in this segment.
    Raise(Place, Timestamp, SegmentId),
    /// A Delete that stands in this segment.
    Remove(Place, SegmentId),
}

/// Which messages there are, and which segments they need.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) index: Index,
    pub(crate) segments: Segments,
}

impl Catalog {
    /// The message of that hash and its expiry, if it has not expired.
    pub(crate) fn find_live(
        &self,
        mailbox: Mailbox,
        hash: MessageHash,
        now: Timestamp,
    ) -> Option<(Place, Timestamp)> {
        let (place, entry) = self.index.find(mailbox, hash)?;
        (entry.expiry > now).then_some((place, entry.expiry))
    }

    /// Makes the change.
    pub(crate) fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Insert(place, entry) => {
                let old = self.index.find(place.mailbox, entry.hash);
                if let Some((old, _)) = old {
                    self.remove(&old);
                }
                self.remove(&place);
                self.insert(place, entry);
            }
            Effect::Raise(place, expiry, segment) => {
                if let Some(mut entry) = self.remove(&place) {
                    if expiry > entry.expiry {
                        entry.expiry = expiry;
                        entry.expiry_segment = Some(segment);
                    }
                    self.insert(place, entry);
                }
            }
            Effect::Remove(place, segment) => {
                if let Some(entry) = self.remove(&place) {
                    self.segments.hide(segment, entry.segment());
                }
            }
        }
    }

    /// Takes a message out, leaving nothing on the disk: it has expired or can't be read.
    pub(crate) fn remove(&mut self, place: &Place) -> Option<Entry> {
        let entry = self.index.remove(place)?;
        self.segments.release(entry.segment());
        if let Some(segment) = entry.expiry_segment {
            self.segments.release(segment);
        }
        Some(entry)
    }

    fn insert(&mut self, place: Place, entry: Entry) {
        self.segments.hold(entry.segment());
        if let Some(segment) = entry.expiry_segment {
            self.segments.hold(segment);
        }
        self.index.insert(place, entry);
    }

    /// A Delete was found whose message was not. If it is among what `damaged` segments hide from
    /// us now, it must not come back when they can be read again.
    pub(crate) fn hide_all(&mut self, by: SegmentId, damaged: &BTreeSet<SegmentId>) {
        for hidden in damaged {
            self.segments.hide(by, *hidden);
        }
    }
}
