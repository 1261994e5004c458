//! The field and the ladder, as formulas over whatever a digit is: the lanes of a vector in `ifma`,
//! an interval in the proof of the bounds. Both run this text, so what is proven is what runs.
//!
//! # Representation
//!
//! p = 2^255 - 19. A number has five digits of radix 2^52, each in a word of 64 bits.
//!
//! - `Wide` is a sum, not carried: digits below 2^59, and only their sum
//!   `w0 + w1 2^52 + .. + w4 2^208` counts. Sums and differences are taken here, before the carry.
//! - `Element` is carried, and what a multiplication takes. A multiplication reads the low 52 bits
//!   of a word, so digits 0 to 3 keep, above those, the bits that the carry has already added to
//!   the next digit: nothing masks them away. Digit 4 is whole and below 2^47 + 2^7.
//!
//! A difference never borrows: its minuend starts from `BIAS`, a multiple of p whose digits
//! are larger than those of any product.
//!
//! # Ladder
//!
//! Montgomery's ladder (Montgomery 1987; RFC 7748, section 5) keeps two points whose difference is
//! the peer's. A point (X : Z) is kept as X + Z and X - Z, which is all that the formulas read. The
//! sum of both points is the same whichever comes first, but for the sign of what is then squared:
//! so a bit of the secret selects no more than the point to double.
//!
//! The peer's coordinate is a factor in each step: its multiples by 2^(52 i) are worked out once,
//! so that this product needs no wrap-around.
//!
//! Used with the types `Word` and `Mask` in scope, and functions of what the CPU does. Three of
//! those claim more than they compute, which is for the proof to check:
//!
//! - `low::<52>` drops bits that a `shr::<52>` of the same word has passed on;
//! - `madd_small` is `madd_lo` where the product has no upper part;
//! - `sub` does not borrow.
//!
//! `$attribute` goes to each function.

/// p and what is worked out of it, as digits.
pub(super) mod constant {
    /// 2^255 stands at bit 47 of the highest digit.
    pub(in crate::x25519) const LOW_47: u64 = (1 << 47) - 1;
    /// 2^255 mod p.
    pub(in crate::x25519) const WRAP_255: u64 = 19;
    /// 2^260 mod p: what the sixth digit counts.
    pub(in crate::x25519) const WRAP_260: u64 = 19 << 5;
    /// (A - 2) / 4 of the curve (RFC 7748, section 4.1).
    pub(in crate::x25519) const A24: u64 = 121_665;
    /// 2^11 p. Each digit but the last lends the next lower one 2^57.
    pub(in crate::x25519) const BIAS: [u64; 5] = [
        (1 << 57) - (19 << 11),
        (1 << 57) - 32,
        (1 << 57) - 32,
        (1 << 57) - 32,
        (1 << 58) - 32,
    ];
    /// What a square starts from to end with [`BIAS`]: all but its lowest digit is doubled on the
    /// way.
    pub(in crate::x25519) const BIAS_OF_SQUARE: [u64; 5] =
        [BIAS[0], BIAS[1] / 2, BIAS[2] / 2, BIAS[3] / 2, BIAS[4] / 2];
    pub(in crate::x25519) const NONE: [u64; 5] = [0; 5];
}

