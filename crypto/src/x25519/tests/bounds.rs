//! The formulas over intervals: what no input, however unlucky, does.
//!
//! A word is the range of what it may hold. An operation fails when anything in range would
//! overflow 64 bits, or borrow, or lose bits that are not counted elsewhere; and gives the range of
//! its results.

use core::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use crate::x25519::formulas::formulas;

thread_local! {
    static NEXT: Cell<u32> = const { Cell::new(0) };
    /// Words, by name, with the bit from which on what they hold has been passed on.
    static PASSED_ON: RefCell<BTreeSet<(u32, u32)>> = const { RefCell::new(BTreeSet::new()) };
}

#[derive(Clone, Copy)]
struct Word {
    name: u32,
    min: u64,
    max: u64,
}

type Mask = ();

impl Word {
    fn new(min: u64, max: u64) -> Self {
        assert!(min <= max);
        let name = NEXT.get();
        NEXT.set(name + 1);
        Self { name, min, max }
    }

    fn below(bits: u32) -> Self {
        Self::new(0, (1 << bits) - 1)
    }

    /// Of either. What is above bit 52 has been passed on when it has been of both.
    fn or_else(self, other: Self) -> Self {
        let word = Self::new(self.min.min(other.min), self.max.max(other.max));
        for bit in [47, 52] {
            if self.is_low_enough(bit) && other.is_low_enough(bit) {
                word.pass_on(bit);
            }
        }
        word
    }

    fn pass_on(self, bit: u32) {
        PASSED_ON.with_borrow_mut(|passed_on| passed_on.insert((self.name, bit)));
    }

    /// Whether what the lower bits don't hold is counted elsewhere, or nothing.
    fn is_low_enough(self, bit: u32) -> bool {
        self.max >> bit == 0
            || PASSED_ON.with_borrow(|passed_on| passed_on.contains(&(self.name, bit)))
    }

    /// The range of the lower bits.
    fn lower(self, bit: u32) -> (u64, u64) {
        if self.max >> bit == 0 {
            (self.min, self.max)
        } else {
            (0, (1 << bit) - 1)
        }
    }
}

fn word(value: u64) -> Word {
    Word::new(value, value)
}

fn add(left: Word, right: Word) -> Word {
    let max = left.max.checked_add(right.max);
    Word::new(left.min + right.min, max.expect("64 bits overflow"))
}

fn sub(left: Word, right: Word) -> Word {
    let min = left.min.checked_sub(right.max);
    Word::new(min.expect("a borrow"), left.max - right.min)
}

/// Checks nothing: where the formulas mask what they do not count.
fn and(left: Word, right: Word) -> Word {
    Word::new(0, left.max.min(right.max))
}

fn or(left: Word, right: Word) -> Word {
    let bits = 64 - (left.max | right.max).leading_zeros();
    Word::new(0, u64::MAX >> (64 - bits))
}

fn shr<const BITS: u32>(value: Word) -> Word {
    value.pass_on(BITS);
    Word::new(value.min >> BITS, value.max >> BITS)
}

fn low<const BITS: u32>(value: Word) -> Word {
    assert!(value.is_low_enough(BITS), "bits are lost");
    let (min, max) = value.lower(BITS);
    Word::new(min, max)
}

fn product_of(left: Word, right: Word) -> (u128, u128) {
    for factor in [left, right] {
        assert!(factor.is_low_enough(52), "a factor loses bits");
    }
    let (left, right) = (left.lower(52), right.lower(52));
    let times = |left, right| u128::from(left) * u128::from(right);
    (times(left.0, right.0), times(left.1, right.1))
}

fn madd_lo(sum: Word, left: Word, right: Word) -> Word {
    let (min, max) = product_of(left, right);
    let word = match (u64::try_from(min), u64::try_from(max)) {
        (Ok(min), Ok(max)) if max >> 52 == 0 => Word::new(min, max),
        _ => Word::below(52),
    };
    add(sum, word)
}

