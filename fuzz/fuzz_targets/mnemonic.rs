//! Arbitrary text as 13 words, and arbitrary entropy as words and back.
#![no_main]

use cepa_crypto::mnemonic::{decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(entropy) = decode(&String::from_utf8_lossy(input)) {
        assert_eq!(decode(&encode(&entropy)), Ok(entropy));
    }
    if let Some(entropy) = input.first_chunk::<16>() {
        assert_eq!(*decode(&encode(entropy)).expect("what was written is read"), *entropy);
    }
});
