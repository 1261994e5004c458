//! The header's tag and key stream.

use aes::Aes256Enc;
use aes::cipher::KeyInit as _;
use cepa_wire::packet::geometry::{HEADER_STREAM_SIZE, HOP_TAG_SIZE, SEALED_SIZE, split};
use polyval::Polyval;
use polyval::universal_hash::UniversalHash as _;

use super::blocks::{BLOCK_SIZE, Blocks, key_stream};

/// The one-time tag: POLYVAL (RFC 8452) under the first half of the key of the sealed part, filled up with
/// zeros to whole blocks, added to the second half. All sealed parts are of one length, so it needs no
/// block for it. Whoever does not know the key forges one with a chance of 20 in 2^128.
pub(super) fn tag(key: &[u8; 32], sealed: &[u8; SEALED_SIZE]) -> [u8; HOP_TAG_SIZE] {
    let (hash_key, mask) = split::<16, 16, 32>(key);
    let mut blocks = Blocks::zero();
    let filled = blocks.bytes_mut().iter_mut().zip(sealed);
    filled.for_each(|(to, from)| *to = *from);
    let mut hash = Polyval::new(&(*hash_key).into());
    hash.update(blocks.first(SEALED_SIZE.div_ceil(BLOCK_SIZE)));
    let hash = u128::from_le_bytes(hash.finalize().0);
    (hash ^ u128::from_le_bytes(*mask)).to_le_bytes()
}

/// XORs AES-256-CTR (NIST SP 800-38A) from a zero counter block on.
pub(super) fn apply_stream(key: &[u8; 32], text: &mut [u8; HEADER_STREAM_SIZE]) {
    let cipher = Aes256Enc::new(key.into());
    key_stream(&cipher, text, u128::to_be_bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_aes_ctr() {
        // The second block of "The Galois/Counter Mode of Operation", test case 13, is E(0..02); its first
        // is E(0..01), known from the tag of no text, and E(0) is GHASH's key.
        let mut text = [0; HEADER_STREAM_SIZE];
        apply_stream(&[0; 32], &mut text);
        let known = [
            "dc95c078a2408989ad48a21492842087",
            "530f8afbc74536b9a963b4f1c4cb738b",
            "cea7403d4d606b6e074ec5d3baf39d18",
        ];
        assert_eq!(hex::encode(&text[..48]), known.concat());
        apply_stream(&[0; 32], &mut text);
        assert_eq!(text, [0; HEADER_STREAM_SIZE]);
    }

    #[test]
    fn the_tag_is_masked_polyval() {
        // POLYVAL of RFC 8452, appendix A, has two blocks; ours of zeros is zero, so the mask is seen.
        let key = core::array::from_fn(|index| index.to_le_bytes()[0]);
        assert_eq!(tag(&key, &[0; SEALED_SIZE]), key[16..]);
        let mut sealed = [0; SEALED_SIZE];
        let blocks = "4f4f95668c83dfb6401762bb2d01a262d1a24ddd2721d006bbe45f20d3c9f362";
        // The last two whole blocks of twenty would be here, were the last not padded: 288 + 24.
        hex::decode_to_slice(blocks, &mut sealed[272..304]).unwrap();
        let mut one = [0; 32];
        hex::decode_to_slice("25629347589242761d31f826ba4b757b", &mut one[..16]).unwrap();
        let tagged = tag(&one, &sealed);
        // One zero block more: the hash of the RFC, times the key once more.
        let mut expected = Polyval::new(&<[u8; 16]>::try_from(&one[..16]).unwrap().into());
        let hash = hex::decode("f7a3b47b846119fae5b7866cf5e5b77e").unwrap();
        expected.update(&[<[u8; 16]>::try_from(&hash[..]).unwrap().into()]);
        assert_eq!(tagged, expected.finalize().0);
    }
}
