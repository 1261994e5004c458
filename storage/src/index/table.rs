//! A look-up table of cell numbers that grows in small steps.
//!
//! It is split in parts by the hash, each a table of its own that doubles by itself: no step moves
//! more than some thousand entries. The parts' shares of the hashes differ by up to two, so that
//! they double at different times: neither time nor memory grows by leaps.

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

const PART_COUNT: u16 = 1024;

#[derive(Debug)]
pub(crate) struct Table {
    parts: Vec<HashTable<u32>>,
}

impl Default for Table {
    fn default() -> Self {
        let mut parts = Vec::new();
        parts.resize_with(usize::from(PART_COUNT), HashTable::new);
        Self { parts }
    }
}

/// Part number n has a share of the hashes in proportion to 2^(n/1024). By bits in the middle: the
/// tables tell entries apart by the top bits and choose places by the low ones, which therefore must
/// not be alike within a part.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number from 0 to 1024"
)]
fn part_of(hash: u64) -> usize {
    let [_, _, high, low, ..] = hash.to_be_bytes();
    let share = f32::from(u16::from_be_bytes([high, low])) / 65536.0;
    let part = ((1.0 + share).log2() * f32::from(PART_COUNT)) as u16;
    usize::from(part.min(PART_COUNT - 1))
}

impl Table {
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let part = self.parts.get(part_of(hash))?;
        part.find(hash, |number| is_it(*number)).copied()
    }

    /// Adds a number that is not there. `hash_of` gives the hash of those that are.
    pub(crate) fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        if let Some(part) = self.parts.get_mut(part_of(hash)) {
            part.insert_unique(hash, number, |number| hash_of(*number));
        }
    }

    pub(crate) fn remove(&mut self, hash: u64, number: u32) {
        if let Some(part) = self.parts.get_mut(part_of(hash))
            && let Ok(entry) = part.find_entry(hash, |other| *other == number)
        {
            entry.remove();
        }
    }

    /// Takes memory for so many more numbers, each part for its share and a little more.
    pub(crate) fn reserve(&mut self, count: usize, hash_of: impl Fn(u32) -> u64) {
        let share = count / usize::from(PART_COUNT);
        for (index, part) in self.parts.iter_mut().enumerate() {
            // From 0.69 to 1.39 times the mean: see `part_of`.
            let weight = 710 + index * 710 / usize::from(PART_COUNT);
            part.reserve(share * weight / 1000, |number| hash_of(*number));
        }
    }

    /// Bytes of memory.
    pub(crate) fn memory_size(&self) -> usize {
        self.parts.iter().map(HashTable::allocation_size).sum()
    }
}

/// Hashes that nobody can choose.
#[derive(Debug)]
pub(crate) struct Hasher(SipHasher13);

impl Hasher {
    pub(crate) fn new(key: &[u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(key))
    }

    pub(crate) fn hash(&self, bytes: &[u8]) -> u64 {
        self.0.hash(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_hashes_evenly_enough() {
        let mut counts = vec![0_u32; usize::from(PART_COUNT)];
        for high in 0..=u16::MAX {
            counts[part_of(u64::from(high) << 32 | 0xFFFF)] += 1;
        }
        let least = counts.iter().min().unwrap();
        let most = counts.iter().max().unwrap();
        assert!(*least > 40 && *most < 100, "{least} to {most}");
    }

    #[test]
    fn what_is_inserted_is_found_until_it_is_removed() {
        let hasher = Hasher::new(&[7; 16]);
        let hash_of = |number: u32| hasher.hash(&number.to_le_bytes());
        let mut table = Table::default();
        for number in 0..10_000 {
            table.insert(hash_of(number), number, hash_of);
        }
        for number in (0..10_000).step_by(2) {
            table.remove(hash_of(number), number);
        }
        for number in 0..10_000 {
            let found = table.find(hash_of(number), |other| other == number);
            assert_eq!(found, (number % 2 == 1).then_some(number));
        }
    }
}
