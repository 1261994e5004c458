//! AES over many blocks at once, as wide as the processor does it.

use aes::cipher::array::Array;
use aes::cipher::consts::U16;
use aes::cipher::typenum::Unsigned as _;
use aes::cipher::{
    BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser,
};
use zeroize::Zeroize as _;

pub(super) const BLOCK_SIZE: usize = 16;

/// Blocks of one call: as many as the AVX-512 backend of `aes` takes at once.
const BLOCK_COUNT: usize = 64;

/// Longest key stream of one call.
pub(super) const KEY_STREAM_SIZE_MAX: usize = BLOCK_COUNT * BLOCK_SIZE;

type Block = Array<u8, U16>;

/// Room for blocks that came of a secret; erased when dropped.
pub(super) struct Blocks([Block; BLOCK_COUNT]);

impl Drop for Blocks {
    fn drop(&mut self) {
        Array::slice_as_flattened_mut(&mut self.0).zeroize();
    }
}

impl Blocks {
    pub(super) fn zero() -> Self {
        Self([Block::default(); BLOCK_COUNT])
    }

    /// The first block, and the bytes of all others.
    pub(super) fn split_first_mut(&mut self) -> (&mut [u8; BLOCK_SIZE], &mut [u8]) {
        let [first, rest @ ..] = &mut self.0;
        (&mut first.0, Array::slice_as_flattened_mut(rest))
    }

    /// The bytes of all.
    pub(super) fn bytes(&self) -> &[u8] {
        Array::slice_as_flattened(&self.0)
    }

    /// The bytes of all, to be written.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        Array::slice_as_flattened_mut(&mut self.0)
    }

    /// The first so many.
    pub(super) fn first(&self, count: usize) -> &[Block] {
        self.0.get(..count).unwrap_or(&self.0)
    }
}

/// XORs `text` with the encryptions of the blocks that `counter` gives for 0, 1 and so on.
pub(super) fn key_stream(
    cipher: &impl BlockCipherEncrypt<BlockSize = U16>,
    text: &mut [u8],
    counter: impl Fn(u128) -> [u8; BLOCK_SIZE],
) {
    assert!(text.len() <= KEY_STREAM_SIZE_MAX, "one call is enough");
    let mut stream = Blocks::zero();
    for (block, index) in stream.0.iter_mut().zip(0..) {
        block.0 = counter(index);
    }
    cipher.encrypt_with_backend(Wide {
        count: text.len().div_ceil(BLOCK_SIZE),
        blocks: &mut stream.0,
    });
    text.iter_mut()
        .zip(stream.bytes())
        .for_each(|(byte, stream)| *byte ^= stream);
}

/// Encrypts at least `count` blocks. The number is rounded up to the width of the backend: `aes` takes what
/// is less than a whole width one block at a time, which costs more than the blocks that nobody needs.
struct Wide<'a> {
    blocks: &'a mut [Block; BLOCK_COUNT],
    count: usize,
}

impl BlockSizeUser for Wide<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Wide<'_> {
    #[inline]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let width = B::ParBlocksSize::USIZE;
        let (chunks, tail) = Array::slice_as_chunks_mut(self.blocks.as_mut_slice());
        let in_chunks = chunks.len() * width;
        for chunk in chunks.iter_mut().take(self.count.div_ceil(width)) {
            backend.encrypt_par_blocks_inplace(chunk);
        }
        for block in tail.iter_mut().take(self.count.saturating_sub(in_chunks)) {
            backend.encrypt_block_inplace(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use aes::cipher::KeyInit as _;

    use super::*;

    #[test]
    fn every_length_is_as_one_block_at_a_time() {
        let cipher = aes::Aes256Enc::new(&[5; 32].into());
        let mut expected = Vec::new();
        for index in 0..64_u128 {
            let mut block = Array((index * 3).to_le_bytes());
            cipher.encrypt_block(&mut block);
            expected.extend_from_slice(&block.0);
        }
        for size in 0..=KEY_STREAM_SIZE_MAX {
            let mut text = vec![0; size];
            key_stream(&cipher, &mut text, |index| (index * 3).to_le_bytes());
            assert_eq!(text, expected[..size]);
        }
    }
}
