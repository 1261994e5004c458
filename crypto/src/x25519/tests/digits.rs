//! The formulas over single words: one lane, on any CPU, whose digits can be set as no peer sets
//! them.

use super::Random;
use super::twin::Number;
use crate::x25519::formulas::formulas;

type Word = u64;
type Mask = bool;

fn word(value: u64) -> Word {
    value
}

fn add(left: Word, right: Word) -> Word {
    left + right
}

fn sub(left: Word, right: Word) -> Word {
    left - right
}

fn and(left: Word, right: Word) -> Word {
    left & right
}

fn or(left: Word, right: Word) -> Word {
    left | right
}

fn shr<const BITS: u32>(value: Word) -> Word {
    value >> BITS
}

fn low<const BITS: u32>(value: Word) -> Word {
    value & ((1 << BITS) - 1)
}

fn product_of(left: Word, right: Word) -> u128 {
    u128::from(low::<52>(left)) * u128::from(low::<52>(right))
}

fn madd_lo(sum: Word, left: Word, right: Word) -> Word {
    let product = product_of(left, right) & ((1 << 52) - 1);
    sum + u64::try_from(product).unwrap()
}

fn madd_hi(sum: Word, left: Word, right: Word) -> Word {
    sum + u64::try_from(product_of(left, right) >> 52).unwrap()
}

fn madd_small(sum: Word, left: Word, right: Word) -> Word {
    assert_eq!(product_of(left, right) >> 52, 0);
    madd_lo(sum, left, right)
}

fn select(mask: Mask, clear: Word, set: Word) -> Word {
    if mask { set } else { clear }
}

fn is_zero(value: Word) -> Mask {
    value == 0
}

formulas! {}

/// The highest that a carry leaves in digit 4.
const TOP: u64 = (1 << 47) + (1 << 7) - 1;

/// Digits of radix 2^52, however large.
fn number(digits: [u64; 5]) -> Number {
    let radix = Number::small(1 << 52);
    let horner = |sum: Number, digit: &u64| sum.times(radix).plus(Number::small(*digit));
    digits.iter().rev().fold(Number::small(0), horner)
}

impl Element {
    fn number(&self) -> Number {
        let [zero, one, two, three, four] = self.0;
        number([
            low::<52>(zero),
            low::<52>(one),
            low::<52>(two),
            low::<52>(three),
            four,
        ])
    }
}

/// Each digit as low and as high as can be, with nothing or anything above its 52 bits, and others.
fn elements() -> Vec<Element> {
    let full = (1 << 52) - 1;
    let mut elements = Vec::new();
    for pattern in 0..32 {
        for above in [0, 0x5a5, 0xfff] {
            let digit = |index: u32| if pattern >> index & 1 == 1 { full } else { 0 } | above << 52;
            let top = if pattern >> 4 & 1 == 1 { TOP } else { 0 };
            elements.push(Element([digit(0), digit(1), digit(2), digit(3), top]));
        }
    }
    let mut random = Random(9);
    for _ in 0..64 {
        let digits = core::array::from_fn(|_| random.word());
        elements.push(Element(digits));
        elements.last_mut().unwrap().0[4] %= TOP + 1;
    }
    // Around p and 2 p.
    for low in (1 << 52) - 40..1 << 52 {
        elements.push(Element([low, full, full, full, (1 << 47) - 1]));
        elements.push(Element([(1 << 52) - 1 - low, 0, 0, 0, 1 << 47]));
    }
    elements
}

#[test]
fn the_constants_are_what_they_are_called() {
    assert_eq!(number(BIAS), Number::small(0));
    let [zero, rest @ ..] = BIAS_OF_SQUARE;
    let [one, two, three, four] = rest.map(|digit| 2 * digit);
    assert_eq!([zero, one, two, three, four], BIAS);
    assert_eq!(number([0, 0, 0, 0, 1 << 47]), Number::small(WRAP_255));
    assert_eq!(number([0, 0, 0, 0, 1 << 52]), Number::small(WRAP_260));
    assert_eq!(4 * A24 + 2, 486_662);
}

#[test]
fn every_product_is_that_of_the_twin() {
    let elements = elements();
    for left in &elements {
        let squared = left.number().times(left.number());
        assert_eq!(number(square(NONE, left).0), squared);
        assert_eq!(number(square(BIAS_OF_SQUARE, left).0), squared);
        assert_eq!(carry(&square(NONE, left)).number(), squared);
        let a24 = left.number().times(Number::small(A24));
        let sum = add_a24(&square(NONE, left), left);
        assert_eq!(number(sum.0), squared.plus(a24));
        for right in &elements {
            let expected = left.number().times(right.number());
            assert_eq!(product(left, right).number(), expected);
            let with_bias = mul(BIAS, left, right);
            assert_eq!(number(with_bias.0), expected);
            let difference = carry(&wide_sub(&with_bias, &mul(NONE, right, right)));
            let expected = expected.minus(right.number().times(right.number()));
            assert_eq!(difference.number(), expected);
        }
    }
}

#[test]
fn a_product_by_multiples_is_that_of_the_twin() {
    let elements = elements();
    // A peer's u has 255 bits, and nothing above a digit's.
    let is_clean = |element: &&Element| {
        element.0[..4].iter().all(|digit| digit >> 52 == 0) && element.0[4] >> 47 == 0
    };
    let peers = elements.iter().filter(is_clean);
    for peer in peers {
        let multiples = multiples(peer);
        for left in &elements {
            let product = mul_by_multiples(left, &multiples);
            assert_eq!(number(product.0), left.number().times(peer.number()));
        }
    }
}

#[test]
fn canonical_is_the_number_below_p() {
    for element in elements() {
        let canonical = canonical(&element);
        assert_eq!(canonical.number(), element.number());
        let [zero, one, two, three, four] = canonical.0;
        let words = [
            zero | one << 52,
            one >> 12 | two << 40,
            two >> 24 | three << 28,
            three >> 36 | four << 16,
        ];
        // The twin's words are below p: the same words are, too.
        let mut bytes = [0; 32];
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        assert_eq!(bytes, element.number().encode());
        assert_eq!(
            is_zero_element(&canonical),
            element.number() == Number::small(0)
        );
    }
}

/// A ladder of one lane, wholly without vectors.
#[test]
fn the_ladder_is_that_of_the_twin() {
    let mut random = Random(11);
    for _ in 0..20 {
        let (secret, mut peer) = (random.bytes(), random.bytes());
        peer[31] &= 0x7f;
        let mut digits = [0; 5];
        for (index, digit) in digits.iter_mut().enumerate() {
            for bit in (0..52).filter(|bit| index * 52 + bit < 255).rev() {
                let bit = index * 52 + bit;
                *digit = *digit << 1 | u64::from(peer[bit / 8] >> (bit % 8) & 1);
            }
        }
        let multiples = multiples(&Element(digits));
        let mut ladder = start(&Element(digits));
        let mut last = 1;
        for index in (3..254).rev() {
            let bit = secret[index / 8] >> (index % 8) & 1;
            ladder = step(&ladder, bit != last, &multiples);
            last = bit;
        }
        let (x, z) = finish(&select_point(last == 1, &ladder.doubled, &ladder.added));
        let shared = x.number().times(z.number().inverted());
        assert_eq!(shared.encode(), super::twin::x25519(&secret, &peer));
    }
}
