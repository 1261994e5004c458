//! Arbitrary bytes as the blob of `sn.data`.
#![no_main]

use bytes::Bytes;
use cepa_wire::transfer::{encode, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(messages) = parse(&Bytes::copy_from_slice(input)) else { return };
    assert_eq!(parse(&Bytes::from(encode(&messages))), Ok(messages));
});
