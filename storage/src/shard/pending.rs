//! What commits under way will make of messages: changes are judged against it before the index.

use std::collections::BTreeMap;

use cepa_wire::{Mailbox, MessageHash, Namespace, Timestamp};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::disk::SegmentId;
use crate::index::Hasher;

/// A message that is there, or will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) namespace: Namespace,
    pub(super) expiry: Timestamp,
    /// Where its Store stands, or will.
    pub(super) segment: SegmentId,
}

/// What commits under way make of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// None changes it.
    Unchanged,
    Live(Live),
    Gone,
}

#[derive(Debug)]
struct Pending {
    mailbox: Mailbox,
    hash: MessageHash,
    /// The last commit that changes it.
    commit: u64,
    /// `None` when it will be gone.
    state: Option<Live>,
}

/// As many entries at most as commits under way have records.
#[derive(Debug)]
pub(super) struct Pendings {
    hasher: Hasher,
    table: HashTable<Pending>,
    /// How many are of each mailbox; never zero.
    counts: BTreeMap<Mailbox, usize>,
}

impl Pendings {
    pub(super) fn new(table_key: &[u8; 16]) -> Self {
        Self {
            hasher: Hasher::new(table_key),
            table: HashTable::new(),
            counts: BTreeMap::new(),
        }
    }

    /// What the message will be.
    pub(super) fn get(&self, mailbox: Mailbox, hash: MessageHash) -> Fate {
        if self.table.is_empty() {
            return Fate::Unchanged;
        }
        let key = key(&self.hasher, &mailbox, &hash);
        let found = self
            .table
            .find(key, |one| one.hash == hash && one.mailbox == mailbox);
        match found.map(|one| one.state) {
            None => Fate::Unchanged,
            Some(None) => Fate::Gone,
            Some(Some(live)) => Fate::Live(live),
        }
    }

    pub(super) fn contains(&self, mailbox: Mailbox, hash: MessageHash) -> bool {
        self.get(mailbox, hash) != Fate::Unchanged
    }

    /// Whether any message of the mailbox is changed.
    pub(super) fn has_mailbox(&self, mailbox: Mailbox) -> bool {
        self.counts.contains_key(&mailbox)
    }

    pub(super) fn set(
        &mut self,
        mailbox: Mailbox,
        hash: MessageHash,
        commit: u64,
        state: Option<Live>,
    ) {
        let Self {
            hasher,
            table,
            counts,
        } = self;
        let found = key(hasher, &mailbox, &hash);
        let entry = table.entry(
            found,
            |one| one.hash == hash && one.mailbox == mailbox,
            |one| key(hasher, &one.mailbox, &one.hash),
        );
        let pending = Pending {
            mailbox,
            hash,
            commit,
            state,
        };
        match entry {
            Entry::Occupied(mut one) => *one.get_mut() = pending,
            Entry::Vacant(place) => {
                place.insert(pending);
                *counts.entry(mailbox).or_default() += 1;
            }
        }
    }

    /// The commit ended; what it changed last is no longer pending.
    pub(super) fn settle(&mut self, mailbox: Mailbox, hash: MessageHash, commit: u64) {
        let key = key(&self.hasher, &mailbox, &hash);
        if let Ok(entry) = self.table.find_entry(key, |one| {
            one.hash == hash && one.mailbox == mailbox && one.commit == commit
        }) {
            entry.remove();
            if let Some(count) = self.counts.get_mut(&mailbox) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&mailbox);
                }
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.counts.clear();
    }
}

fn key(hasher: &Hasher, mailbox: &Mailbox, hash: &MessageHash) -> u64 {
    let mut bytes = [0; 65];
    let joined = core::iter::once(mailbox.prefix)
        .chain(mailbox.key)
        .chain(hash.0);
    for (to, from) in bytes.iter_mut().zip(joined) {
        *to = from;
    }
    hasher.hash(&bytes)
}
