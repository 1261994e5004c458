//! What the kernel joined (`UDP_GRO`) is cut again, and goes into slots. Sans-IO.

use core::net::SocketAddr;

use super::statistics::IoStatistics;
use cepa_relay::packet::batch::{Batch, DATAGRAM_SIZE_MAX};

/// How received bytes are cut into datagrams: pieces of a size, the last of which may be shorter. No
/// segment size means that all of it is one datagram; one without bytes is a datagram too.
pub(super) struct Cut {
    offset: usize,
    total: usize,
    segment_size: usize,
    is_begun: bool,
}

impl Cut {
    pub(super) const fn new(total: usize, segment_size: Option<usize>) -> Self {
        let segment_size = match segment_size {
            Some(size) if size > 0 => size,
            _ => total,
        };
        Self {
            offset: 0,
            total,
            segment_size,
            is_begun: false,
        }
    }

    /// Whether nothing is left.
    pub(super) const fn is_done(&self) -> bool {
        self.is_begun && self.offset >= self.total
    }
}

impl Iterator for Cut {
    type Item = core::ops::Range<usize>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done() {
            return None;
        }
        self.is_begun = true;
        let begin = self.offset;
        self.offset = begin.saturating_add(self.segment_size).min(self.total);
        Some(begin..self.offset)
    }
}

/// Copies datagrams of a message into free slots; whether all of it is cut. What is too large for a slot
/// is counted.
pub(super) fn deliver(
    payload: &[u8],
    cut: &mut Cut,
    peer: SocketAddr,
    batch: &mut Batch,
    statistics: &mut IoStatistics,
) -> bool {
    while !batch.is_full() {
        let Some(range) = cut.next() else {
            return true;
        };
        let bytes = payload.get(range).unwrap_or_default();
        if bytes.len() > DATAGRAM_SIZE_MAX {
            statistics.oversized += 1;
        } else if batch.push(peer, bytes) {
            statistics.received += 1;
            statistics.received_bytes += bytes.len() as u64;
        }
    }
    cut.is_done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_cut_as_they_were_joined() {
        let cut = |total, size| Cut::new(total, size).map(|range| range.len()).collect();
        let cases: [(usize, Option<usize>, Vec<usize>); 6] = [
            (0, None, vec![0]),
            (7, None, vec![7]),
            (7, Some(0), vec![7]),
            (7, Some(7), vec![7]),
            (7, Some(3), vec![3, 3, 1]),
            (6, Some(3), vec![3, 3]),
        ];
        for (total, size, expected) in cases {
            let got: Vec<usize> = cut(total, size);
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_message_goes_into_as_many_slots_as_are_free() {
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut statistics = IoStatistics::default();
        let mut batch = Batch::new(2);
        let mut cut = Cut::new(7, Some(2));
        let payload = [0, 0, 1, 1, 2, 2, 3];
        assert!(!deliver(
            &payload,
            &mut cut,
            peer,
            &mut batch,
            &mut statistics
        ));
        batch.clear();
        assert!(deliver(
            &payload,
            &mut cut,
            peer,
            &mut batch,
            &mut statistics
        ));
        assert_eq!(batch.datagrams()[1].bytes(), [3]);
        batch.clear();
        let large = [0; 2 * DATAGRAM_SIZE_MAX];
        let mut cut = Cut::new(large.len(), Some(DATAGRAM_SIZE_MAX + 1));
        assert!(deliver(&large, &mut cut, peer, &mut batch, &mut statistics));
        assert_eq!(batch.datagrams()[0].bytes().len(), DATAGRAM_SIZE_MAX - 1);
        assert_eq!((statistics.received, statistics.oversized), (5, 1));
    }
}
