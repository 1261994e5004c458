//! X25519 as RFC 7748 writes it, slowly: numbers mod p are kept below p in four words of 64 bits.

const P: [u64; 4] = [
    0xffff_ffff_ffff_ffed,
    0xffff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
    0x7fff_ffff_ffff_ffff,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number([u64; 4]);

impl Number {
    pub(super) fn small(value: u64) -> Self {
        Self([value, 0, 0, 0])
    }

    /// Any 256 bits.
    pub(super) fn from_words(words: [u64; 4]) -> Self {
        let mut number = Self(words);
        while number.0.iter().rev().ge(P.iter().rev()) {
            number.0 = subtract(number.0, P);
        }
        number
    }

    /// As `decodeUCoordinate`: bit 255 is ignored.
    fn decode(bytes: &[u8; 32]) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        words[3] &= u64::MAX >> 1;
        Self::from_words(words)
    }

    pub(super) fn encode(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(self.0) {
            *bytes = word.to_le_bytes();
        }
        bytes
    }

    pub(super) fn plus(self, other: Self) -> Self {
        let mut sum = [0; 4];
        let mut carry = 0;
        for ((sum, left), right) in sum.iter_mut().zip(self.0).zip(other.0) {
            carry += u128::from(left) + u128::from(right);
            *sum = low(carry);
            carry >>= 64;
        }
        assert_eq!(carry, 0, "both are below 2^255");
        Self::from_words(sum)
    }

    pub(super) fn minus(self, other: Self) -> Self {
        self.plus(Self(subtract(P, other.0)))
    }

    pub(super) fn times(self, other: Self) -> Self {
        let mut product = [0; 8];
        for (i, left) in self.0.into_iter().enumerate() {
            let mut carry = 0;
            for (j, right) in other.0.into_iter().enumerate() {
                carry += u128::from(product[i + j]) + u128::from(left) * u128::from(right);
                product[i + j] = low(carry);
                carry >>= 64;
            }
            product[i + 4] = low(carry);
        }
        // 2^256 is 38 mod p, twice: the first time leaves up to 38 of them.
        let mut words = [product[0], product[1], product[2], product[3]];
        let mut above = [product[4], product[5], product[6], product[7]];
        while above != [0; 4] {
            let mut carry = 0;
            for (word, above) in words.iter_mut().zip(above) {
                carry += u128::from(*word) + 38 * u128::from(above);
                *word = low(carry);
                carry >>= 64;
            }
            above = [low(carry), 0, 0, 0];
        }
        Self::from_words(words)
    }

    fn squared(self) -> Self {
        self.times(self)
    }

    /// To the power of p - 2.
    pub(super) fn inverted(self) -> Self {
        let exponent = subtract(P, [2, 0, 0, 0]);
        let mut power = Self::small(1);
        for bit in (0..255).rev() {
            power = power.squared();
            if exponent[bit / 64] >> (bit % 64) & 1 == 1 {
                power = power.times(self);
            }
        }
        power
    }
}

fn low(word: u128) -> u64 {
    u64::try_from(word & u128::from(u64::MAX)).unwrap()
}

fn subtract(left: [u64; 4], right: [u64; 4]) -> [u64; 4] {
    let mut difference = [0; 4];
    let mut borrow = false;
    for ((difference, left), right) in difference.iter_mut().zip(left).zip(right) {
        let (word, first) = left.overflowing_sub(right);
        let (word, second) = word.overflowing_sub(u64::from(borrow));
        *difference = word;
        borrow = first || second;
    }
    assert!(!borrow);
    difference
}

/// Section 5, with its names.
#[expect(clippy::many_single_char_names, reason = "those of the page")]
pub(super) fn x25519(secret: &[u8; 32], u: &[u8; 32]) -> [u8; 32] {
    let mut k = *secret;
    k[0] &= 0xf8;
    k[31] &= 0x7f;
    k[31] |= 0x40;
    let a24 = Number::small(121_665);
    let x_1 = Number::decode(u);
    let (mut x_2, mut z_2) = (Number::small(1), Number::small(0));
    let (mut x_3, mut z_3) = (x_1, Number::small(1));
    let mut swap = 0;
    for t in (0..255).rev() {
        let k_t = k[t / 8] >> (t % 8) & 1;
        if swap != k_t {
            (x_2, z_2, x_3, z_3) = (x_3, z_3, x_2, z_2);
        }
        swap = k_t;
        let a = x_2.plus(z_2);
        let aa = a.squared();
        let b = x_2.minus(z_2);
        let bb = b.squared();
        let e = aa.minus(bb);
        let c = x_3.plus(z_3);
        let d = x_3.minus(z_3);
        let da = d.times(a);
        let cb = c.times(b);
        x_3 = da.plus(cb).squared();
        z_3 = x_1.times(da.minus(cb).squared());
        x_2 = aa.times(bb);
        z_2 = e.times(aa.plus(a24.times(e)));
    }
    if swap == 1 {
        (x_2, z_2) = (x_3, z_3);
    }
    x_2.times(z_2.inverted()).encode()
}
