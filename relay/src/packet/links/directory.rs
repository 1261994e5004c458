//! Peers by their names: a table of fixed room.

use core::hash::{BuildHasher, Hash};

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

/// A hasher whose key is secret, so that nobody chooses ids, keys or addresses that meet.
#[derive(Clone, Copy)]
pub(super) struct Keyed(pub(super) [u8; 16]);

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

/// Slots of peers by one of their names. Who fills it keeps the bound.
pub(super) struct Directory<K> {
    table: HashTable<(K, u32)>,
    keyed: Keyed,
}

impl<K: Copy + Eq + Hash> Directory<K> {
    pub(super) fn new(capacity: usize, keyed: Keyed) -> Self {
        Self {
            table: HashTable::with_capacity(capacity),
            keyed,
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<u32> {
        let hash = self.keyed.hash_one(key);
        let found = self.table.find(hash, |(other, _)| other == key);
        found.map(|(_, slot)| *slot)
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// A key that was there before leads to the new slot.
    pub(super) fn insert(&mut self, key: K, slot: u32) {
        self.remove(&key);
        let keyed = self.keyed;
        let hash = |(key, _): &(K, u32)| keyed.hash_one(key);
        let item = (key, slot);
        self.table.insert_unique(hash(&item), item, hash);
    }

    pub(super) fn remove(&mut self, key: &K) {
        let hash = self.keyed.hash_one(key);
        if let Ok(found) = self.table.find_entry(hash, |(other, _)| other == key) {
            found.remove();
        }
    }
}
