//! A target that must crash: `cargo xtask fuzz` fails when it does not, because then nothing would be
//! noticed in the others either.
//!
//! Chance alone does not find the planted bug, one input in 2^88: it takes feedback from coverage for
//! the letters, from comparisons for the number, and the dictionary for the word.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((letters, rest)) = input.split_first_chunk::<2>() else { return };
    let Some((number, word)) = rest.split_first_chunk::<4>() else { return };
    if letters[0] == b'c' {
        if letters[1] == b'e' {
            if u32::from_le_bytes(*number) == 0xB1AD_CA4E {
                assert_ne!(word.get(..5), Some(&b"canta"[..]), "the canary sings");
            }
        }
    }
});
