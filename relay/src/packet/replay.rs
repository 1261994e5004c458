//! Which packets were seen: a Bloom filter of fixed memory, shared by all packet tiles.
//!
//! What was inserted is always found: no packet passes twice in one epoch. What was not is found by
//! mistake, and dropped, one time in two thousand when the filter holds as many as it was sized for (one in
//! ten thousand of those that filled it up), and more often beyond; a client resends what gets lost. Memory
//! is 4 bytes a packet: 256 MiB for 67 million,
//! which is 775 a second for a day, or 18,600 a second for an hour. So an operator who expects more gives
//! it more memory, or the network shortens its epoch.
//!
//! A tag's six bits lie in one word, so that one atomic operation both looks and inserts, and of two tiles
//! that get the same packet at the same time exactly one passes it on. (Putze, Sanders and Singler 2007,
//! "Cache-, Hash- and Space-Efficient Bloom Filters": a blocked filter, with blocks of 64 bits.)

use core::sync::atomic::{AtomicU64, Ordering};

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use core::hash::Hasher as _;

/// Bits of a tag in its word: the best number when two tags share a word on average.
const BIT_COUNT: u32 = 6;

/// Bytes of filter for each packet of an epoch.
pub const BYTES_PER_PACKET: usize = 4;

/// The filter of one epoch.
pub struct ReplayFilter {
    words: Box<[AtomicU64]>,
    /// Secret: whoever chooses tags shall not choose their words.
    key: [u8; 16],
}

impl ReplayFilter {
    /// An empty filter of `size` bytes, at least one word. `key` is random.
    pub fn new(size: usize, key: [u8; 16]) -> Self {
        let count = (size / size_of::<u64>()).max(1);
        Self {
            words: (0..count).map(|_| AtomicU64::new(0)).collect(),
            key,
        }
    }

    /// Bytes that it holds.
    pub fn size(&self) -> usize {
        size_of_val(&*self.words)
    }

    /// Inserts a tag; true when it was not there.
    pub fn insert(&self, tag: &[u8; 16]) -> bool {
        let (word, bits) = self.place(tag);
        let before = word.fetch_or(bits, Ordering::Relaxed);
        before & bits != bits
    }

    fn place(&self, tag: &[u8; 16]) -> (&AtomicU64, u64) {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(tag);
        let hash = hasher.finish128();
        // The high half of the product is below the count, whatever the hash is.
        let product = u128::from(hash.h1) * self.words.len() as u128;
        let index = usize::try_from(product >> 64).unwrap_or_default();
        let bits = (0..BIT_COUNT).fold(0, |bits, nth| bits | 1 << (hash.h2 >> (6 * nth) & 63));
        (&self.words[index], bits)
    }

    /// Forgets everything from word `from` on for one slice; gives where the next slice begins, or `None`
    /// at the end. A slice is a quarter of a MiB, some ten microseconds.
    pub fn clear_slice(&self, from: usize) -> Option<usize> {
        const SLICE: usize = 32_768;
        let rest = self.words.get(from..)?;
        for word in rest.iter().take(SLICE) {
            word.store(0, Ordering::Relaxed);
        }
        (rest.len() > SLICE).then_some(from + SLICE)
    }

    /// The share of bits that are set, of a thousand, as a sample of the words shows it. At 170 it
    /// holds what it was sized for.
    pub fn fill_permille(&self) -> u32 {
        const SAMPLE: usize = 4096;
        let step = (self.words.len() / SAMPLE).max(1);
        let sample = self.words.iter().step_by(step);
        let (mut set, mut count) = (0_u64, 0_u64);
        for word in sample {
            set += u64::from(word.load(Ordering::Relaxed).count_ones());
            count += 64;
        }
        u32::try_from(set * 1000 / count.max(1)).unwrap_or(1000)
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::AtomicUsize;

    use super::*;

    fn tag(number: u64) -> [u8; 16] {
        let mut tag = [0; 16];
        tag[..8].copy_from_slice(&number.to_le_bytes());
        tag
    }

    #[test]
    fn what_was_seen_is_known_and_little_else_is() {
        const COUNT: u64 = 200_000;
        let filter = ReplayFilter::new(800_000, [7; 16]);
        let mistaken = (0..COUNT).filter(|number| !filter.insert(&tag(*number)));
        let mistaken = mistaken.count();
        assert!((0..COUNT).all(|number| !filter.insert(&tag(number))));
        // Some 20: it is the same key in each run.
        assert!(mistaken <= 40, "{mistaken} of {COUNT}");
        let fill = filter.fill_permille();
        assert!((150..200).contains(&fill), "{fill}");
        // Of the others that a full one does not know, some 95.
        let mistaken = (COUNT..2 * COUNT).filter(|number| {
            let (word, bits) = filter.place(&tag(*number));
            word.load(Ordering::Relaxed) & bits == bits
        });
        let mistaken = mistaken.count();
        assert!(mistaken <= 150, "{mistaken} of {COUNT}");
    }

    #[test]
    fn of_two_at_the_same_time_one_passes() {
        const COUNT: u64 = 100_000;
        let filter = ReplayFilter::new(4 << 20, [1; 16]);
        let passed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let new = (0..COUNT).filter(|number| filter.insert(&tag(*number)));
                    passed.fetch_add(new.count(), Ordering::Relaxed);
                });
            }
        });
        let passed = passed.into_inner();
        assert!(passed <= 100_000, "{passed} passed");
        assert!(passed > 99_900, "{passed} passed");
    }

    #[test]
    fn it_is_emptied_in_slices() {
        let filter = ReplayFilter::new(1 << 20, [1; 16]);
        for number in 0..10_000 {
            filter.insert(&tag(number));
        }
        let (mut next, mut slices) = (Some(0), 0);
        while let Some(from) = next {
            next = filter.clear_slice(from);
            slices += 1;
        }
        assert_eq!((slices, filter.fill_permille()), (4, 0));
        assert!(filter.insert(&tag(5)));
        assert_eq!(filter.clear_slice(usize::MAX), None);
    }

    #[test]
    fn the_smallest_works() {
        let filter = ReplayFilter::new(0, [1; 16]);
        assert_eq!(filter.size(), 8);
        assert!(filter.insert(&tag(1)));
        assert!(!filter.insert(&tag(1)));
    }
}