macro_rules! formulas {
    ($(#[$attribute:meta])*) => {
        use crate::x25519::formulas::constant::{
            A24, BIAS, BIAS_OF_SQUARE, LOW_47, NONE, WRAP_255, WRAP_260,
        };

        /// Carried: an operand.
        #[derive(Clone, Copy)]
        struct Element([Word; 5]);

        /// Not carried: a sum of products.
        #[derive(Clone, Copy)]
        struct Wide([Word; 5]);

        /// X + Z and X - Z of a point.
        #[derive(Clone, Copy)]
        struct Point {
            sum: Element,
            difference: Element,
        }

        /// A number times 2^(52 i), for i = 0 to 4.
        #[derive(Clone, Copy)]
        struct Multiples([[Word; 5]; 5]);

        /// What a ladder's step goes from: the point doubled last, and the sum of both before that.
        #[derive(Clone, Copy)]
        struct Ladder {
            doubled: Point,
            added: Point,
        }

        $(#[$attribute])*
        #[inline]
        fn words(digits: [u64; 5]) -> [Word; 5] {
            let [zero, one, two, three, four] = digits;
            [word(zero), word(one), word(two), word(three), word(four)]
        }

        $(#[$attribute])*
        #[inline]
        fn wide_add(left: &Wide, right: &Wide) -> Wide {
            let mut sum = left.0;
            for (sum, right) in sum.iter_mut().zip(right.0) {
                *sum = add(*sum, right);
            }
            Wide(sum)
        }

        /// `left` must have started from the bias.
        $(#[$attribute])*
        #[inline]
        fn wide_sub(left: &Wide, right: &Wide) -> Wide {
            let mut difference = left.0;
            for (difference, right) in difference.iter_mut().zip(right.0) {
                *difference = sub(*difference, right);
            }
            Wide(difference)
        }

        /// Brings what stands above bit 255 down to digit 0, and then passes each digit's upper
        /// bits on to the next. The digits keep theirs: see the module's page.
        $(#[$attribute])*
        #[inline]
        fn carry(wide: &Wide) -> Element {
            let mut digits = wide.0;
            let above = shr::<47>(digits[4]);
            digits[4] = low::<47>(digits[4]);
            digits[0] = madd_small(digits[0], above, word(WRAP_255));
            for index in 0..4 {
                digits[index + 1] = add(digits[index + 1], shr::<52>(digits[index]));
            }
            Element(digits)
        }

        /// Ten digits to five: the upper ones are carried, and count 2^260 mod p.
        $(#[$attribute])*
        #[inline]
        fn fold(mut sums: [Word; 10]) -> Wide {
            for index in 5..9 {
                sums[index + 1] = add(sums[index + 1], shr::<52>(sums[index]));
            }
            let wrap = word(WRAP_260);
            for index in 0..4 {
                sums[index] = madd_lo(sums[index], sums[index + 5], wrap);
                sums[index + 1] = madd_hi(sums[index + 1], sums[index + 5], wrap);
            }
            sums[4] = madd_small(sums[4], sums[9], wrap);
            let [zero, one, two, three, four, ..] = sums;
            Wide([zero, one, two, three, four])
        }

        $(#[$attribute])*
        #[inline]
        fn mul(start: [u64; 5], left: &Element, right: &Element) -> Wide {
            let mut sums = [word(0); 10];
            sums[..5].copy_from_slice(&words(start));
            for i in 0..5 {
                for j in 0..5 {
                    sums[i + j] = madd_lo(sums[i + j], left.0[i], right.0[j]);
                    sums[i + j + 1] = madd_hi(sums[i + j + 1], left.0[i], right.0[j]);
                }
            }
            fold(sums)
        }

        /// Products of two different digits count twice. They are doubled as sums: a digit doubled
        /// would not fit the 52 bits that a multiplication reads.
        $(#[$attribute])*
        #[inline]
        fn square(start: [u64; 5], base: &Element) -> Wide {
            let mut sums = [word(0); 10];
            sums[..5].copy_from_slice(&words(start));
            for i in 0..5 {
                for j in i + 1..5 {
                    sums[i + j] = madd_lo(sums[i + j], base.0[i], base.0[j]);
                    sums[i + j + 1] = madd_hi(sums[i + j + 1], base.0[i], base.0[j]);
                }
            }
            for sum in &mut sums[1..9] {
                *sum = add(*sum, *sum);
            }
            for i in 0..5 {
                sums[2 * i] = madd_lo(sums[2 * i], base.0[i], base.0[i]);
                sums[2 * i + 1] = madd_hi(sums[2 * i + 1], base.0[i], base.0[i]);
            }
            fold(sums)
        }

        $(#[$attribute])*
        #[inline]
        fn mul_by_multiples(left: &Element, right: &Multiples) -> Wide {
            let mut sums = [word(0); 6];
            for i in 0..5 {
                for j in 0..5 {
                    sums[j] = madd_lo(sums[j], left.0[i], right.0[i][j]);
                    sums[j + 1] = madd_hi(sums[j + 1], left.0[i], right.0[i][j]);
                }
            }
            let [mut zero, mut one, two, three, four, five] = sums;
            zero = madd_lo(zero, five, word(WRAP_260));
            one = madd_hi(one, five, word(WRAP_260));
            Wide([zero, one, two, three, four])
        }

        /// `start + A24 element`.
        $(#[$attribute])*
        #[inline]
        fn add_a24(start: &Wide, element: &Element) -> Wide {
            let mut sums = start.0;
            let a24 = word(A24);
            for index in 0..5 {
                sums[index] = madd_lo(sums[index], element.0[index], a24);
            }
            for index in 0..4 {
                sums[index + 1] = madd_hi(sums[index + 1], element.0[index], a24);
            }
            let above = madd_hi(word(0), element.0[4], a24);
            sums[0] = madd_small(sums[0], above, word(WRAP_260));
            Wide(sums)
        }

        /// The multiples of a number below 2^255, whose digits have nothing above 52 bits.
        $(#[$attribute])*
        #[inline]
        fn multiples(clean: &Element) -> Multiples {
            let mut all = [clean.0; 5];
            for index in 1..5 {
                let [zero, one, two, three, four] = all[index - 1];
                let wrap = word(WRAP_260);
                let wrapped = madd_lo(word(0), four, wrap);
                let zero = madd_hi(zero, four, wrap);
                let Element(mut digits) = carry(&Wide([wrapped, zero, one, two, three]));
                for digit in &mut digits[..4] {
                    *digit = low::<52>(*digit);
                }
                all[index] = digits;
            }
            Multiples(all)
        }

        /// `x` must have started from the bias.
        $(#[$attribute])*
        #[inline]
        fn point(x: &Wide, z: &Wide) -> Point {
            Point {
                sum: carry(&wide_add(x, z)),
                difference: carry(&wide_sub(x, z)),
            }
        }

        /// X and Z of twice a point; X has the bias.
        $(#[$attribute])*
        #[inline]
        fn double(base: &Point) -> (Wide, Wide) {
            let sum_squared = square(BIAS_OF_SQUARE, &base.sum);
            let difference_squared = square(NONE, &base.difference);
            let product = carry(&wide_sub(&sum_squared, &difference_squared));
            let factor = carry(&add_a24(&sum_squared, &product));
            let x = mul(BIAS, &carry(&sum_squared), &carry(&difference_squared));
            (x, mul(NONE, &product, &factor))
        }

        /// One bit of the secret: both points are added, and one is doubled. With the mask set it
        /// is that of the last addition, else that doubled before.
        ///
        /// As [`double`], and an addition beside it: in this order the CPU finds work of one while
        /// the other waits.
        $(#[$attribute])*
        #[inline]
        fn step(ladder: &Ladder, mask: Mask, peer: &Multiples) -> Ladder {
            let Ladder { doubled, added } = ladder;
            let chosen = select_point(mask, doubled, added);
            let left = mul(BIAS, &doubled.sum, &added.difference);
            let right = mul(NONE, &doubled.difference, &added.sum);
            let sum_squared = square(BIAS_OF_SQUARE, &chosen.sum);
            let difference_squared = square(NONE, &chosen.difference);
            let difference = square(NONE, &carry(&wide_sub(&left, &right)));
            let product = carry(&wide_sub(&sum_squared, &difference_squared));
            let x = square(BIAS_OF_SQUARE, &carry(&wide_add(&left, &right)));
            let double_x = mul(BIAS, &carry(&sum_squared), &carry(&difference_squared));
            let factor = carry(&add_a24(&sum_squared, &product));
            let z = mul_by_multiples(&carry(&difference), peer);
            let double_z = mul(NONE, &product, &factor);
            Ladder {
                doubled: point(&double_x, &double_z),
                added: point(&x, &z),
            }
        }

        $(#[$attribute])*
        #[inline]
        fn select_element(mask: Mask, clear: &Element, set: &Element) -> Element {
            let mut chosen = clear.0;
            for (chosen, set) in chosen.iter_mut().zip(set.0) {
                *chosen = select(mask, *chosen, set);
            }
            Element(chosen)
        }

        $(#[$attribute])*
        #[inline]
        fn select_point(mask: Mask, clear: &Point, set: &Point) -> Point {
            Point {
                sum: select_element(mask, &clear.sum, &set.sum),
                difference: select_element(mask, &clear.difference, &set.difference),
            }
        }

        /// Before the first step: bit 254, which is always set, has been worked through.
        $(#[$attribute])*
        #[inline]
        fn start(clean: &Element) -> Ladder {
            let [zero, one, two, three, four] = clean.0;
            let one_word = word(1);
            let sum = carry(&Wide([add(zero, one_word), one, two, three, four]));
            let Wide([zero, one, two, three, four]) = wide_add(&Wide(words(BIAS)), &Wide(clean.0));
            let difference = carry(&Wide([sub(zero, one_word), one, two, three, four]));
            let peer = Point { sum, difference };
            let (x, z) = double(&peer);
            Ladder {
                doubled: point(&x, &z),
                added: peer,
            }
        }

        /// After the last step: bits 2 to 0 are never set. Gives X and Z.
        $(#[$attribute])*
        #[inline]
        fn finish(base: &Point) -> (Element, Element) {
            let (x, z) = double(base);
            let (x, z) = double(&point(&x, &z));
            let (x, z) = double(&point(&x, &z));
            (carry(&x), carry(&z))
        }

        $(#[$attribute])*
        #[inline]
        fn product(left: &Element, right: &Element) -> Element {
            carry(&mul(NONE, left, right))
        }

        /// The number below p, with nothing above a digit's 52 bits. An element is below 2 p, so p
        /// is taken away at most once: when 19 more reach 2^255.
        $(#[$attribute])*
        #[inline]
        fn canonical(element: &Element) -> Element {
            let mut digits = element.0;
            for digit in &mut digits[..4] {
                *digit = low::<52>(*digit);
            }
            let mut carried = shr::<52>(add(digits[0], word(WRAP_255)));
            for digit in &digits[1..4] {
                carried = shr::<52>(add(*digit, carried));
            }
            let excess = shr::<47>(add(digits[4], carried));
            digits[0] = madd_small(digits[0], excess, word(WRAP_255));
            for index in 0..4 {
                digits[index + 1] = add(digits[index + 1], shr::<52>(digits[index]));
                digits[index] = low::<52>(digits[index]);
            }
            // Bit 255 is set when p is taken away, and goes.
            digits[4] = and(digits[4], word(LOW_47));
            Element(digits)
        }

        /// Whether it is zero mod p, of what [`canonical`] gave.
        $(#[$attribute])*
        #[inline]
        fn is_zero_element(canonical: &Element) -> Mask {
            let [zero, one, two, three, four] = canonical.0;
            is_zero(or(or(or(zero, one), or(two, three)), four))
        }
    };
}
pub(super) use formulas;
