//! Eight peers at once, one in each lane of a vector (AVX-512 IFMA).
//!
//! The field and the ladder are in `formulas`: digits of radix 2^52, which is what IFMA multiplies.
//! Here is what a digit is, and how peers get into lanes and out. Groups of eight go up the ladder
//! one after the other; then one inversion serves all (Montgomery's trick): the product of all z in
//! a lane is inverted by Fermat, in all lanes at once, and taken apart again. A z of zero, which a
//! point of low order ends with, would spoil the other groups' products: a one stands in for it,
//! and the lane's result is zero.
//!
//! # Constant time
//!
//! Secret are the scalar, and of each lane what its digits are once the ladder has begun.
//!
//! - There is no division, table or branch on a digit. Loops count what is public: bits, digits,
//!   peers.
//! - A bit of the scalar becomes a mask of eight bits, all set or all clear, behind
//!   [`core::hint::black_box`]: the compiler can't know that it has two values only, and so can't
//!   branch on them. The mask is an operand of the blends that select the point to double, and of
//!   nothing else.
//! - The vector instructions used take the same time whatever they compute; so do the scalar ones
//!   around them (shift, and, xor, negation).
//!
//! Read in the disassembly: `benches/x25519_branches.sh` finds the ladder's loop in a release
//! build, and fails unless it is straight: one conditional jump, which counts bits, at its end; no
//! call and no gather.
//!
//! # What stays behind
//!
//! `Work` is zeroized when dropped. What the compiler spills is in the frames of [`many`] and what
//! it calls; these are overwritten after each call. Registers are not cleared.
#![expect(
    unsafe_code,
    reason = "functions for a CPU's features are called once it is known to have them"
)]

use core::arch::x86_64::{
    __m512i, __mmask8, _mm256_extract_epi64, _mm512_add_epi64, _mm512_and_epi64,
    _mm512_cmpeq_epi64_mask, _mm512_extracti64x4_epi64, _mm512_madd52hi_epu64,
    _mm512_madd52lo_epu64, _mm512_mask_blend_epi64, _mm512_or_epi64, _mm512_set_epi64,
    _mm512_set1_epi64, _mm512_setzero_si512, _mm512_slli_epi64, _mm512_srli_epi64,
    _mm512_sub_epi64,
};
use core::hint::black_box;

use cepa_wire::X25519PublicKey;
use zeroize::{Zeroize, ZeroizeOnDrop, zeroize_stack};

use super::SharedSecret;
use super::formulas::formulas;

type Word = __m512i;
type Mask = __mmask8;

/// Peers in a group: lanes of a vector.
const LANES: usize = 8;

/// Groups that share an inversion.
const GROUPS_MAX: usize = 16;

/// Peers that share an inversion.
const PEERS_MAX: usize = LANES * GROUPS_MAX;

/// More than the frames of a call take together.
const STACK_SIZE: usize = 32 << 10;

/// That the CPU has what the functions here are compiled for.
#[derive(Clone, Copy)]
pub(super) struct Ifma(());

impl Ifma {
    /// `None` when the CPU, or the operating system for it, lacks AVX-512 IFMA.
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma");
        has.then_some(Self(()))
    }

    /// X25519 of `secret` with each of `peers`, as many as `shared` has.
    #[expect(clippy::unused_self, reason = "the value proves what the CPU has")]
    pub(super) fn many(
        self,
        secret: &[u8; 32],
        peers: &[X25519PublicKey],
        shared: &mut [SharedSecret],
    ) {
        for (peers, shared) in peers.chunks(PEERS_MAX).zip(shared.chunks_mut(PEERS_MAX)) {
            // SAFETY: `many` asks for the features avx512f and avx512ifma and for nothing else; a
            // value of this type is made by `detect` alone, which has found both.
            unsafe { many(secret, peers, shared) };
        }
        zeroize_stack::<STACK_SIZE>();
    }
}

