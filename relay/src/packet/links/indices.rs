//! Numbers that peers name our links with: a place, and how often it was used, so that an old number
//! finds nothing.

use std::collections::VecDeque;

/// Bits of a place: a million links, and twelve bits above tell its uses apart.
const PLACE_BITS: u32 = 20;

/// As many as there can be.
pub(super) const CAPACITY_MAX: usize = 1 << PLACE_BITS;

struct Place<T> {
    uses: u32,
    item: Option<T>,
}

/// Items by their number. Grows to its capacity; places are used again in turn, so that a number comes
/// back as late as possible.
pub(super) struct Indices<T> {
    places: Vec<Place<T>>,
    free: VecDeque<u32>,
    capacity: usize,
}

impl<T> Indices<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            places: Vec::new(),
            free: VecDeque::new(),
            capacity: capacity.min(CAPACITY_MAX),
        }
    }

    /// Puts in what is made for a number; `None` when there is no place, or nothing was made.
    pub(super) fn insert_with(&mut self, make: impl FnOnce(u32) -> Option<T>) -> Option<u32> {
        if self.free.is_empty() && self.places.len() < self.capacity {
            self.free.push_back(u32::try_from(self.places.len()).ok()?);
            self.places.push(Place {
                uses: 0,
                item: None,
            });
        }
        let at = *self.free.front()?;
        let place = self.places.get_mut(at as usize)?;
        let index = place.uses << PLACE_BITS | at;
        place.item = Some(make(index)?);
        self.free.pop_front();
        Some(index)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let (at, uses) = split(index);
        let place = self.places.get_mut(at)?;
        place.item.as_mut().filter(|_| place.uses == uses)
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<T> {
        let (at, uses) = split(index);
        let place = self.places.get_mut(at).filter(|it| it.uses == uses)?;
        let item = place.item.take()?;
        place.uses = (uses + 1) & (u32::MAX >> PLACE_BITS);
        self.free.push_back(u32::try_from(at).ok()?);
        Some(item)
    }

    pub(super) fn count(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

const fn split(index: u32) -> (usize, u32) {
    let at = index & (u32::MAX >> (32 - PLACE_BITS));
    (at as usize, index >> PLACE_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_numbers_find_nothing() {
        let mut indices = Indices::new(2);
        let mut old = Vec::new();
        for round in 0..4095 {
            let index = indices.insert_with(Some).unwrap();
            assert_eq!(indices.get_mut(index), Some(&mut index.clone()));
            old.push(index);
            let all_old = old.iter().rev().skip(1).take(100);
            assert!(
                all_old
                    .into_iter()
                    .all(|old| indices.get_mut(*old).is_none())
            );
            assert_eq!(indices.remove(index), Some(index), "{round}");
            assert_eq!(indices.remove(index), None);
        }
        let count = old.len();
        old.sort_unstable();
        old.dedup();
        assert_eq!(old.len(), count);
    }

    #[test]
    fn no_more_than_the_capacity() {
        let mut indices = Indices::new(3);
        let all: Vec<_> = (0..3)
            .map(|_| indices.insert_with(|_| Some(())).unwrap())
            .collect();
        assert_eq!(indices.insert_with(|_| Some(())), None);
        assert_eq!(indices.count(), 3);
        indices.remove(all[1]).unwrap();
        // What is not made takes no place.
        assert_eq!(indices.insert_with(|_| None), None);
        let again = indices.insert_with(|_| Some(())).unwrap();
        assert_eq!(again & 0xf_ffff, all[1]);
        assert_eq!(indices.insert_with(|_| Some(())), None);
        assert_eq!(indices.get_mut(u32::MAX), None);
    }
}
