//! Which datagrams may leave together: runs of equal size to one peer, which the kernel cuts again
//! (`UDP_SEGMENT`). Sans-IO.

use core::hash::{BuildHasher as _, Hasher as _};
use core::net::{IpAddr, SocketAddr};
use std::hash::RandomState;

use cepa_relay::packet::batch::{BATCH_CAPACITY_MAX, Datagram};

/// Most datagrams of a run: `UDP_MAX_SEGMENTS` of kernels before 6.9; newer ones take 128.
pub(super) const RUN_COUNT_MAX: usize = 64;

/// Most bytes of a run: what an IPv4 packet carries (65,535) without its header and that of UDP.
pub(super) const RUN_SIZE_MAX: usize = 65_507;

/// Buckets of the table of peers: twice as many as there may be peers in a batch.
const BUCKET_COUNT: usize = 2 * BATCH_CAPACITY_MAX;

/// No datagram, no group.
const NONE: u16 = u16::MAX;

/// The datagrams to one peer, as a chain.
#[derive(Clone, Copy)]
struct Group {
    first: u16,
    last: u16,
    bucket: u16,
}

/// Orders a batch by peer, the datagrams to each in the order that they have, in linear time and in
/// memory that is bought once.
pub(super) struct Grouper {
    buckets: Box<[u16]>,
    groups: Vec<Group>,
    next: Vec<u16>,
    order: Vec<u16>,
    /// Peers are strangers: they must not know who falls into one bucket.
    key: u64,
}

impl Grouper {
    pub(super) fn new() -> Self {
        Self {
            buckets: vec![NONE; BUCKET_COUNT].into_boxed_slice(),
            groups: Vec::with_capacity(BATCH_CAPACITY_MAX),
            next: Vec::with_capacity(BATCH_CAPACITY_MAX),
            order: Vec::with_capacity(BATCH_CAPACITY_MAX),
            // Odd, so that multiplying by it loses nothing.
            key: RandomState::new().build_hasher().finish() | 1,
        }
    }

    /// The indexes of those datagrams (of the first [`BATCH_CAPACITY_MAX`]) whose indexes are given, those
    /// to one peer side by side. No index is given twice.
    pub(super) fn order(
        &mut self,
        datagrams: &[Datagram],
        indexes: impl Iterator<Item = u16>,
    ) -> &[u16] {
        self.next.clear();
        self.next
            .resize(datagrams.len().min(BATCH_CAPACITY_MAX), NONE);
        self.order.clear();
        for index in indexes.take(self.next.len()) {
            if let Some(datagram) = datagrams.get(usize::from(index)) {
                self.add(index, datagram.peer(), datagrams);
            }
        }
        for group in self.groups.drain(..) {
            if let Some(bucket) = self.buckets.get_mut(usize::from(group.bucket)) {
                *bucket = NONE;
            }
            let mut index = group.first;
            while let Some(next) = self.next.get(usize::from(index)) {
                self.order.push(index);
                index = *next;
            }
        }
        &self.order
    }

    /// Puts a datagram at the end of its peer's chain.
    fn add(&mut self, index: u16, peer: SocketAddr, datagrams: &[Datagram]) {
        let start = self.hash(peer);
        for step in 0..BUCKET_COUNT {
            let place = (start + step) % BUCKET_COUNT;
            let Some(bucket) = self.buckets.get_mut(place) else {
                return;
            };
            let Some(group) = self.groups.get_mut(usize::from(*bucket)) else {
                *bucket = u16::try_from(self.groups.len()).unwrap_or(NONE);
                self.groups.push(Group {
                    first: index,
                    last: index,
                    bucket: u16::try_from(place).unwrap_or(NONE),
                });
                return;
            };
            let of_group = datagrams.get(usize::from(group.first));
            if of_group.is_some_and(|datagram| datagram.peer() == peer) {
                if let Some(next) = self.next.get_mut(usize::from(group.last)) {
                    *next = index;
                }
                group.last = index;
                return;
            }
        }
    }