/// What depends on the secret and does not stay in registers: X and Z of each group, and the
/// products that one inversion serves all of them by. Zeroized when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Work {
    x: [Element; GROUPS_MAX],
    z: [Element; GROUPS_MAX],
    /// Of z, up to and with that of a group.
    products: [Element; GROUPS_MAX],
    /// The lanes whose z is zero; a one stands in for it.
    zero: [Mask; GROUPS_MAX],
    inverse: Element,
    lanes: [[u64; LANES]; 4],
}

impl Zeroize for Element {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512ifma")]
fn many(secret: &[u8; 32], peers: &[X25519PublicKey], shared: &mut [SharedSecret]) {
    let none = Element(words(NONE));
    let mut work = Work {
        x: [none; GROUPS_MAX],
        z: [none; GROUPS_MAX],
        products: [none; GROUPS_MAX],
        zero: [0; GROUPS_MAX],
        inverse: none,
        lanes: [[0; LANES]; 4],
    };
    let one = Element(words([1, 0, 0, 0, 0]));
    let mut product_so_far = one;
    let count = peers.len().min(shared.len()).min(PEERS_MAX).div_ceil(LANES);
    for (group, peers) in peers.chunks(LANES).take(count).enumerate() {
        let (x, z) = ladder(secret, &load(peers));
        let zero = is_zero_element(&canonical(&z));
        work.x[group] = x;
        work.z[group] = select_element(zero, &z, &one);
        work.zero[group] = zero;
        product_so_far = product(&product_so_far, &work.z[group]);
        work.products[group] = product_so_far;
    }
    work.inverse = inverse(&product_so_far);
    for (group, shared) in shared.chunks_mut(LANES).take(count).enumerate().rev() {
        let before = group
            .checked_sub(1)
            .map_or(one, |index| work.products[index]);
        let inverse_of_z = product(&work.inverse, &before);
        work.inverse = product(&work.inverse, &work.z[group]);
        let x = canonical(&product(&work.x[group], &inverse_of_z));
        let x = select_element(work.zero[group], &x, &none);
        store(&x, &mut work.lanes, shared);
    }
}

/// X and Z of the multiple of each peer's point.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512ifma")]
fn ladder(secret: &[u8; 32], peers: &Element) -> (Element, Element) {
    let multiples = multiples(peers);
    let mut ladder = start(peers);
    // Of bit 254, which start has worked through.
    let mut last = 1;
    for index in (3..254).rev() {
        let bit = secret[index / 8] >> (index % 8) & 1;
        let mask = black_box((bit ^ last).wrapping_neg());
        last = bit;
        ladder = step(&ladder, mask, &multiples);
    }
    let mask = black_box(last.wrapping_neg());
    finish(&select_point(mask, &ladder.doubled, &ladder.added))
}

/// To the power of p - 2: eleven products and 254 squares.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512ifma")]
fn inverse(base: &Element) -> Element {
    let two = squares(base, 1);
    let nine = product(&squares(&two, 2), base);
    let eleven = product(&nine, &two);
    // From here on, a name tells n of 2^n - 1.
    let ones_5 = product(&squares(&eleven, 1), &nine);
    let ones_10 = product(&squares(&ones_5, 5), &ones_5);
    let ones_20 = product(&squares(&ones_10, 10), &ones_10);
    let ones_40 = product(&squares(&ones_20, 20), &ones_20);
    let ones_50 = product(&squares(&ones_40, 10), &ones_10);
    let ones_100 = product(&squares(&ones_50, 50), &ones_50);
    let ones_200 = product(&squares(&ones_100, 100), &ones_100);
    let ones_250 = product(&squares(&ones_200, 50), &ones_50);
    product(&squares(&ones_250, 5), &eleven)
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn squares(base: &Element, count: usize) -> Element {
    let mut element = *base;
    for _ in 0..count {
        element = carry(&square(NONE, &element));
    }
    element
}

/// The u of up to eight peers, a lane each. RFC 7748 has bit 255 ignored.
#[target_feature(enable = "avx512f,avx512ifma")]
fn load(peers: &[X25519PublicKey]) -> Element {
    let mut lanes = [[0; LANES]; 4];
    for (lane, peer) in peers.iter().enumerate() {
        for (words, bytes) in lanes.iter_mut().zip(peer.0.as_chunks().0) {
            words[lane] = i64::from_le_bytes(*bytes);
        }
    }
    let [zero, one, two, three] = lanes.map(|lanes| {
        let [zero, one, two, three, four, five, six, seven] = lanes;
        _mm512_set_epi64(seven, six, five, four, three, two, one, zero)
    });
    Element([
        low::<52>(zero),
        low::<52>(or(shr::<52>(zero), shl::<12>(one))),
        low::<52>(or(shr::<40>(one), shl::<24>(two))),
        low::<52>(or(shr::<28>(two), shl::<36>(three))),
        low::<47>(shr::<16>(three)),
    ])
}

/// What [`load`] reads, of what [`canonical`] gave.
#[target_feature(enable = "avx512f,avx512ifma")]
fn store(canonical: &Element, lanes: &mut [[u64; LANES]; 4], shared: &mut [SharedSecret]) {
    let [zero, one, two, three, four] = canonical.0;
    *lanes = [
        or(zero, shl::<52>(one)),
        or(shr::<12>(one), shl::<40>(two)),
        or(shr::<24>(two), shl::<28>(three)),
        or(shr::<36>(three), shl::<16>(four)),
    ]
    .map(|word| lanes_of(word));
    for (lane, shared) in shared.iter_mut().enumerate() {
        for (bytes, words) in shared.0.as_chunks_mut().0.iter_mut().zip(lanes.iter()) {
            *bytes = words[lane].to_le_bytes();
        }
    }
}

formulas! {
    #[target_feature(enable = "avx512f,avx512ifma")]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn word(value: u64) -> Word {
    _mm512_set1_epi64(value.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(left: Word, right: Word) -> Word {
    _mm512_add_epi64(left, right)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn sub(left: Word, right: Word) -> Word {
    _mm512_sub_epi64(left, right)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn and(left: Word, right: Word) -> Word {
    _mm512_and_epi64(left, right)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn or(left: Word, right: Word) -> Word {
    _mm512_or_epi64(left, right)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn shr<const BITS: u32>(value: Word) -> Word {
    _mm512_srli_epi64::<BITS>(value)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn shl<const BITS: u32>(value: Word) -> Word {
    _mm512_slli_epi64::<BITS>(value)
}

/// The lower `BITS` bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn low<const BITS: u32>(value: Word) -> Word {
    and(value, word((1 << BITS) - 1))
}

/// `sum` and the lower 52 bits of the product of the lower 52 bits of both factors.
#[inline]
#[target_feature(enable = "avx512ifma")]
fn madd_lo(sum: Word, left: Word, right: Word) -> Word {
    _mm512_madd52lo_epu64(sum, left, right)
}

/// The same with the product's upper 52 bits.
#[inline]
#[target_feature(enable = "avx512ifma")]
fn madd_hi(sum: Word, left: Word, right: Word) -> Word {
    _mm512_madd52hi_epu64(sum, left, right)
}

#[inline]
#[target_feature(enable = "avx512ifma")]
fn madd_small(sum: Word, left: Word, right: Word) -> Word {
    madd_lo(sum, left, right)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn select(mask: Mask, clear: Word, set: Word) -> Word {
    _mm512_mask_blend_epi64(mask, clear, set)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn is_zero(value: Word) -> Mask {
    _mm512_cmpeq_epi64_mask(value, _mm512_setzero_si512())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn lanes_of(value: Word) -> [u64; LANES] {
    let low = _mm512_extracti64x4_epi64::<0>(value);
    let high = _mm512_extracti64x4_epi64::<1>(value);
    [
        _mm256_extract_epi64::<0>(low),
        _mm256_extract_epi64::<1>(low),
        _mm256_extract_epi64::<2>(low),
        _mm256_extract_epi64::<3>(low),
        _mm256_extract_epi64::<0>(high),
        _mm256_extract_epi64::<1>(high),
        _mm256_extract_epi64::<2>(high),
        _mm256_extract_epi64::<3>(high),
    ]
    .map(i64::cast_unsigned)
}