fn madd_hi(sum: Word, left: Word, right: Word) -> Word {
    let (min, max) = product_of(left, right);
    let upper = |product: u128| u64::try_from(product >> 52).unwrap();
    add(sum, Word::new(upper(min), upper(max)))
}

fn madd_small(sum: Word, left: Word, right: Word) -> Word {
    let (_, max) = product_of(left, right);
    assert_eq!(max >> 52, 0, "a product loses its upper part");
    madd_lo(sum, left, right)
}

fn select((): Mask, clear: Word, set: Word) -> Word {
    clear.or_else(set)
}

fn is_zero(_: Word) -> Mask {}

formulas! {}

impl Element {
    fn or_else(&self, other: &Self) -> Self {
        select_element((), self, other)
    }

    fn ranges(&self) -> [(u64, u64); 5] {
        self.0.map(|word| (word.min, word.max))
    }

    /// What the page of the formulas promises of each.
    fn check(&self) {
        assert!(self.0[4].max < (1 << 47) + (1 << 7), "{:?}", self.ranges());
        assert!(self.0.iter().all(|word| word.is_low_enough(52)));
        assert!(self.0.iter().all(|word| word.max < 1 << 59));
    }
}

impl Ladder {
    fn elements(&self) -> [Element; 4] {
        let Self { doubled, added } = self;
        [doubled.sum, doubled.difference, added.sum, added.difference]
    }

    fn or_else(&self, other: &Self) -> Self {
        Self {
            doubled: select_point((), &self.doubled, &other.doubled),
            added: select_point((), &self.added, &other.added),
        }
    }
}

/// What `grow` comes to when it adds nothing more.
fn fixed_point<T, R: PartialEq>(mut state: T, ranges: fn(&T) -> R, grow: impl Fn(&T) -> T) -> T {
    for _ in 0..20 {
        let grown = grow(&state);
        if ranges(&grown) == ranges(&state) {
            return grown;
        }
        state = grown;
    }
    panic!("there is no bound");
}

/// The u of any peer: 255 bits.
fn any_peer() -> Element {
    let digit = Word::below(52);
    Element([digit, digit, digit, digit, Word::below(47)])
}

#[test]
fn no_step_of_the_ladder_overflows_borrows_or_loses_bits() {
    let peer = any_peer();
    let multiples = multiples(&peer);
    for multiple in multiples.0 {
        // These are not carried again: they must be clean, and not only low enough.
        assert!(multiple[..4].iter().all(|word| word.max >> 52 == 0));
        Element(multiple).check();
    }
    let ranges = |ladder: &Ladder| ladder.elements().map(|element| element.ranges());
    let ladder = fixed_point(start(&peer), ranges, |ladder| {
        ladder.or_else(&step(ladder, (), &multiples))
    });
    for element in ladder.elements() {
        element.check();
    }
    let (x, z) = finish(&select_point((), &ladder.doubled, &ladder.added));
    // The inversion, and what is around it: products and squares of these and of each other.
    let one = Element(words([1, 0, 0, 0, 0]));
    let element = fixed_point(x.or_else(&z).or_else(&one), Element::ranges, |element| {
        let squared = carry(&square(NONE, element));
        element
            .or_else(&product(element, element))
            .or_else(&squared)
    });
    element.check();
    let canonical = canonical(&element);
    assert!(canonical.0[..4].iter().all(|word| word.max >> 52 == 0));
    assert!(canonical.0[4].max >> 47 == 0);
    is_zero_element(&canonical);
}

#[test]
#[should_panic(expected = "a borrow")]
fn a_difference_without_the_bias_is_found() {
    let peer = any_peer();
    wide_sub(&mul(NONE, &peer, &peer), &mul(NONE, &peer, &peer));
}

#[test]
#[should_panic(expected = "a factor loses bits")]
fn a_sum_that_is_not_carried_is_found() {
    let peer = any_peer();
    let sum = wide_add(&Wide(peer.0), &Wide(peer.0));
    mul(NONE, &Element(sum.0), &peer);
}
