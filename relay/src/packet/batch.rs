//! Slots for datagrams, bought once: nothing is allocated for a packet.

use core::net::{Ipv4Addr, SocketAddr};

use cepa_wire::packet::geometry::DATAGRAM_SIZE;

/// Bytes of the largest datagram that is taken or sent.
pub const DATAGRAM_SIZE_MAX: usize = DATAGRAM_SIZE;

/// Most slots of a batch: 1.25 MiB of slots, what a second level cache holds. More would only wait.
pub const BATCH_CAPACITY_MAX: usize = 1024;

/// One datagram in its slot: where it came from or goes to, and its bytes, which may be rewritten in
/// place. A slot begins at a cache line.
#[derive(Clone)]
#[repr(align(64))]
pub struct Datagram {
    bytes: [u8; DATAGRAM_SIZE_MAX],
    size: usize,
    peer: SocketAddr,
}

impl Datagram {
    const EMPTY: Self = Self {
        bytes: [0; DATAGRAM_SIZE_MAX],
        size: 0,
        peer: SocketAddr::new(core::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    };

    /// Whoever sent it, or whom it is for.
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Says whom it is for.
    pub const fn set_peer(&mut self, peer: SocketAddr) {
        self.peer = peer;
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        // The size is never more than the slot: see `set_size`.
        self.bytes.get(..self.size).unwrap_or_default()
    }

    /// Its bytes, to be changed where they lie.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.size).unwrap_or_default()
    }

    /// The whole slot; what lies behind the datagram's bytes is of earlier ones.
    pub const fn slot_mut(&mut self) -> &mut [u8; DATAGRAM_SIZE_MAX] {
        &mut self.bytes
    }

    /// Says how many bytes of the slot it has. More than [`DATAGRAM_SIZE_MAX`] is our own fault.
    pub fn set_size(&mut self, size: usize) {
        assert!(size <= DATAGRAM_SIZE_MAX, "a datagram fits its slot");
        self.size = size;
    }

    /// Puts bytes for a peer into the slot; false if they are too many, and then it is as it was.
    #[must_use]
    pub fn fill(&mut self, peer: SocketAddr, bytes: &[u8]) -> bool {
        let Some(slot) = self.bytes.get_mut(..bytes.len()) else {
            return false;
        };
        slot.copy_from_slice(bytes);
        self.size = bytes.len();
        self.peer = peer;
        true
    }
}

/// A fixed number of slots, of which the first are in use.
pub struct Batch {
    slots: Box<[Datagram]>,
    count: usize,
}

impl Batch {
    /// With as many slots, 1 to [`BATCH_CAPACITY_MAX`]; another number is our own fault.
    pub fn new(capacity: usize) -> Self {
        assert!(
            (1..=BATCH_CAPACITY_MAX).contains(&capacity),
            "a batch has 1 to {BATCH_CAPACITY_MAX} slots"
        );
        Self {
            slots: vec![Datagram::EMPTY; capacity].into_boxed_slice(),
            count: 0,
        }
    }

    /// How many slots there are.
    pub const fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// How many are in use.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether none is in use.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether all are in use.
    pub const fn is_full(&self) -> bool {
        self.count == self.slots.len()
    }

    /// Forgets all datagrams. Their bytes stay until they are written over.
    pub const fn clear(&mut self) {
        self.count = 0;
    }

    /// The datagrams.
    pub fn datagrams(&self) -> &[Datagram] {
        self.slots.get(..self.count).unwrap_or_default()
    }

    /// The datagrams, to be changed where they lie.
    pub fn datagrams_mut(&mut self) -> &mut [Datagram] {
        self.slots.get_mut(..self.count).unwrap_or_default()
    }

    /// Takes the next free slot into use, with whatever an earlier datagram left in it; none if all are
    /// in use.
    pub fn take_slot(&mut self) -> Option<&mut Datagram> {
        let slot = self.slots.get_mut(self.count)?;
        self.count += 1;
        Some(slot)
    }

    /// Gives the slot that was taken last back.
    pub const fn give_back(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// Adds a datagram; false if all slots are in use or it is too large.
    #[must_use]
    pub fn push(&mut self, peer: SocketAddr, bytes: &[u8]) -> bool {
        let is_filled = self
            .slots
            .get_mut(self.count)
            .is_some_and(|slot| slot.fill(peer, bytes));
        self.count += usize::from(is_filled);
        is_filled
    }

    /// Keeps the datagrams that are wanted, in their order; the slots of the others become free. The
    /// closure may rewrite what it keeps.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(&mut Datagram) -> bool) {
        let mut kept = 0;
        for index in 0..self.count {
            if self.slots.get_mut(index).is_some_and(&mut is_wanted) {
                if kept != index {
                    self.slots.swap(kept, index);
                }
                kept += 1;
            }
        }
        self.count = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    #[test]
    fn slots_are_taken_filled_and_given_back() {
        let mut batch = Batch::new(3);
        assert!(batch.push(peer(1), b"one"));
        assert!(!batch.push(peer(2), &[0; DATAGRAM_SIZE_MAX + 1]));
        let slot = batch.take_slot().unwrap();
        slot.slot_mut()[..2].copy_from_slice(b"22");
        slot.set_size(2);
        slot.set_peer(peer(2));
        assert!(batch.push(peer(3), &[3; DATAGRAM_SIZE_MAX]));
        assert!(batch.is_full() && batch.take_slot().is_none());
        assert!(!batch.push(peer(4), b""));
        batch.retain(|datagram| datagram.peer().port() != 1);
        let kept: Vec<_> = batch
            .datagrams()
            .iter()
            .map(|datagram| (datagram.peer().port(), datagram.bytes().len()))
            .collect();
        assert_eq!(kept, [(2, 2), (3, DATAGRAM_SIZE_MAX)]);
        assert_eq!(batch.datagrams()[0].bytes(), b"22");
        batch.clear();
        assert!(batch.is_empty() && batch.capacity() == 3);
    }
}
