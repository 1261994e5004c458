//! HCTR2 with AES-256 ("Length-preserving encryption with HCTR2", Crowley, Huckleberry and Biggers,
//! 2021, eprint 2021/1441), with an empty tweak: a permutation of the whole payload, of which every
//! output bit depends on every input bit.
//!
//! A key serves one payload, so there is nothing for a tweak to tell apart.

use aes::Aes256;
use aes::cipher::array::Array;
use aes::cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
use cepa_wire::packet::geometry::PAYLOAD_SIZE;
use polyval::Polyval;
use polyval::universal_hash::UniversalHash as _;
use zeroize::Zeroize as _;

use super::blocks::{BLOCK_SIZE, Blocks, KEY_STREAM_SIZE_MAX, key_stream};

/// Encrypts a payload under a key that is used for nothing else.
pub(super) fn encrypt(key: &[u8; 32], payload: &mut [u8; PAYLOAD_SIZE]) {
    Hctr2::new(key).encrypt(payload);
}

/// What [`encrypt`] is undone by.
pub(super) fn decrypt(key: &[u8; 32], payload: &mut [u8; PAYLOAD_SIZE]) {
    Hctr2::new(key).decrypt(payload);
}

const _: () = assert!(PAYLOAD_SIZE <= BLOCK_SIZE + KEY_STREAM_SIZE_MAX);

struct Hctr2 {
    cipher: Aes256,
    /// POLYVAL under `E(0)`.
    hash: Polyval,
    /// `E(1)`, which the paper calls L.
    mask: u128,
}

impl Drop for Hctr2 {
    fn drop(&mut self) {
        self.mask.zeroize();
    }
}

impl Hctr2 {
    fn new(key: &[u8; 32]) -> Self {
        let cipher = Aes256::new(key.into());
        let mut derived = [0_u128, 1].map(|number| Array(number.to_le_bytes()));
        cipher.encrypt_blocks(&mut derived);
        let [hash_key, mask] = &mut derived;
        let hctr2 = Self {
            cipher,
            hash: Polyval::new(hash_key),
            mask: u128::from_le_bytes(mask.0),
        };
        hash_key.0.zeroize();
        mask.0.zeroize();
        hctr2
    }

    /// Figure 1 of the paper. Of what is shorter than a block nothing becomes, and nothing here is.
    fn encrypt(&self, message: &mut [u8]) {
        let Some((first, rest)) = message.split_first_chunk_mut() else {
            return;
        };
        let mm = u128::from_le_bytes(*first) ^ self.hash(rest); // MM = M ^ H(T, N)
        let mut block = Array(mm.to_le_bytes());
        self.cipher.encrypt_block(&mut block);
        let uu = u128::from_le_bytes(block.0); // UU = E(MM)
        self.xctr(mm ^ uu ^ self.mask, rest); // V = N ^ XCTR(S), S = MM ^ UU ^ L
        *first = (uu ^ self.hash(rest)).to_le_bytes(); // U = UU ^ H(T, V)
    }

    fn decrypt(&self, message: &mut [u8]) {
        let Some((first, rest)) = message.split_first_chunk_mut() else {
            return;
        };
        let uu = u128::from_le_bytes(*first) ^ self.hash(rest); // UU = U ^ H(T, V)
        let mut block = Array(uu.to_le_bytes());
        self.cipher.decrypt_block(&mut block);
        let mm = u128::from_le_bytes(block.0); // MM = D(UU)
        self.xctr(mm ^ uu ^ self.mask, rest); // N = V ^ XCTR(S), S = MM ^ UU ^ L
        *first = (mm ^ self.hash(rest)).to_le_bytes(); // M = MM ^ H(T, N)
    }

    /// The hash of the empty tweak and `text`, whose first block tells the tweak's length and whether the
    /// text is padded.
    fn hash(&self, text: &[u8]) -> u128 {
        const TWEAK_BITS: u128 = 0;
        let whole = text.len().is_multiple_of(BLOCK_SIZE);
        let first = 2 * TWEAK_BITS + if whole { 2 } else { 3 };
        let mut blocks = Blocks::zero();
        let (length, padded) = blocks.split_first_mut();
        *length = first.to_le_bytes();
        padded
            .iter_mut()
            .zip(text)
            .for_each(|(to, from)| *to = *from);
        if !whole && let Some(end) = padded.get_mut(text.len()) {
            *end = 1;
        }
        let mut hash = self.hash.clone();
        hash.update(blocks.first(1 + text.len().div_ceil(BLOCK_SIZE)));
        u128::from_le_bytes(hash.finalize().0)
    }

    /// Key stream block i is `E(seed ^ i)`, from 1 on.
    fn xctr(&self, seed: u128, text: &mut [u8]) {
        key_stream(&self.cipher, text, |index| {
            (seed ^ (index + 1)).to_le_bytes()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn official_vectors() {
        let lines = include_str!("hctr2_vectors.txt").lines();
        let mut count = 0;
        for line in lines.filter(|line| !line.starts_with('#')) {
            let mut fields = line.split('|').map(|field| hex::decode(field).unwrap());
            let mut field = || fields.next().unwrap();
            let (key, plaintext, ciphertext) = (field(), field(), field());
            let cipher = Hctr2::new(&key.try_into().unwrap());
            let mut text = plaintext.clone();
            cipher.encrypt(&mut text);
            assert_eq!(text, ciphertext);
            cipher.decrypt(&mut text);
            assert_eq!(text, plaintext);
            count += 1;
        }
        assert_eq!(count, 14);
    }

    #[test]
    fn a_bit_anywhere_changes_everything() {
        let text = [7; PAYLOAD_SIZE];
        let mut sealed = text;
        encrypt(&[3; 32], &mut sealed);
        for at in 0..PAYLOAD_SIZE {
            let mut changed = sealed;
            changed[at] ^= 0x10;
            decrypt(&[3; 32], &mut changed);
            let same = changed.iter().zip(text).filter(|(a, b)| **a == *b).count();
            assert!(same < 30, "{same} bytes survive");
        }
        decrypt(&[3; 32], &mut sealed);
        assert_eq!(sealed, text);
    }
}
