//! Which counters of a link were seen (RFC 6479): a ring of words, so that going on clears whole words.

/// Words of a link's window: it spans 63 of them, 4,032 frames, what a link at a million frames a second has
/// in four milliseconds.
pub const WORD_COUNT: usize = 64;

/// A window over the last `(WORDS - 1) * 64` counters. `WORDS` is a power of two.
pub struct CounterWindow<const WORDS: usize> {
    words: [u64; WORDS],
    /// One above the highest counter that was seen.
    next: u64,
}

impl<const WORDS: usize> CounterWindow<WORDS> {
    /// How far below the highest counter one may be.
    pub const WIDTH: u64 = {
        assert!(WORDS.is_power_of_two() && WORDS > 1);
        (WORDS as u64 - 1) * 64
    };

    /// Nothing was seen.
    pub const fn new() -> Self {
        Self {
            words: [0; WORDS],
            next: 0,
        }
    }

    /// Whether a counter is new enough and was not seen.
    pub const fn is_fresh(&self, counter: u64) -> bool {
        if counter >= self.next {
            return true;
        }
        // The highest counter is `next - 1`.
        if self.next - 1 - counter >= Self::WIDTH {
            return false;
        }
        let (word, bit) = Self::place(counter);
        self.words[word] & bit == 0
    }

    /// Whether a counter is above all that were seen.
    pub const fn is_newest(&self, counter: u64) -> bool {
        counter >= self.next
    }

    /// Marks a counter as seen; false when [`Self::is_fresh`] is. Only of a frame that was authenticated.
    pub fn insert(&mut self, counter: u64) -> bool {
        if !self.is_fresh(counter) || counter == u64::MAX {
            return false;
        }
        if counter >= self.next {
            let (from, to) = (self.next.div_ceil(64), counter / 64);
            // Words that were not reached yet hold what was seen a round before.
            for word in (from..=to).rev().take(WORDS) {
                self.words[Self::place(word * 64).0] = 0;
            }
            self.next = counter + 1;
        }
        let (word, bit) = Self::place(counter);
        self.words[word] |= bit;
        true
    }

    const fn place(counter: u64) -> (usize, u64) {
        // Below WORDS, which is a usize.
        let word = (counter / 64) as usize & (WORDS - 1);
        (word, 1 << (counter % 64))
    }
}

impl<const WORDS: usize> Default for CounterWindow<WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    type Small = CounterWindow<2>;

    /// The same, slow: all that was seen.
    #[derive(Default)]
    struct Twin(BTreeSet<u64>);

    impl Twin {
        fn insert(&mut self, counter: u64) -> bool {
            let last = self.0.last().copied().unwrap_or_default();
            let old = last.saturating_sub(counter) >= Small::WIDTH;
            counter != u64::MAX && !old && self.0.insert(counter)
        }
    }

    fn compare(counters: &[u64]) {
        let (mut window, mut twin) = (Small::new(), Twin::default());
        for (step, counter) in counters.iter().enumerate() {
            let newest = twin.0.last().is_none_or(|last| counter > last);
            assert_eq!(window.is_newest(*counter), newest, "{counters:?}: {step}");
            assert_eq!(
                window.insert(*counter),
                twin.insert(*counter),
                "{counters:?}: {step}"
            );
        }
    }

    /// Every sequence of five of the counters at which something changes.
    #[test]
    fn it_is_as_its_slow_twin() {
        let edges = [
            0,
            1,
            62,
            63,
            64,
            65,
            126,
            127,
            128,
            129,
            191,
            192,
            256,
            1000,
            u64::MAX - 64,
            u64::MAX - 1,
            u64::MAX,
        ];
        let count = edges.len();
        for number in 0..count.pow(5) {
            let at = |nth: u32| edges[number / count.pow(nth) % count];
            compare(&[at(0), at(1), at(2), at(3), at(4)]);
        }
    }

    #[test]
    fn every_pair_and_every_third_after_it() {
        for first in 0..200 {
            for second in 0..200 {
                compare(&[
                    first,
                    second,
                    first,
                    second,
                    first.abs_diff(second),
                    64,
                    128,
                ]);
            }
        }
    }

    #[test]
    fn long_walks() {
        let mut state = 1_u64;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let mut base = 0;
            let walk: Vec<_> = (0..500)
                .map(|_| {
                    base += random(5) * random(2) + if random(50) == 0 { random(200) } else { 0 };
                    (base + random(20)).saturating_sub(random(90))
                })
                .collect();
            compare(&walk);
        }
    }
}
