//! The log's tail, in memory: the last commits as they were written.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use cepa_wire::record::Position;

/// Keeps what commits wrote, the newest, up to a budget of bytes. What is read from it takes the
/// same way as what is read from the disk, checksums included.
#[derive(Debug)]
pub(crate) struct TailCache {
    parts: BTreeMap<Position, Bytes>,
    /// In the order of their coming.
    order: VecDeque<Position>,
    size: usize,
    size_max: usize,
}

impl TailCache {
    pub(crate) const fn new(size_max: usize) -> Self {
        Self {
            parts: BTreeMap::new(),
            order: VecDeque::new(),
            size: 0,
            size_max,
        }
    }

    /// Keeps what was written at a place; forgets the oldest.
    pub(crate) fn push(&mut self, position: Position, data: Bytes) {
        if data.len() > self.size_max {
            return;
        }
        self.size += data.len();
        self.parts.insert(position, data);
        self.order.push_back(position);
        while self.size > self.size_max
            && let Some(oldest) = self.order.pop_front()
        {
            let oldest = self.parts.remove(&oldest);
            self.size -= oldest.map_or(0, |data| data.len());
        }
    }

    /// The bytes that stand there, if they are kept.
    pub(crate) fn read(&self, position: Position, size: usize) -> Option<Bytes> {
        let (start, data) = self.parts.range(..=position).next_back()?;
        if start.segment != position.segment {
            return None;
        }
        let begin = usize::try_from(position.offset - start.offset).ok()?;
        let end = begin.checked_add(size)?;
        (end <= data.len()).then(|| data.slice(begin..end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u32, offset: u64) -> Position {
        Position { segment, offset }
    }

    #[test]
    fn keeps_the_newest_within_its_budget() {
        let mut cache = TailCache::new(20);
        cache.push(at(2, 0), Bytes::from_static(b"0123456789"));
        cache.push(at(1, 10), Bytes::from_static(b"abcdefghij"));
        assert_eq!(cache.read(at(2, 3), 4).as_deref(), Some(&b"3456"[..]));
        assert_eq!(cache.read(at(1, 19), 1).as_deref(), Some(&b"j"[..]));
        assert_eq!(cache.read(at(2, 8), 4), None, "over the end");
        assert_eq!(cache.read(at(3, 3), 4), None, "another segment");

        cache.push(at(3, 0), Bytes::from_static(b"ABC"));
        assert_eq!(cache.read(at(2, 3), 4), None, "forgotten");
        assert_eq!(cache.read(at(1, 10), 1).as_deref(), Some(&b"a"[..]));
        assert_eq!(cache.read(at(3, 0), 3).as_deref(), Some(&b"ABC"[..]));
        assert_eq!(cache.read(at(3, 0), 4), None);

        cache.push(at(4, 0), Bytes::from_static(&[0; 21]));
        assert_eq!(cache.read(at(4, 0), 1), None, "larger than the budget");
    }
}
