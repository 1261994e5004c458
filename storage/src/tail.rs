//! The log's tail, in memory: the last commits as they were written.

use std::collections::VecDeque;

use bytes::Bytes;
use cepa_wire::record::Position;

/// Keeps whole commits, the newest, up to a budget of bytes. What is read from it takes the same
/// way as what is read from the disk, checksums included.
#[derive(Debug)]
pub(crate) struct TailCache {
    /// Ascending.
    commits: VecDeque<(Position, Bytes)>,
    size: usize,
    size_max: usize,
}

impl TailCache {
    pub(crate) const fn new(size_max: usize) -> Self {
        Self {
            commits: VecDeque::new(),
            size: 0,
            size_max,
        }
    }

    /// Keeps a commit, newer than all before; forgets the oldest.
    pub(crate) fn push(&mut self, position: Position, data: Bytes) {
        self.size += data.len();
        self.commits.push_back((position, data));
        while self.size > self.size_max
            && let Some((_, oldest)) = self.commits.pop_front()
        {
            self.size -= oldest.len();
        }
    }

    /// The bytes that stand there, if they are kept.
    pub(crate) fn read(&self, position: Position, size: usize) -> Option<Bytes> {
        let after = self
            .commits
            .partition_point(|(start, _)| *start <= position);
        let (start, data) = self.commits.get(after.checked_sub(1)?)?;
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
        cache.push(at(1, 0), Bytes::from_static(b"0123456789"));
        cache.push(at(1, 10), Bytes::from_static(b"abcdefghij"));
        assert_eq!(cache.read(at(1, 3), 4).as_deref(), Some(&b"3456"[..]));
        assert_eq!(cache.read(at(1, 19), 1).as_deref(), Some(&b"j"[..]));
        assert_eq!(cache.read(at(1, 8), 4), None, "across two commits");
        assert_eq!(cache.read(at(2, 3), 4), None, "another segment");

        cache.push(at(2, 0), Bytes::from_static(b"ABC"));
        assert_eq!(cache.read(at(1, 3), 4), None, "forgotten");
        assert_eq!(cache.read(at(1, 10), 1).as_deref(), Some(&b"a"[..]));
        assert_eq!(cache.read(at(2, 0), 3).as_deref(), Some(&b"ABC"[..]));
        assert_eq!(cache.read(at(2, 0), 4), None);

        cache.push(at(3, 0), Bytes::from_static(&[0; 21]));
        assert_eq!(cache.read(at(3, 0), 1), None, "larger than the budget");
    }
}
