//! The keys of the reply blocks that we gave away.

use std::collections::BTreeMap;

use cepa_crypto::packet::{ReplyId, ReplyKeys};

use super::exchange::AskId;

/// Keys that are kept, of some 250 bytes each: those of twenty requests with as many blocks as there may be.
pub(super) const REPLY_COUNT_MAX: usize = 4096;

/// What a packet that comes back is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A part of the answer to this.
    Answer(AskId),
    /// Cover that we sent to ourselves.
    Cover,
}

/// Keys by the id of their packet. When there is no room the oldest go.
#[derive(Default)]
pub(super) struct ReplyTable {
    entries: BTreeMap<ReplyId, Entry>,
    /// In the order in which they came.
    order: BTreeMap<u64, ReplyId>,
    step: u64,
}

struct Entry {
    keys: ReplyKeys,
    purpose: Purpose,
    place: u64,
}

impl ReplyTable {
    pub(super) fn insert(&mut self, keys: ReplyKeys, purpose: Purpose) {
        self.step += 1;
        let (id, place) = (keys.id(), self.step);
        let entry = Entry {
            keys,
            purpose,
            place,
        };
        // Two of an id are as likely as two random numbers of 128 bits.
        if let Some(before) = self.entries.insert(id, entry) {
            self.order.remove(&before.place);
        }
        self.order.insert(place, id);
        while self.entries.len() > REPLY_COUNT_MAX {
            let Some((_, oldest)) = self.order.pop_first() else {
                return;
            };
            self.entries.remove(&oldest);
        }
    }

    /// The keys of a packet, once.
    pub(super) fn take(&mut self, id: ReplyId) -> Option<(ReplyKeys, Purpose)> {
        let entry = self.entries.remove(&id)?;
        self.order.remove(&entry.place);
        Some((entry.keys, entry.purpose))
    }

    /// Forgets what is waited for no more.
    pub(super) fn forget(&mut self, ask: AskId) {
        let order = &mut self.order;
        self.entries.retain(|_, entry| {
            let is_kept = entry.purpose != Purpose::Answer(ask);
            if !is_kept {
                order.remove(&entry.place);
            }
            is_kept
        });
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use cepa_crypto::X25519SecretKey;
    use cepa_crypto::packet::{PathHop, reply_block};
    use cepa_wire::packet::{ClientId, RelayId};

    use super::*;

    #[test]
    fn keys_are_taken_once_and_the_oldest_go() {
        let hop = PathHop {
            relay: RelayId([1; 16]),
            key: X25519SecretKey::from_bytes([1; 32]).public_key(),
            delay_ms: 0,
        };
        let mut state = 0_u64;
        let mut random = |bytes: &mut [u8]| {
            for byte in bytes {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                *byte = state.to_le_bytes()[7];
            }
        };
        let mut keys = || {
            reply_block(&[hop], ClientId([2; 16]), &mut random)
                .unwrap()
                .1
        };
        let mut table = ReplyTable::default();
        let (first, second) = (keys(), keys());
        let ids = [first.id(), second.id()];
        table.insert(first, Purpose::Answer(AskId(1)));
        table.insert(second, Purpose::Cover);
        assert_eq!(table.take(ids[1]).unwrap().1, Purpose::Cover);
        assert!(table.take(ids[1]).is_none());
        for _ in 0..REPLY_COUNT_MAX {
            table.insert(keys(), Purpose::Answer(AskId(2)));
        }
        assert!(table.take(ids[0]).is_none(), "there was no room");
        assert_eq!(table.len(), REPLY_COUNT_MAX);
        table.forget(AskId(1));
        assert_eq!(table.len(), REPLY_COUNT_MAX);
        table.forget(AskId(2));
        assert_eq!((table.len(), table.order.len()), (0, 0));
    }
}
