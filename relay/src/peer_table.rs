//! Which relays there are, as the data plane sees them. Defined here, filled by control.

use cepa_wire::Ed25519PublicKey;

/// A relay's place in the view that the table was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIndex(pub u32);

/// Finds a relay by the key that onions name it with. Immutable; a new view brings a new table.
#[derive(Clone, Debug, Default)]
pub struct PeerTable {
    by_key: Box<[(Ed25519PublicKey, PeerIndex)]>,
}

impl PeerTable {
    /// Makes a table of relays in the order of the view; of a key given twice the first counts.
    pub fn new(keys: impl IntoIterator<Item = Ed25519PublicKey>) -> Self {
        let mut by_key: Vec<_> = keys.into_iter().zip((0..).map(PeerIndex)).collect();
        by_key.sort_unstable();
        by_key.dedup_by_key(|(key, _)| *key);
        Self {
            by_key: by_key.into(),
        }
    }

    /// The relay with this key.
    pub fn find(&self, key: &Ed25519PublicKey) -> Option<PeerIndex> {
        let at = self
            .by_key
            .binary_search_by_key(key, |(key, _)| *key)
            .ok()?;
        self.by_key.get(at).map(|(_, index)| *index)
    }
}