    /// Where the look for a peer begins.
    fn hash(&self, peer: SocketAddr) -> usize {
        let ip = match peer.ip() {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => {
                let [high, low] = [ip.to_bits() >> 64, ip.to_bits()]
                    .map(|half| u64::try_from(half & u128::from(u64::MAX)).unwrap_or_default());
                high.wrapping_mul(self.key).rotate_left(32) ^ low
            }
        };
        let mixed = (ip.rotate_left(16) ^ u64::from(peer.port())).wrapping_mul(self.key);
        // The upper bits are the mixed ones.
        usize::try_from(mixed >> 40).unwrap_or_default() % BUCKET_COUNT
    }
}

/// How many of these datagrams, which go in this order, the first run has: all are to one peer, of one
/// size but for the last, which may be shorter. At least one, if there is any.
pub(super) fn run_count(order: &[u16], datagrams: &[Datagram], count_max: usize) -> usize {
    let datagram = |index: &u16| datagrams.get(usize::from(*index));
    let Some(first) = order.first().and_then(datagram) else {
        return order.len().min(1);
    };
    let size = first.bytes().len();
    let mut total = size;
    let mut count = 1;
    // An empty datagram can't be cut from anything.
    while size > 0 && count < count_max {
        let Some(next) = order.get(count).and_then(datagram) else {
            break;
        };
        let next_size = next.bytes().len();
        let is_fitting = next_size > 0 && next_size <= size && total + next_size <= RUN_SIZE_MAX;
        if !is_fitting || next.peer() != first.peer() {
            break;
        }
        count += 1;
        total += next_size;
        if next_size < size {
            break;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use cepa_relay::packet::batch::Batch;
    use proptest::prelude::*;

    fn peer(number: u8) -> SocketAddr {
        if number.is_multiple_of(2) {
            SocketAddr::from(([127, 0, 0, 1], 1000 + u16::from(number)))
        } else {
            SocketAddr::from((core::net::Ipv6Addr::LOCALHOST, 1000 + u16::from(number)))
        }
    }

    fn sizes_of_runs(sizes: &[usize]) -> Vec<usize> {
        let mut batch = Batch::new(sizes.len());
        for size in sizes {
            assert!(batch.push(peer(0), &vec![0; *size]));
        }
        let order: Vec<u16> = (0..u16::try_from(sizes.len()).unwrap()).collect();
        let mut rest = order.as_slice();
        let mut runs = Vec::new();
        while !rest.is_empty() {
            let count = run_count(rest, batch.datagrams(), RUN_COUNT_MAX);
            runs.push(count);
            rest = &rest[count..];
        }
        runs
    }

    #[test]
    fn runs_are_of_equal_size_with_a_short_end() {
        assert_eq!(sizes_of_runs(&[100, 100, 100, 40, 100]), [4, 1]);
        assert_eq!(sizes_of_runs(&[100, 101, 100]), [1, 2]);
        assert_eq!(sizes_of_runs(&[0, 0, 5, 0]), [1, 1, 1, 1]);
        assert_eq!(sizes_of_runs(&[1; 130]), [64, 64, 2]);
        assert_eq!(sizes_of_runs(&[1232; 60]), [53, 7]);
    }

    proptest! {
        #[test]
        fn a_batch_is_ordered_by_peer(peers in proptest::collection::vec(0_u8..20, 0..300)) {
            let mut batch = Batch::new(300);
            for (number, index) in peers.iter().zip(0_u16..) {
                prop_assert!(batch.push(peer(*number), &index.to_be_bytes()));
            }
            let mut grouper = Grouper::new();
            // Twice: nothing stays of the first.
            for _ in 0..2 {
                let order = grouper.order(batch.datagrams(), 0..1000).to_vec();
                let mut expected: Vec<u16> = Vec::new();
                let mut seen = Vec::new();
                for number in &peers {
                    if !seen.contains(number) {
                        seen.push(*number);
                        let indexes = peers.iter().zip(0_u16..);
                        expected.extend(indexes.filter(|(other, _)| *other == number).map(|(_, i)| i));
                    }
                }
                prop_assert_eq!(order, expected);
            }
        }
    }
}
